from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import edit, gtsrb, gtsrb_published, refusal

from fieldmark.core.console import Console
from fieldmark.core.recipe.data import Data
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.loading import find_data, load_data


def test_rows_as_kaggle_has_them(tmp_path: Path) -> None:
    dataset = read_dataset(gtsrb.write(tmp_path))
    row = dataset.paths.index("Train/14/00014_00001_00000.png")
    assert dataset.boxes is not None and dataset.groups is not None
    assert (dataset.label_names()[row], dataset.splits[row], dataset.boxes[row].tolist()) == ("14", "train", [5, 5, 59, 43])
    assert dataset.groups[row] == dataset.groups[row + 1] >= 0 and len(set(dataset.groups.tolist())) == 5
    assert (dataset.groups[dataset.rows("test")] == -1).all()


@pytest.mark.parametrize("folder", ["Final_Training", "Training"])
def test_rows_as_first_published(tmp_path: Path, folder: str) -> None:
    root = gtsrb_published.write(tmp_path)
    if folder == "Training":
        (root / "Final_Training/Images").rename(root / "Training")
        (root / "Final_Training").rmdir()
    dataset = read_dataset(root)
    assert dataset.boxes is not None and dataset.boxes[0].tolist() == [5, 6, 59, 43]
    assert dataset.groups is not None and len(set(dataset.groups[dataset.rows("train")].tolist())) == 6


def test_a_test_whose_classes_are_published(tmp_path: Path) -> None:
    root = gtsrb_published.write(tmp_path)
    text = (root / "Final_Test/Images/GT-final_test.test.csv").read_text().splitlines()
    (root / "GT-final_test.csv").write_text("\n".join([f"{text[0]};ClassId", *(f"{line};{label}" for label, line in enumerate(text[1:]))]))
    assert len(read_dataset(root).rows("test")) == 3


def test_val_has_signs_of_its_own(tmp_path: Path) -> None:
    found = find_data(gtsrb.write(tmp_path), Data(val_fraction=0.4), Console(quiet=True))
    data = load_data(found, Console(quiet=True)).dataset
    assert data.groups is not None
    assert set(data.groups[data.rows("train")]).isdisjoint(data.groups[data.rows("val")]) and len(data.rows("val"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("14,Train/14/00014_00000_00000.png", "43,Train/14/00014_00000_00000.png", "Train.csv, line 6: ClassId is '43'"),
        ("2,Train/2/00002_00000_00000.png", "2,../x.png", "Train.csv, line 2: the path '../x.png' leads out"),
        ("ClassId,Path", "Sign,Path", "Train.csv, line 1: it has no column ClassId"),
        ("Roi.X2", "X2", "Train.csv, line 1: it has no column roi.x2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    root = gtsrb.write(tmp_path)
    edit(root / "Train.csv", old, new)
    assert problem in refusal(root)
