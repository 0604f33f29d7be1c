from __future__ import annotations

import time
from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import columns, read_dataset


def put(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def touch(root: Path, *files: str) -> None:
    for file in files:
        put(root / file)


def rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    return list(zip(dataset.paths, dataset.label_names(), dataset.splits.tolist(), strict=True))


def refusal(data: Path, **settings: str) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, **settings)
    return str(caught.value)


def test_ids_without_a_folder_and_an_ending(tmp_path: Path) -> None:
    """As Kaggle's dog breeds are downloaded."""
    file = put(tmp_path / "labels.csv", "id,breed", "0a1,pug", "0b2,husky", "0c.3,pug")
    put(tmp_path / "sample_submission.csv", "id,husky,pug", "9a,0.5,0.5", "9b,0.5,0.5")
    touch(tmp_path, "train/0a1.jpg", "train/0b2.jpg", "train/0c.3.jpg", "test/9a.jpg", "test/9b.jpg", "test/notes.txt")
    for data in (tmp_path, file):
        dataset = read_dataset(data)
        assert rows(dataset) == [
            *[("test/9a.jpg", "", "unlabelled"), ("test/9b.jpg", "", "unlabelled")],
            *[("train/0a1.jpg", "pug", "train"), ("train/0b2.jpg", "husky", "train"), ("train/0c.3.jpg", "pug", "train")],
        ]
        assert "the images of labels.csv are looked up by name: in train/ with .jpg added" in dataset.notes
        assert "no table lists the 2 images in test/, so they are unlabelled" in dataset.notes
        assert dataset.images.read("train/0a1.jpg") == b""
        put(tmp_path / "answers.csv", "id,label", "9a,pug", "9b,pug")  # as `fieldmark submit` writes it


def test_names_without_a_folder_in_tables_of_each_split(tmp_path: Path) -> None:
    """The same numbers in train and test, and a sample submission whose labels are made up."""
    put(tmp_path / "train.csv", "image_id,label", "1.jpg,0", "2.jpg,1", "3.jpg,nan")
    put(tmp_path / "test.csv", "image_id,height", "1.jpg,5")
    put(tmp_path / "sample_submission.csv", "image_id,label", "1.jpg,0")
    touch(tmp_path, *(f"train_images/{number}.jpg" for number in (1, 2, 3)), "test_images/1.jpg", "test_images/2.jpg")
    dataset = read_dataset(tmp_path)
    assert rows(dataset) == [
        *[("test_images/1.jpg", "", "unlabelled"), ("train_images/1.jpg", "0", "train"), ("train_images/2.jpg", "1", "train")],
        ("train_images/3.jpg", "", "unlabelled"),
    ]
    assert rows(read_dataset(tmp_path, columns=columns.parse("path=image_id"))) == rows(dataset)


def test_images_in_several_folders(tmp_path: Path) -> None:
    put(tmp_path / "metadata.csv", "lesion_id,image_id,dx,age", "L0,I1,nv,3", "L0,I2,mel,4", "L1,I3,nv,5")
    touch(tmp_path, "part_1/I1.jpg", "part_2/more/I2.jpg", "part_2/I3.PNG", "part_1/I9.jpg")
    assert read_dataset(tmp_path).layout == "table"  # the folders could be classes, but the table names what is in them
    dataset = read_dataset(tmp_path / "metadata.csv")
    assert dataset.paths == ("part_1/I1.jpg", "part_2/I3.PNG", "part_2/more/I2.jpg")
    assert "in part_1/ with .jpg added, in part_2/more/ with .jpg added, in part_2/ with .PNG added" in dataset.notes[-1]


