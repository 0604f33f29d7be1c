"""Stanford Cars (Krause et al., 2013): 196 cars by make, model and year, official train and test, a box for every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row
from fieldmark.datasets.layouts.car_names import car_levels
from fieldmark.datasets.layouts.layout import Evidence, Layout, Recognise, Source, marks
from fieldmark.datasets.layouts.matlab import load_mat

_META, _TRAIN, _TEST = "cars_meta.mat", "cars_train_annos.mat", "cars_test_annos.mat"
_WITH_LABELS = "cars_test_annos_withlabels*.mat"  # one copy that many have is called "cars_test_annos_withlabels (1).mat"
_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_Read = tuple[list[str], list[Row]]
"""Class names in the published order, and rows."""


def read(source: Source) -> Dataset:
    """Read the devkit's files, the one table of cars_annos.mat, or the tables beside class folders, whichever is there.

    Test is unlabelled if only the devkit is there, without cars_test_annos_withlabels.mat, which was published later. Corners of boxes
    count from 1 and are inclusive; a few boxes reach beyond their image by a pixel.
    """
    notes = Annotations(source.path)
    packaging = _packaging(source.path)
    class_names, rows = (packaging[0] if packaging else _from_devkit)(notes)
    labelled = all(row.label is not None for row in rows)
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=class_names,
        rows=rows,
        levels=car_levels(class_names),
        notes=[
            "its official splits are used: train, test"
            if labelled
            else "its official train is used; test has no labels without cars_test_annos_withlabels.mat"
        ],
    )


def _from_devkit(notes: Annotations) -> _Read:
    devkit = _devkit(notes.root)
    names = _class_names(notes, devkit + _META)
    with_labels = [path for folder in ("", devkit) for path in sorted(notes.root.glob(folder + _WITH_LABELS))]
    test = str(with_labels[0].relative_to(notes.root)) if with_labels else devkit + _TEST
    rows = []
    for file, folder, split in ((devkit + _TRAIN, "cars_train", "train"), (test, "cars_test", "test" if with_labels else UNLABELLED)):
        if (notes.root / folder / folder).is_dir():
            folder = f"{folder}/{folder}"
        numbers = _CORNERS if split == UNLABELLED else (*_CORNERS, "class")
        for place, path, corners, record in _records(notes, file, "fname", numbers):
            label = _label(notes, place, record["class"], names) if "class" in numbers else None
            rows += _row(notes, place, folder, path, corners, label, split)
    return names, rows


def _from_one_table(notes: Annotations) -> _Read:
    names = _class_names(notes, "cars_annos.mat")
    rows = []
    for place, path, corners, record in _records(notes, "cars_annos.mat", "relative_im_path", (*_CORNERS, "class", "test")):
        label = _label(notes, place, record["class"], names)
        is_test = notes.integer(place, str(record["test"]), "test", 0, 1)
        rows += _row(notes, place, "", path, corners, label, "test" if is_test else "train")
    return names, rows


def _from_class_folders(notes: Annotations) -> _Read:
    names: list[str] = []
    for line in notes.lines("names.csv"):
        names.append(line.text.strip())
        if line.place.line != len(names):
            notes.wrong(line.place, "there is an empty line before it, where the name of a class should be")
    notes.check()
    images = "car_data/car_data" if (notes.root / "car_data" / "car_data").is_dir() else "car_data"
    rows = []
    for split in ("train", "test"):
        for line in notes.lines(f"anno_{split}.csv"):
            fields = [field.strip() for field in line.text.split(",")]
            if len(fields) != 6:
                notes.wrong(line.place, f"{len(fields)} fields instead of 6: file, x1, y1, x2, y2, class")
                continue
            file, *corners, number = fields
            label = _label(notes, line.place, number, names)
            if label is not None:
                file = f"{names[label].replace('/', '-')}/{file}"
                rows += _row(notes, line.place, f"{images}/{split}", file, corners, label, split)
    return names, rows


def _class_names(notes: Annotations, file: str) -> list[str]:
    names = load_mat(notes, file, "class_names")["class_names"]
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip():
            notes.wrong(Place(file, number, "record"), f"the name of a class is {name!r:.100}, and should be text")
    notes.check()
    return names


def _records(
    notes: Annotations, file: str, text: str, numbers: tuple[str, ...]
) -> Iterator[tuple[Place, str, list[float], dict[str, Any]]]:
    """Place, path (the field `text`), corners and all fields of each struct in the variable "annotations"."""
    for number, record in enumerate(load_mat(notes, file, "annotations")["annotations"], 1):
        place = Place(file, number, "record")
        if not isinstance(record, dict) or not {text, *numbers} <= record.keys():
            notes.wrong(place, f"it should have the fields {', '.join((*numbers, text))}")
            continue
        wrong = [name for name in (*numbers, text) if not isinstance(record[name], str if name == text else int | float)]
        for name in wrong:
            notes.wrong(place, f"{name} is {record[name]!r:.100}, and should be {'text' if name == text else 'a number'}")
        if not wrong:
            yield place, record[text], [record[corner] for corner in _CORNERS], record


def _label(notes: Annotations, place: Place, number: object, names: Sequence[str]) -> int | None:
    found = notes.integer(place, str(number), "class", 1, len(names))
    return None if found is None else found - 1


def _row(
    notes: Annotations, place: Place, folder: str, file: str, corners: Sequence[str | float], label: int | None, split: str
) -> list[Row]:
    """One row, or none if something is wrong."""
    path = notes.inner_path(place, file, folder)
    box = notes.pixel_box(place, corners)
    known = (label is None) == (split == UNLABELLED)
    return [Row(place, path, label, split, box)] if path is not None and box is not None and known else []


def _devkit(root: Path) -> str:
    """The folder, followed by a slash, where any of the devkit's files are; the published one where there are none."""
    folders = ("devkit/", "car_devkit/devkit/", "")
    return next((folder for folder in folders if any((root / folder / file).exists() for file in (_META, _TRAIN, _TEST))), folders[0])


