"""GTSRB (Stallkamp et al., 2012): 43 German traffic signs, official train and test, a box for every image, photographed in tracks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Row
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source, marks
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.records import open_table

_BOX = ("roi.x1", "roi.y1", "roi.x2", "roi.y2")
_CLASSES = 43
_TRAIN = ("Final_Training/Images", "Training", "GTSRB/Final_Training/Images", "GTSRB/Training")
_TEST = ("Final_Test/Images", "Online-Test/Images", "GTSRB/Final_Test/Images", "GTSRB/Online-Test/Images")
_TRACK = re.compile(r"(?:.*/)?(?P<class>[0-9]+)/(?:[0-9]+_)?(?P<track>[0-9]+)_[0-9]+\.[A-Za-z]+")


@dataclass(frozen=True)
class _Table:
    """A table, the folder that its paths are relative to, and its split."""

    file: str
    folder: str
    split: str


def read(source: Source) -> Dataset:
    """Read Train.csv and Test.csv, or, as first published, a GT-*.csv in the folder of each class and one of test.

    Classes are called by their numbers. A test whose table has no classes is unlabelled. Photographs of one sign, a track, are of one
    group, so that a val drawn from train has signs of its own. Boxes count pixels from 0, the last ones included.
    """
    notes = Annotations(source.path)
    rows = [row for table in _tables(source.path) for row in _read(notes, table)]
    notes.check()
    labels = sorted({row.label for row in rows if row.label is not None})
    index = {label: position for position, label in enumerate(labels)}
    numbered = [replace(row, label=None if row.label is None else index[row.label]) for row in rows]
    dataset = notes.dataset(
        layout=LAYOUT.name,
        class_names=[str(label) for label in labels],
        rows=numbered,
        notes=["its official splits are used: train, test", "photographs of one sign are kept together"],
    )
    return replace(dataset, groups=_tracks(dataset))


def _read(notes: Annotations, table: _Table) -> Iterator[Row]:
    records = open_table(notes, table.file)
    header = [name.lower() for name in records.header]
    if not header:  # what is wrong with the file was noted
        return
    path = next((name for name in ("path", "filename") if name in header), None)
    wanted = [path or "path", *_BOX]
    if missing := [name for name in wanted if name not in header]:
        notes.wrong(records.place(1), f"it has no column {', '.join(missing)}")
        return
    label = header.index("classid") if "classid" in header else None
    if label is None and table.split == "train":
        notes.wrong(records.place(1), "it has no column ClassId")
        return
    for number, (text, name, *sides) in records.rows([header.index(wanted[0]), label, *map(header.index, _BOX)]):
        place = records.place(number)
        inner = notes.inner_path(place, text, table.folder)
        box = notes.pixel_box(place, [str(int(side) + 1) if side.isdecimal() and len(side) < 20 else side for side in sides])
        value = None if label is None else notes.integer(place, name, "ClassId", 0, _CLASSES - 1)
        if inner is not None and box is not None and (label is None or value is not None):
            yield Row(place, inner, value, table.split if value is not None else UNLABELLED, box)


def _tables(root: Path) -> Sequence[_Table]:
    """Those of Kaggle's copy, or those first published."""
    if (root / "Train.csv").is_file():
        return [_Table("Train.csv", "", "train"), _Table("Test.csv", "", "test")]
    found = []
    for folder in (each for each in _TRAIN if (root / each).is_dir()):
        found += [_Table(f"{folder}/{each.name}/GT-{each.name}.csv", f"{folder}/{each.name}", "train") for each in folders(root / folder)]
        break
    for folder in (each for each in _TEST if (root / each).is_dir()):
        names = (
            f"{folder}/GT-final_test.csv",
            "GT-final_test.csv",
            f"{folder}/GT-final_test.test.csv",
            f"{folder}/GT-online_test.test.csv",
        )
        file = next((name for name in names if (root / name).is_file()), names[0])
        found.append(_Table(file, folder, "test"))
        break
    return found


def _tracks(dataset: Dataset) -> np.ndarray:
    """Int32 (n,): alike for the images of one track of train."""
    keys = [(match["class"], match["track"]) if (match := _TRACK.fullmatch(path)) else None for path in dataset.paths]
    known: dict[tuple[str, str], int] = {}
    return np.array([-1 if key is None else known.setdefault(key, len(known)) for key in keys], np.int32)


def _recognise(path: Path) -> Evidence | None:
    if not path.is_dir():
        return None
    first = next((each for each in _TRAIN if (path / each).is_dir() and any((path / each).glob("*/GT-*.csv"))), None)
    if first is not None:
        tests = [table.file for table in _tables(path) if table.split == "test" and (path / table.file).is_file()]
        return Evidence((str(PurePosixPath(first, "*", "GT-*.csv")), *tests))
    if not (path / "Train.csv").is_file() and not (path / "Meta.csv").is_file():
        return None
    columns = open_table(Annotations(path), "Train.csv").header if (path / "Train.csv").is_file() else ()
    return marks("Train.csv", "Test.csv", "Meta.csv", "Train")(path) if not columns or "Roi.X1" in columns else None


LAYOUT = Layout(
    name="gtsrb",
    title="GTSRB",
    recognise=_recognise,
    read=read,
    example="GTSRB/",
)
