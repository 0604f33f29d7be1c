"""Oxford Flowers-102 (Nilsback and Zisserman, 2008): 102 flowers of Great Britain, official train, val and test."""

from __future__ import annotations

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row
from fieldmark.datasets.layouts.flower_names import FLOWERS
from fieldmark.datasets.layouts.layout import Layout, Source, marks
from fieldmark.datasets.layouts.matlab import load_mat

_SPLITS = {"trnid": "train", "valid": "val", "tstid": "test"}
_IMAGES = ("jpg", "102flowers/jpg", "flowers-102/jpg")
_NAMES = "cat_to_name.json"


def read(source: Source) -> Dataset:
    """Read imagelabels.mat, a label for each image, and setid.mat, the numbers of the images of each split.

    The classes are the labels that occur, in their order. Their names, which are not published with the images, are those of
    cat_to_name.json if it is there (label → name), and otherwise those of flower_names.
    """
    notes = Annotations(source.path)
    names = _given_names(notes) if (source.path / _NAMES).exists() else dict(enumerate(FLOWERS, 1))
    labels: list[int] = []
    for number, value in enumerate(load_mat(notes, "imagelabels.mat", "labels")["labels"], 1):
        place = Place("imagelabels.mat", number, "record")
        label = notes.integer(place, str(value), "label", 1, max(names))
        if label in names:
            labels.append(label)
        elif label is not None:
            notes.wrong(place, f"{_NAMES} has no name for label {label}")
    notes.check()
    index = {label: position for position, label in enumerate(sorted(set(labels)))}

    folder = next((folder for folder in _IMAGES if (source.path / folder).is_dir()), _IMAGES[0])
    rows: dict[int, Row] = {}
    for variable, numbers in load_mat(notes, "setid.mat", *_SPLITS).items():
        for record, value in enumerate(numbers, 1):
            place = Place("setid.mat", record, f"{variable} record")
            image = notes.integer(place, str(value), "the number of an image", 1, len(labels))
            if image in rows:
                notes.wrong(place, f"image {image} is in {rows[image].place} as well")
            elif image is not None:
                rows[image] = Row(place, f"{folder}/image_{image:05d}.jpg", index[labels[image - 1]], _SPLITS[variable])
    remarks = ["its official splits are used: train, val, test"]
    if unused := len(labels) - len(rows):
        remarks.append(f"{unused:,} images that setid.mat puts into no split are left out")
    return notes.dataset(layout=LAYOUT.name, class_names=[names[label] for label in index], rows=rows.values(), notes=remarks)


def _given_names(notes: Annotations) -> dict[int, str]:
    """Names by label, from 1. Raises InputError."""
    place = Place(_NAMES)
    names = {}
    for key, name in (notes.json_object(_NAMES) or {}).items():
        label = notes.integer(place, key, "a label", 1, 10_000)
        if not isinstance(name, str) or not name.strip():
            notes.wrong(place, f"the name of label {key:.100} is {name!r:.100}, and should be text")
        elif label is not None:
            names[label] = name.strip()
    notes.check()
    return names


LAYOUT = Layout(
    name="flowers",
    title="Oxford Flowers-102",
    recognise=marks("imagelabels.mat", "setid.mat", "|".join(_IMAGES)),
    read=read,
    example="flowers-102/",
)