def _recognise_devkit(path: Path) -> Evidence | None:
    """The devkit's files are enough if they lie in a folder of their own; in the published one, images belong to them."""
    devkit = _devkit(path)
    images = [f"{folder}/*.jpg|{folder}/{folder}/*.jpg" for folder in ("cars_train", "cars_test")]
    if not (path / devkit).is_dir():
        evidence = marks(*images)(path)
        return evidence and Evidence(evidence.found, (*evidence.missing, "devkit"))
    test = "|".join((devkit + _TEST, _WITH_LABELS, devkit + _WITH_LABELS))
    alone = devkit == "" and path.name != "devkit"
    return marks(devkit + _META, devkit + _TRAIN, test, *([] if alone else images))(path)


_recognise_one_table = marks("cars_annos.mat", "car_ims/*.jpg")
_recognise_class_folders = marks(
    "names.csv", "anno_train.csv", "anno_test.csv", *(f"car_data/car_data/{split}|car_data/{split}" for split in ("train", "test"))
)
_PACKAGINGS: tuple[tuple[Callable[[Annotations], _Read], Recognise], ...] = (
    (_from_devkit, _recognise_devkit),
    (_from_one_table, _recognise_one_table),
    (_from_class_folders, _recognise_class_folders),
)


def _packaging(path: Path) -> tuple[Callable[[Annotations], _Read], Evidence] | None:
    """How this folder is read, and the evidence: the first that is whole, or else the one that lacks least."""
    found = [(read, evidence) for read, recognise in _PACKAGINGS if path.is_dir() and (evidence := recognise(path)) is not None]
    return max(found, key=lambda one: (not one[1].missing, -len(one[1].missing)), default=None)


def _recognise(path: Path) -> Evidence | None:
    packaging = _packaging(path)
    return packaging[1] if packaging else None


LAYOUT = Layout(
    name="stanford-cars",
    title="Stanford Cars",
    recognise=_recognise,
    read=read,
    example="stanford_cars/",
)