def test_folders_in_the_table_are_looked_for_below_others(tmp_path: Path) -> None:
    file = put(tmp_path / "drivers.csv", "subject,classname,img", "p1,c0,c0/1.jpg", "p2,c1,c1/1.jpg")
    touch(tmp_path, "imgs/train/c0/1.jpg", "imgs/train/c1/1.jpg", "imgs/test/1.jpg")
    dataset = read_dataset(file, columns=columns.parse("label=classname"))
    assert dataset.paths == ("imgs/train/c0/1.jpg", "imgs/train/c1/1.jpg")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"), "data.images=a or data.images=b"),
        (("a/1.jpg", "a/2.jpg", "a/1.png", "a/2.png"), "data.suffix=.jpg or data.suffix=.png"),
    ],
)
def test_ids_that_could_be_several_files_are_asked_for(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    file = put(tmp_path / "labels.csv", "id,breed", "1,pug", "2,husky")
    touch(tmp_path, *files)
    message = refusal(file)
    assert "labels.csv: the image '1' could be any of 2 files: " in message and f"Say which: {said}" in message
    key, _, value = said.partition(" ")[0].removeprefix("data.").partition("=")
    assert read_dataset(file, **{key: value}).paths == ("a/1.jpg", "a/2.jpg")


def test_the_folder_and_the_suffix_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "sets/labels.csv", "id,breed", "1,pug", "2,husky", "../../x/3,pug")
    touch(tmp_path, *(f"{folder}/{number}{end}" for folder in ("sets/a", "out") for number in (1, 2, 3) for end in (".jpg", "_s.jpg")))
    for images in ("a", "./a", str(tmp_path / "sets/a")):
        assert read_dataset(file, images=images, suffix="_s.jpg").paths == ("a/1_s.jpg", "a/2_s.jpg", "a/3_s.jpg")
    assert read_dataset(file, images="a", suffix="jpg").paths == ("a/1.jpg", "a/2.jpg", "a/3.jpg")
    monkeypatch.chdir(tmp_path)
    for images in ("../out", "out", str(tmp_path / "out")):
        dataset = read_dataset(file, images=images)
        assert (dataset.root.resolve(), dataset.paths) == (tmp_path / "out", ("1.jpg", "2.jpg", "3.jpg"))
    assert "there is no folder images; " in refusal(file, images="images") and "sets holds a" in refusal(file, images="images")
    assert "labels.csv: none of its images is in" in refusal(file, images="a", suffix=".png") and "'.png' added" in refusal(
        file, suffix="png"
    )


def test_paths_of_another_machine_need_the_folder(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "path,label", "C:\\data\\1.jpg,a", "/home/ann/data/2.jpg,b")
    touch(tmp_path, "images/1.jpg", "images/2.jpg")
    assert "leads out of the data's folder" in refusal(file)
    assert read_dataset(file, images="images").paths == ("images/1.jpg", "images/2.jpg")


def test_paths_that_are_there_are_taken_as_they_are(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", "path,label", "a/1.jpg,x", "2.jpg,y")
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "test/c/3.jpg")
    dataset = read_dataset(tmp_path / "t.csv")
    assert rows(dataset) == [("2.jpg", "y", "train"), ("a/1.jpg", "x", "train"), ("test/c/3.jpg", "", "unlabelled")]


def test_images_that_are_not_there(tmp_path: Path) -> None:
    file = put(tmp_path / "labels.csv", "id,breed", "1,pug", "2,husky", "../3,pug")
    touch(tmp_path, "train/1.jpg")
    assert "the path '../3' leads out" in refusal(file)
    put(file, "id,breed", "1,pug", "2,husky")
    dataset = read_dataset(file)
    assert dataset.paths == ("train/1.jpg", "train/2.jpg") and dataset.notes[-1].endswith("with .jpg added; 1 is not there")
    (tmp_path / "train/1.jpg").unlink()
    dataset = read_dataset(file)
    assert dataset.paths == ("1", "2") and "none of the images of labels.csv is in" in dataset.notes[-1]


def test_a_test_that_is_labelled_or_listed_is_not_unlabelled(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "path,label,split", "train/1.jpg,a,train", "train/2.jpg,b,train", "test/3.jpg,b,test")
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg", "test_2/5.jpg")
    assert len(read_dataset(file)) == 3
    put(file, "path,label", "train/1.jpg,a", "train/2.jpg,b")
    assert len(read_dataset(file)) == 5
    put(file, "path,label", "train/1.jpg,a", "train/2.jpg,b", "test/3.jpg,b")
    touch(tmp_path, "testing/b/6.jpg")
    assert read_dataset(file).paths == ("test/3.jpg", "test_2/5.jpg", "train/1.jpg", "train/2.jpg")


def test_a_list_of_class_names_beside_class_folders_is_no_table_of_images(tmp_path: Path) -> None:
    put(tmp_path / "classes.csv", "id,label", "1,Finch", "2,Wren")
    touch(tmp_path, *(f"{name}/{number}.jpg" for name in ("Finch", "Wren") for number in (1, 2)))
    assert read_dataset(tmp_path).layout == "class-folders"


def test_a_hundred_thousand_ids_take_seconds(tmp_path: Path) -> None:
    count = 100_000
    (tmp_path / "train").mkdir()
    put(tmp_path / "train/0.jpg")
    for number in range(1, count // 50):
        (tmp_path / f"train/{number}.jpg").hardlink_to(tmp_path / "train/0.jpg")
    put(tmp_path / "labels.csv", "id,breed", *(f"{number},{number % 7}" for number in range(count)))
    start = time.process_time()
    dataset = read_dataset(tmp_path / "labels.csv")
    assert time.process_time() - start < 5
    assert len(dataset) == count and dataset.notes[-1].endswith("98,000 are not there")
