"""Boxes for images that are to be predicted, in a table of their own."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from fieldmark.core.arguments import described
from fieldmark.core.errors import InputError
from fieldmark.core.names import shown
from fieldmark.datasets.layouts import columns
from fieldmark.datasets.layouts.annotations import Annotations, Box, Place, refuse_shares
from fieldmark.datasets.layouts.records import SUFFIXES, is_table, no_table, open_table

_EXAMPLE = "{path: (left, top, right, bottom)}"


def given_boxes(boxes: Mapping[str, Sequence[float]] | str | Path | None) -> Mapping[str, Sequence[float]] | None:
    """Boxes as they are, or those of a table. Raises InputError for what is no box, and for a table that is unreadable or of no image."""
    if boxes is None:
        return None
    if not isinstance(boxes, str | Path):
        _check(boxes)
        return boxes
    found = read_boxes(Path(boxes))
    if found and not any(Path(path).exists() for path in found):
        raise InputError(
            f"none of the images in {boxes} exists, such as {next(iter(found))}",
            hint="A path in a table of boxes is absolute, or relative to the table's folder or to the current one.",
        )
    return found


def without_image(unused: Collection[str]) -> list[str]:
    """A sentence on the boxes that no image asked for; none if there are none."""
    if not unused:
        return []
    first = shown(min(unused))
    several = f"{len(unused):,} of the boxes are of no image that was given, such as that of {first}"
    return [several if len(unused) > 1 else f"the box of {first} is of no image that was given"]


def _check(boxes: object) -> None:
    if not isinstance(boxes, Mapping):
        raise InputError(f"boxes are a table, or a dictionary {_EXAMPLE}, not {described(boxes)}")
    wrong = [f"the box of {shown(str(path))}: {problem}" for path, box in boxes.items() if (problem := _problem(path, box))]
    if wrong:
        raise InputError(*wrong, hint=f"Boxes are a dictionary {_EXAMPLE}, in pixels.")


def _problem(path: object, box: object) -> str:
    """Why it is no box of an image; "" if it is one."""
    if not isinstance(path, str | os.PathLike):
        return f"an image is named by its path, not {described(path)}"
    try:
        sides = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        return f"{described(box)} is not four numbers"
    if sides.shape != (4,):
        return f"{described(box)} is not four numbers" if sides.ndim != 1 else f"it has {len(sides)} numbers, not four"
    shown_sides = ", ".join(f"{side:g}" for side in sides)
    if not np.isfinite(sides).all():
        return f"({shown_sides}) are not all finite"
    has_area = sides[0] < sides[2] and sides[1] < sides[3]
    return "" if has_area else f"({shown_sides}) has no area: left is less than right, and top than bottom"


def read_boxes(file: Path) -> dict[str, Box]:
    """Path → left, top, right and bottom edge in pixels, from a CSV, TSV or Parquet table; images with a blank box are not in it.

    Paths are absolute, links not followed. One that is relative in the table is so to the table's folder if there is such a file, else to
    the current directory. Raises InputError, with all problems at once.
    """
    if not is_table(file):
        raise InputError(no_table(file), hint=f"The name of a table ends in {', '.join(SUFFIXES)}.")
    notes = Annotations(file.parent)
    table = open_table(notes, file.name)
    notes.check()
    found = columns.find(file.name, table.header, keys=("path", "box"))
    if found.path is None or found.box is None:
        lacking = " and none of ".join(what for what, column in (("paths", found.path), ("boxes", found.box)) if column is None)
        raise InputError(
            f"{shown(str(file))} has no column of {lacking}; its columns are {columns.shown(table.header)}",
            hint="The first line should be, for example, path,left,top,right,bottom or path,x,y,width,height.",
        )
    boxes: dict[str, Box] = {}
    places: dict[str, Place] = {}
    as_box = notes.corner_box if found.sized else notes.box
    for number, (text, *sides) in table.rows([found.path, *found.box]):
        place = table.place(number)
        sides = [side.replace(",", ".") for side in sides] if table.decimal_commas else sides
        if not text or "\0" in text:
            notes.wrong(place, f"{text[:100]!r} is not a path")
            continue
        path = _absolute(file.parent, text.strip())
        if path in places:
            notes.wrong(place, f"the image {text[:200]!r} is listed twice (also in {places[path]})")
            continue
        places[path] = place
        if not all(side.strip().lower() in ("", "nan") for side in sides) and (box := as_box(place, sides)):
            boxes[path] = box
    notes.check()
    refuse_shares(np.array(list(boxes.values())).reshape(-1, 4), shown(str(file)))
    return boxes


def _absolute(folder: Path, text: str) -> str:
    beside = os.path.abspath(folder / text)
    return beside if os.path.exists(beside) else os.path.abspath(text)
