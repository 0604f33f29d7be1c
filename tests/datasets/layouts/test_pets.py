from pathlib import Path

import numpy as np
import pytest
from miniatures import edit, pets, refusal

from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pets.write(tmp_path)


def test_rows_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    assert dataset.boxes is not None
    row = dataset.paths.index("images/american_bulldog_100.jpg")
    assert dataset.label_names()[row] == "american bulldog"
    assert dataset.splits[row] == "train"
    assert dataset.boxes[row].tolist() == [8, 4, 40, 31]
    row = dataset.paths.index("images/american_bulldog_102.jpg")
    assert dataset.splits[row] == "test"
    assert np.isnan(dataset.boxes[row]).all()
    assert "boxes are those of heads, which 4 of 12 images have" in dataset.notes


def test_it_needs_no_boxes(root: Path) -> None:
    for file in root.glob("annotations/xmls/*"):
        file.unlink()
    dataset = read_dataset(root)
    assert dataset.boxes is None
    assert "boxes are those of heads, which 0 of 12 images have" in dataset.notes


def test_odd_files_do_not_matter(root: Path) -> None:
    whole = read_dataset(root)
    for file in [*root.rglob("._*"), *root.rglob("*.mat")]:
        file.unlink()
    assert read_dataset(root).paths == whole.paths


def test_several_heads_make_one_box(root: Path) -> None:
    second = "<object><name>cat</name><bndbox><xmin>21</xmin><ymin>2</ymin><xmax>60</xmax><ymax>20</ymax></bndbox></object></annotation>"
    file = root / "annotations/xmls/Abyssinian_100.xml"
    file.write_text(file.read_text().removesuffix("</annotation>\n") + second)
    dataset = read_dataset(root)
    assert dataset.boxes is not None and dataset.boxes[dataset.paths.index("images/Abyssinian_100.jpg")].tolist() == [8, 1, 60, 30]


def test_an_xml_without_objects_gives_no_box(root: Path) -> None:
    (root / "annotations/xmls/Abyssinian_100.xml").write_text("<annotation></annotation>")
    assert "boxes are those of heads, which 3 of 12 images have" in read_dataset(root).notes


def test_classes_are_in_the_order_of_their_ids(root: Path) -> None:
    for name in ("trainval", "test"):
        file = root / f"annotations/{name}.txt"
        file.write_text(file.read_text().replace(" 1 1 1\n", " 37 1 1\n"))
    dataset = read_dataset(root)
    assert dataset.class_names == ("american bulldog", "Bengal", "german shorthaired", "Abyssinian")
    assert dataset.label_names()[dataset.paths.index("images/Abyssinian_100.jpg")] == "Abyssinian"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            "trainval.txt",
            "Abyssinian_101 1 1 1",
            "Abyssinian_101 2 1 1",
            "trainval.txt, line 3: class 2 is american bulldog and a dog here, and Abyssinian and a cat in",
        ),
        (
            "test.txt",
            "Abyssinian_102 1 1 1",
            "Abyssinian_102 1 2 1",
            "test.txt, line 1: class 1 is Abyssinian and a dog here, and Abyssinian and a cat in",
        ),
        ("test.txt", "Abyssinian_102 1 1 1", "Abyssinian_102 38 1 1", "2 classes have the same name 'Abyssinian'"),
        (
            "test.txt",
            "Abyssinian_102 1 1 1",
            "Abyssinian_102 1 3 1",
            "test.txt, line 1: species is '3', and should be a whole number from 1 to 2",
        ),
        (
            "test.txt",
            "Abyssinian_102 1 1 1",
            "Abyssinian_102 1 1",
            "test.txt, line 1: 3 fields instead of 4: image, class, species, breed",
        ),
        ("test.txt", "Abyssinian_102 1", "102 1", "test.txt, line 1: '102' should be a breed and a number"),
        ("test.txt", "Abyssinian_102", "../Abyssinian_102", "test.txt, line 1: the path '../Abyssinian_102.jpg' leads out of"),
        ("test.txt", "Abyssinian_102", "Abyssinian_101", "is listed twice"),
        ("xmls/Abyssinian_100.xml", "</bndbox>", "</box>", "xmls/Abyssinian_100.xml, line 25: it is not well-formed XML"),
        ("xmls/Abyssinian_100.xml", "<xmax>40</xmax>", "", "xmls/Abyssinian_100.xml, object 1: "),
    ],
)
def test_what_is_wrong_is_named(root: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(root / "annotations" / file, old, new)
    assert problem in refusal(root)
