from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.mask_files import masks_of


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_masks_are_called_after_an_image_of_their_folder() -> None:
    paths = [
        "a/benign (1).png",
        "a/benign (1)_mask.png",
        "a/benign (1)_mask_1.png",
        "a/2.jpg",
        "a/2-SEG.png",
        "b/2_label.png",
        "a/x_mask.png",
    ]
    assert masks_of(paths) == {paths[1]: paths[0], paths[2]: paths[0], paths[4]: paths[3]}


def test_masks_of_most_images_of_a_class_are_passed_over(tmp_path: Path) -> None:
    pairs = [f"{label}/{label} ({k}){end}.png" for label in ("benign", "malignant") for k in range(3) for end in ("", "_mask")]
    dataset = read_dataset(
        make(tmp_path, *pairs, "benign/benign (0)_mask_1.png", "normal/1.png", "normal/2.png", "normal/3.png", "normal/3_mask.png")
    )
    assert dataset.paths[:3] == ("benign/benign (0).png", "benign/benign (1).png", "benign/benign (2).png") and len(dataset.paths) == 9
    assert "passed over masks next to their images: 8 (first: benign/benign (0)_mask.png)" in dataset.notes


def test_a_few_files_that_may_be_masks_are_asked_about(tmp_path: Path) -> None:
    make(tmp_path, *(f"{label}/{k}.png" for label in "ab" for k in range(5)), "a/1_mask.png")
    with pytest.raises(InputError, match="1 file is called like masks of images beside them") as caught:
        read_dataset(tmp_path)
    assert "data.layout=class-folders\n      2 classes: a, b, with these files as images" in str(caught.value)
    assert len(read_dataset(tmp_path, "class-folders").paths) == 11
