from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import edit, refusal, tiny_imagenet

from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_imagenet.write(tmp_path)


def test_rows_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    assert dataset.boxes is not None
    for path, name, split, box in (
        ("train/n02124075/images/n02124075_1.JPEG", "Egyptian cat", "train", [0, 11, 64, 59]),
        ("val/images/val_2.JPEG", "goldfish", "val", [0, 32, 45, 63]),
    ):
        row = dataset.paths.index(path)
        assert (dataset.label_names()[row], dataset.splits[row], dataset.boxes[row].tolist()) == (name, split, box)
    assert "test/images/test_0.JPEG" in dataset.paths


def test_boxes_names_and_test_may_be_missing(root: Path) -> None:
    for file in (*root.glob("train/*/*_boxes.txt"), *root.glob("test/images/*"), root / "words.txt"):
        file.unlink()
    dataset = read_dataset(root)
    assert dataset.class_names == ("n02124075", "n04067472", "n01443537") and len(dataset) == 9


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("val/val_annotations.txt", "val_0.JPEG\tn02124075", "val_0.JPEG\tn1", "val/val_annotations.txt, line 1: there is no class 'n1'"),
        ("val/val_annotations.txt", "val_0.JPEG\t", "../../x.JPEG\t", "val/val_annotations.txt, line 1: the path '../../x.JPEG' leads out"),
        ("val/val_annotations.txt", "val_0.JPEG\t", "", "val/val_annotations.txt, line 1: 5 fields instead of 6"),
        ("wnids.txt", "n04067472", "n9", "wnids.txt: class n9 has no images in train/n9/images"),
        ("wnids.txt", "n04067472", "../n9", "wnids.txt: the path '../n9/images' leads out"),
    ],
)
def test_what_is_wrong_is_named(root: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(root / file, old, new)
    assert problem in refusal(root)
