"""Tiny ImageNet (Le and Yang, 2015): 200 classes, official train and val, a box for each of their images, and a test without labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.image_files import list_folder
from fieldmark.datasets.layouts.annotations import Annotations, Box, Place, Row
from fieldmark.datasets.layouts.class_names import unique_names
from fieldmark.datasets.layouts.layout import Layout, Source, marks

_VAL = "val/val_annotations.txt"
_BOX = ("left", "top", "right", "bottom")


def read(source: Source) -> Dataset:
    """Read wnids.txt, train/<wnid>/<wnid>_boxes.txt, val/val_annotations.txt, and the images in test/images, which are unlabelled.

    Classes are in the order of wnids.txt, and get the first name that words.txt has for them. Boxes count pixels from 0, the last ones
    included.
    """
    notes = Annotations(source.path)
    ids = [line.text.strip() for line in notes.lines("wnids.txt")]
    index = {wnid: position for position, wnid in enumerate(ids)}
    rows = [row for wnid in ids for row in _train(notes, wnid, index[wnid])]
    for place, (image, wnid, *sides) in notes.fields(_VAL, "image", "class", *_BOX):
        path = notes.inner_path(place, image, "val/images")
        box = _box(notes, place, sides)
        if wnid not in index:
            notes.wrong(place, f"there is no class {wnid!r:.100} in wnids.txt")
        elif path is not None:
            rows.append(Row(place, path, index[wnid], "val", box))
    rows += [Row(Place("test/images"), f"test/images/{name}", None, UNLABELLED) for name in _images(source.path / "test/images")]
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=_names(notes, ids),
        rows=rows,
        notes=["its official splits are used: train, val; test has no labels"],
    )


def _train(notes: Annotations, wnid: str, label: int) -> Iterator[Row]:
    """The images of a class, by its table of boxes, or by its folder if there is none."""
    place = Place("wnids.txt")
    folder = notes.inner_path(place, f"{wnid}/images", "train")
    if folder is None:
        return
    file = f"train/{wnid}/{wnid}_boxes.txt"
    if not os.path.isfile(notes.root / file):  # False for a name that cannot be one
        images = _images(notes.root / folder)
        if not images:
            notes.wrong(place, f"class {wnid} has no images in {folder}, and no {file}")
        yield from (Row(place, f"{folder}/{name}", label, "train") for name in images)
        return
    for place, (image, *sides) in notes.fields(file, "image", *_BOX):
        path = notes.inner_path(place, image, folder)
        box = _box(notes, place, sides)
        if path is not None:
            yield Row(place, path, label, "train", box)


def _box(notes: Annotations, place: Place, sides: list[str]) -> Box | None:
    return notes.pixel_box(place, [str(int(side) + 1) if side.isdecimal() and len(side) < 20 else side for side in sides])


def _images(folder: Path) -> list[str]:
    try:
        return list_folder(folder).images
    except OSError:
        return []


def _names(notes: Annotations, ids: list[str]) -> list[str]:
    wanted = set(ids)
    names = {}
    if (notes.root / "words.txt").is_file():
        for line in notes.lines("words.txt"):
            wnid, _, words = line.text.partition("\t")
            if wnid in wanted:
                names[wnid] = words.split(",")[0].strip()
    unique = unique_names({wnid: names.get(wnid) or wnid for wnid in ids})
    return [unique[wnid] for wnid in ids]


LAYOUT = Layout(
    name="tiny-imagenet",
    title="Tiny ImageNet",
    recognise=marks("wnids.txt", "val/val_annotations.txt", "val/images", "train/n*/images"),
    read=read,
    example="tiny-imagenet-200/",
)
