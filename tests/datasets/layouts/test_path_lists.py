from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import edit, jpeg, path_lists, put, refusal

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return path_lists.write(tmp_path)


def test_rows_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    row = dataset.paths.index("images/1/photo 2.jpg")
    assert (dataset.label_names()[row], dataset.splits[row]) == ("Cedar Waxwing", "val")
    assert dataset.notes[1] == "labels are named by classes.txt"


def written(root: Path, separator: str, label: str, folder: str = "", listed: str = "", file: str = "train.txt") -> Path:
    lines = []
    for number in range(4):
        put(root / folder / f"{number}.jpg", jpeg(number))
        lines.append(f"{listed}{number}.jpg{separator}{label.format(number % 2)}\n")
    return put(root / file, "".join(lines))


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", "   ", ", "])
@pytest.mark.parametrize("label", ["{}", "class_{}"])
def test_separators_and_labels(tmp_path: Path, separator: str, label: str) -> None:
    written(tmp_path, separator, label)
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == tuple(label.format(number).replace("_", " ") for number in range(2))
    assert dataset.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("folder", "listed", "file"),
    [
        ("train", "", "train.txt"),
        ("train", "", "meta/train.txt"),
        ("images", "", "splits/train.txt"),
        ("images/train", "", "train.txt"),
        ("deep/er/x", "x/", "train_list.txt"),
        (".", "./", "ImageNet_LT_train.txt"),
        ("photos", "photos/", "labels.txt"),
    ],
)
def test_where_images_and_lists_are(tmp_path: Path, folder: str, listed: str, file: str) -> None:
    put(tmp_path / "README.txt", "words about images.jpg and more\n")
    written(tmp_path, " ", "{}", folder, listed, file)
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "path-lists" and all(dataset.images.read(path) for path in dataset.paths)
    assert len(read_dataset(tmp_path / file).rows("train")) == 4 or "/" in file


def test_a_test_without_labels_is_unlabelled(tmp_path: Path) -> None:
    written(tmp_path, " ", "{}")
    put(tmp_path / "test.txt", "8.jpg\n9.jpg\n")
    assert read_dataset(tmp_path).splits.tolist() == [*["train"] * 4, *["unlabelled"] * 2]


@pytest.mark.parametrize("names", ["owl\nwren\n", "0 owl\n1 wren\n", "owl 0\nwren 1\n", "0: owl\n1: wren\n"])
def test_names_of_numbers(tmp_path: Path, names: str) -> None:
    written(tmp_path, " ", "{}")
    put(tmp_path / "classes.txt", names)
    assert read_dataset(tmp_path).class_names == ("owl", "wren")


def test_words_that_say_that_there_is_no_label(tmp_path: Path) -> None:
    put(tmp_path / "train.txt", "1.jpg a\n2.jpg nan\n3.jpg b\n4.jpg None\n")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("a", "b") and dataset.splits.tolist() == ["train", "unlabelled"] * 2
    assert "images that have no label and are unlabelled: 2; the first is in train.txt, line 2" in dataset.notes
    assert len(read_dataset(tmp_path, missing_labels="blank").class_names) == 4


def test_numbers_are_in_their_order(tmp_path: Path) -> None:
    put(tmp_path / "train.txt", "".join(f"{number}.jpg {number}\n" for number in range(12)))
    assert read_dataset(tmp_path).class_names == tuple(str(number) for number in range(12))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("images/0/photo 0.jpg 0", "../0.jpg 0", "train.txt, line 1: the path '../0.jpg' leads out"),
        ("images/0/photo 0.jpg 0", "images/0/photo 0.jpg 7", "train.txt, line 1: there is no class 7 in classes.txt"),
        ("images/2/photo 1.jpg 2", "images/2/photo 1.jpg", "train.txt, line 6: it has no label after 'images/2/photo 1.jpg'"),
        ("images/2/photo 1.jpg 2", "images/0/photo 0.jpg 2", "'images/0/photo 0.jpg' is listed twice"),
    ],
)
def test_what_is_wrong_is_named(root: Path, old: str, new: str, problem: str) -> None:
    edit(root / "train.txt", old, new)
    assert problem in refusal(root)


def test_texts_beside_class_folders_are_no_lists(tmp_path: Path) -> None:
    for name in ("Finch", "Wren"):
        put(tmp_path / name / "1.jpg", jpeg(1))
    put(tmp_path / "train.txt", "Finch/1.jpg\nWren/1.jpg\n")
    put(tmp_path / "notes.txt", "Finch 3\n")
    assert read_dataset(tmp_path).layout == "class-folders"
    with pytest.raises(InputError, match="holds no list of images"):
        read_dataset(tmp_path, "path-lists")
