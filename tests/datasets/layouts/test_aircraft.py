from pathlib import Path

import pytest
from miniatures import aircraft, edit, refusal

from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return aircraft.write(tmp_path)


def test_a_row_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    row = dataset.paths.index("images/0281223.jpg")
    assert dataset.label_names()[row] == "Challenger 600"
    assert dataset.splits[row] == "train"
    assert dataset.boxes is not None and dataset.boxes[row].tolist() == [0, 3, 60, 42]
    assert dataset.splits[dataset.paths.index("images/1021965.jpg")] == "val"
    assert "its official splits are used: train, val, test" in dataset.notes


def test_the_published_archive_is_read_from_its_top_and_from_above_it(root: Path) -> None:
    for folder in (root.parent, root.parent.parent):
        assert read_dataset(folder).root == root


def test_trainval_alone_is_train(root: Path) -> None:
    whole = read_dataset(root)
    for level in ("variant", "family", "manufacturer"):
        for split in ("train", "val"):
            (root / f"images_{level}_{split}.txt").unlink()
    dataset = read_dataset(root)
    assert dataset.paths == whole.paths and (dataset.labels == whole.labels).all()
    assert [len(dataset.rows(split)) for split in ("train", "val", "test")] == [12, 0, 4]
    assert [level.of_classes() for level in dataset.levels] == [level.of_classes() for level in whole.levels]
    assert "its official splits are used: trainval, test" in dataset.notes


def test_train_and_val_need_no_trainval(root: Path) -> None:
    for file in root.glob("images_*trainval.txt"):
        file.unlink()
    assert len(read_dataset(root).rows("val")) == 4
    (root / "images_variant_val.txt").unlink()
    assert "images_variant_val.txt: it cannot be read" in refusal(root)


def test_a_corner_at_zero_is_the_edge(root: Path) -> None:
    edit(root / "images_box.txt", "0281223 1 4 60 42", "0281223 0 0 60 42")
    dataset = read_dataset(root)
    assert dataset.boxes is not None
    assert dataset.boxes[dataset.paths.index("images/0281223.jpg")].tolist() == [0, 0, 60, 42]


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("images_box.txt", "0281223 1 4 60 42\n", "", "images_variant_train.txt, line 3: image 0281223 has no box in images_box.txt"),
        ("images_box.txt", "0281223 1 4", "0281223 x 4", "images_box.txt, line 3: the box 'x 4 60 42' should be four numbers"),
        (
            "images_box.txt",
            "0281223 1 4 60 42",
            "0281223 61 4 60 42",
            "images_box.txt, line 3: the box from (60, 3) to (60, 42) is empty",
        ),
        ("variants.txt", "F/A-18", "F-18", "images_variant_test.txt, line 4: there is no variant 'F/A-18' in variants.txt"),
        ("variants.txt", "F/A-18", "F/A-18\n707-320", "variants.txt, line 5: '707-320' is also in line 1"),
        ("families.txt", "Boeing 737\n", "", "images_family_train.txt, line 2: there is no family 'Boeing 737' in families.txt"),
        (
            "images_family_test.txt",
            "Boeing 737",
            "F/A-18",
            "images_family_test.txt, line 2: the family of 737-200 is F/A-18 here, and Boeing 737 in",
        ),
        (
            "images_manufacturer_val.txt",
            "Canadair",
            "Boeing",
            "line 3: the manufacturer of Challenger 600 is Boeing here, and Canadair in images_manufacturer_train.txt, line 3",
        ),
        (
            "variants.txt",
            "F/A-18",
            "F/A-18\nYak-42",
            "variants.txt, line 5: no image in images_family_train|val|test.txt gives Yak-42 a family",
        ),
        ("images_variant_val.txt", "1021965 ", "../1021965 ", "images_variant_val.txt, line 1: the path '../1021965.jpg' leads out of"),
        (
            "images_variant_val.txt",
            "1021965 ",
            "0034309 ",
            "images_variant_val.txt, line 1: the image 'images/0034309.jpg' is listed twice",
        ),
    ],
)
def test_what_is_wrong_is_named(root: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(root / file, old, new)
    assert problem in refusal(root)
