"""Boxes that were drawn before EXIF turned the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.datasets.loading import LoadedData, check_readable, find_data, load_data
from fieldmark.datasets.unrotated_boxes import UNROTATED

STORED = (60, 40)
FITS_STORED = (40, 10, 58, 30)
FITS_BOTH = (5, 5, 30, 35)
ORIENTATION = 0x0112


def make(root: Path, boxes: list[tuple[int, int, int, int]], orientation: int, upright: int = 30) -> Path:
    """Images that are stored 60 x 40, with an orientation in EXIF, and `upright` more without one; a table with boxes."""
    rows = ["path,label,left,top,right,bottom"]
    for number in range(len(boxes) + upright):
        exif = Image.Exif()
        if number < len(boxes):
            exif[ORIENTATION] = orientation
        box = boxes[number] if number < len(boxes) else FITS_STORED
        Image.fromarray(np.full((STORED[1], STORED[0], 3), number, np.uint8)).save(root / f"{number:02}.jpg", exif=exif)
        rows.append(",".join(map(str, (f"{number:02}.jpg", "ab"[number % 2], *box))))
    (root / "boxes.csv").write_text("\n".join(rows))
    return root / "boxes.csv"


def loaded(data: Path, *settings: str, said: list[str] | None = None) -> LoadedData:
    console = Console(quiet=True)
    if said is not None:
        console.say = lambda *lines: said.extend(map(str, lines))  # type: ignore[method-assign]
    return load_data(find_data(data, load_recipe("default", settings).data, console), console)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_they_are_set_aside_as_what_they_are(tmp_path: Path, orientation: int) -> None:
    """The first box has nothing of the upright image, which is 40 x 60; the second sticks out of it; the third may be either."""
    data = loaded(make(tmp_path, [(45, 5, 58, 30), (20, 10, 58, 30), FITS_BOTH], orientation), "data.crop=box")
    assert data.content.problems == {0: UNROTATED, 1: UNROTATED}
    with pytest.raises(InputError, match="exiftool -Orientation= FOLDER"):
        check_readable(data, 0.01, Console(quiet=True))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_boxes_of_images_that_are_not_turned_by_a_quarter_are_theirs(tmp_path: Path, orientation: int) -> None:
    assert loaded(make(tmp_path, [FITS_STORED, FITS_BOTH], orientation), "data.crop=box").content.problems == {}


def test_boxes_that_fit_neither_way_are_not_called_so(tmp_path: Path) -> None:
    assert loaded(make(tmp_path, [(30, 30, 90, 90)], 6), "data.crop=box").content.problems == {}


def test_whole_images_are_used_all_the_same_and_it_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    assert loaded(make(tmp_path, [FITS_STORED], 6), said=said).content.problems == {}
    assert any(line.startswith("1 box leaves its image and would fit without the turn by EXIF (first: 00.jpg)") for line in said)
