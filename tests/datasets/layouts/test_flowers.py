"""Oxford Flowers-102: rows, names, splits that overlap, and the folders that its images may lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mat_files import cells, put_mat
from miniatures import flowers, flowers_named, put
from miniatures.flowers import LABELS, SPLITS
from torchvision.datasets import Flowers102

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.flower_names import FLOWERS


def problems(data: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, "flowers")
    return "\n".join(map(str, caught.value.problems))


def put_splits(data: Path, **changed: object) -> None:
    put_mat(data / "setid.mat", **{name: np.array(changed.get(name, numbers)) for name, numbers in SPLITS.items()})


def test_every_row_is_as_published(tmp_path: Path) -> None:
    dataset = read_dataset(flowers.write(tmp_path))
    names = {"trnid": "train", "valid": "val", "tstid": "test"}
    splits = {number: names[key] for key, numbers in SPLITS.items() for number in numbers}
    assert dataset.paths == tuple(f"jpg/image_{number:05d}.jpg" for number in sorted(splits))
    assert dataset.labels.tolist() == [label - 1 for label in LABELS]
    assert dataset.splits.tolist() == [splits[number] for number in sorted(splits)]
    assert dataset.notes[1:] == ("its official splits are used: train, val, test",)


def test_classes_are_the_labels_that_occur(tmp_path: Path) -> None:
    data = flowers.write(tmp_path)
    put_mat(data / "imagelabels.mat", labels=np.array([102 if label == 2 else label for label in LABELS], np.uint8))
    dataset = read_dataset(data)
    assert dataset.class_names == ("pink primrose", "canterbury bells", "blackberry lily")
    assert dataset.label_names()[2] == "blackberry lily"


def test_names_are_as_published() -> None:
    assert tuple(Flowers102.classes) == FLOWERS


@pytest.mark.parametrize("folder", ["102flowers", "flowers-102"])
def test_images_may_lie_in_a_folder_beside_the_annotations(tmp_path: Path, folder: str) -> None:
    data = flowers.write(tmp_path)
    (data / folder).mkdir()
    (data / "jpg").rename(data / folder / "jpg")
    assert read_dataset(data).paths[0] == f"{folder}/jpg/image_00001.jpg"


def test_images_in_no_split_are_left_out_with_a_note(tmp_path: Path) -> None:
    data = flowers.write(tmp_path)
    put_splits(data, tstid=SPLITS["tstid"][:4])
    dataset = read_dataset(data)
    assert len(dataset) == len(LABELS) - 2
    assert dataset.notes[-1] == "2 images that setid.mat puts into no split are left out"


def test_wrong_splits_are_named_with_their_records(tmp_path: Path) -> None:
    data = flowers.write(tmp_path)
    put_splits(data, valid=[3, 2, 13, 0], tstid=[7.5, 7, 7])
    assert problems(data).splitlines() == [
        "setid.mat, valid record 2: image 2 is in setid.mat, trnid record 2 as well",
        "setid.mat, valid record 3: the number of an image is '13', and should be a whole number from 1 to 12",
        "setid.mat, valid record 4: the number of an image is '0', and should be a whole number from 1 to 12",
        "setid.mat, tstid record 1: the number of an image is '7.5', and should be a whole number from 1 to 12",
        "setid.mat, tstid record 3: image 7 is in setid.mat, tstid record 2 as well",
    ]
    put_mat(data / "setid.mat", trnid=cells(["1", cells([2.0])]), valid=np.arange(1, 3))
    assert problems(data).splitlines()[0] == "setid.mat: it holds no tstid"


def test_wrong_labels_are_named_with_their_records(tmp_path: Path) -> None:
    data = flowers.write(tmp_path)
    put_mat(data / "imagelabels.mat", labels=np.array([1.0, 103, 0, np.nan]))
    assert [line.split(", and")[0] for line in problems(data).splitlines()] == [
        "imagelabels.mat, record 2: label is '103'",
        "imagelabels.mat, record 3: label is '0'",
        "imagelabels.mat, record 4: label is 'nan'",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "cat_to_name.json, line 1: it is not JSON (Expecting value"),
        ('["fire lily"]', "cat_to_name.json: it should hold an object with names and values"),
        ("{}", "cat_to_name.json: it should hold an object with names and values"),
        ('{"1": ["a"]}', "cat_to_name.json: the name of label 1 is ['a'], and should be text"),
        ('{"one": "a"}', "cat_to_name.json: a label is 'one', and should be a whole number from 1"),
        ('{"1": "a", "3": "c"}', "imagelabels.mat, record 3: cat_to_name.json has no name for label 2"),
        ('{"1": "a", "2": "b"}', "imagelabels.mat, record 2: label is '3', and should be a whole number from 1 to 2"),
        (r'{"1": "a", "2": "b", "3": "\ud800"}', r"the class name '\ud800' holds characters that are not text"),
        ('{"1": "a", "2": "b", "3": "a"}', "2 classes have the same name 'a'"),
    ],
)
def test_wrong_names_are_named(tmp_path: Path, content: str | bytes, problem: str) -> None:
    data = flowers_named.write(tmp_path)
    put(data / "cat_to_name.json", content)
    assert problem in problems(data)
