from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniatures import edit, jpeg, put, refusal, voc

from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return voc.write(tmp_path)


def test_rows_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    row = dataset.paths.index("JPEGImages/000001.jpg")
    assert dataset.boxes is not None
    assert (dataset.label_names()[row], dataset.splits[row], dataset.boxes[row].tolist()) == ("bird", "train", [8, 4, 40, 30])
    assert dataset.splits[dataset.paths.index("JPEGImages/000002.jpg")] == "val"
    assert dataset.splits[dataset.paths.index("JPEGImages/000003.jpg")] == "unlabelled"
    assert dataset.notes[1] == "its official splits are used: train, val, test"


def test_trainval_is_train_where_there_is_no_train(root: Path) -> None:
    for split in ("train", "val"):
        (root / f"ImageSets/Main/{split}.txt").unlink()
    assert len(read_dataset(root).rows("train")) == 9


def test_without_lists_all_is_train(root: Path) -> None:
    for file in (root / "ImageSets/Main").glob("*.txt"):
        file.unlink()
    dataset = read_dataset(root)
    assert (len(dataset.rows("train")), len(dataset.rows("unlabelled"))) == (9, 3)
    assert "images of train that show no object are unlabelled: 3 (first: JPEGImages/000003.jpg)" in dataset.notes


@pytest.mark.parametrize("folders", [("train", "valid", "test"), ("",)])
def test_xml_next_to_the_images(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        for number, name in enumerate(("bird", "cat", "bird")):
            put(tmp_path / folder / f"{number}.png", jpeg(number))
            put(tmp_path / folder / f"{number}.xml", voc.xml(f"{number}", name))
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.class_names, len(dataset)) == ("voc", ("bird", "cat"), 3 * len(folders))
    assert set(dataset.splits.tolist()) == ({"train", "val", "test"} if len(folders) > 1 else {"train"})
    assert all(dataset.images.read(path) for path in dataset.paths)


def test_images_that_show_several_classes(root: Path) -> None:
    put(root / "Annotations/000000.xml", voc.xml("000000", "cat", "bird"))
    message = refusal(root)
    assert "ImageSets/Main/train.txt, line 1: JPEGImages/000000.jpg shows cat, bird: 1 of 12 images" in message
    assert "data.several_objects=largest" in message
    dataset = read_dataset(root, several_objects="largest")
    assert dataset.label_names()[0] == "cat" and dataset.boxes is not None and dataset.boxes[0].tolist() == [8, 4, 40, 30]
    assert "JPEGImages/000000.jpg" not in read_dataset(root, several_objects="leave-out").paths


def test_a_box_that_is_empty_is_left_out(root: Path) -> None:
    edit(root / "Annotations/000000.xml", "<xmin>9</xmin>", "<xmin>41</xmin>")
    dataset = read_dataset(root)
    assert dataset.boxes is not None and np.isnan(dataset.boxes[0]).all() and dataset.splits[0] == "train"
    assert dataset.notes[-1].endswith("data.crop=box leaves these images whole: Annotations/000000.xml, object 1")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("<name>bird</name>", "<name> </name>", "Annotations/000000.xml, object 1: its name is ''"),
        ("</annotation>", "", "Annotations/000000.xml, line 13: it is not well-formed XML"),
        ("<annotation>", "<!DOCTYPE a><annotation>", "Annotations/000000.xml: it declares a document type, which is refused"),
    ],
)
def test_what_is_wrong_is_named(root: Path, old: str, new: str, problem: str) -> None:
    edit(root / "Annotations/000000.xml", old, new)
    assert problem in refusal(root)


def test_lists_that_lead_out_of_the_folder(root: Path) -> None:
    put(root / "ImageSets/Main/val.txt", "../../../etc/passwd\n")
    assert "ImageSets/Main/val.txt, line 1: the path '../../../etc/passwd.jpg' leads out" in refusal(root)
