"""COCO JSON for classification, as iNaturalist (Van Horn et al., 2018) is published in: a file for each split, one object per image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Box, Place, Row, enclosing, is_text
from fieldmark.datasets.layouts.class_names import unique_names
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source

_FILES = {"train": ("train*.json",), "val": ("val*.json",), "test": ("test*.json", "public_test*.json")}
_FOLDER = "annotations"
_HEAD = 4096
_MARK = re.compile(rb'"(info|images|annotations|categories|licenses)"\s*:')
_RANKS = ("genus", "family", "order", "class", "phylum", "kingdom")
_LOOKED_FOR = 20

Id = int | str


@dataclass
class _Part:
    """One file: images, categories and what is in the images, by their ids."""

    file: str
    split: str
    images: dict[Id, tuple[Place, str]] = field(default_factory=dict)
    categories: dict[Id, Mapping[str, Any]] = field(default_factory=dict)
    names: dict[Id, str] = field(default_factory=dict)
    labels: dict[Id, tuple[Place, Id]] = field(default_factory=dict)
    boxes: dict[Id, list[Box]] = field(default_factory=dict)


def read(source: Source) -> Dataset:
    """Read train*.json, and val*.json and test*.json if they exist, in the folder or in its folder "annotations".

    Images of train and val need an annotation; those of test without one are unlabelled. Several objects of one category make one box
    around all of them. Classes are the categories of train's images, in train's order, and are matched by name. The levels are those of
    genus, family, order, class, phylum, kingdom and supercategory that every class has and that tell some of them apart, but not all.

    An image's file_name is relative to the folder (the one above "annotations"), or to its folder "images", or to one named like the
    JSON file or the split: the first of these in which one of the first images of the file is.
    """
    notes = Annotations(_root(source.path))
    files = _files(notes.root)
    if not files["train"]:
        notes.wrong(Place(_FILES["train"][0]), "there is no such file")
    for split, (first, *others) in ((split, found) for split, found in files.items() if found):
        for other in others:
            notes.wrong(Place(other), f"it is {split}, and so is {first}: keep one of them here")
    notes.check()
    train, *rest = [_read_part(notes, found[0], split) for split, found in files.items() if found]
    notes.check()

    shown = {category for _, category in train.labels.values()}
    classes = [category for category in train.categories if category in shown]
    names = [train.names[category] for category in classes]
    index = {name: position for position, name in enumerate(names)}
    for part in rest:
        _check_classes(notes, part, index)
    notes.check()
    dropped = len(train.categories) - len(classes)
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=names,
        rows=[row for part in (train, *rest) for row in _rows(part, index)],
        levels=_levels([train.categories[category] for category in classes]),
        notes=[
            f"its official splits are used: {', '.join(part.split for part in (train, *rest) if part.labels)}",
            *([f"{dropped:,} of {len(train.categories):,} categories have no image in train and are left out"] if dropped else []),
        ],
    )


def _recognise(path: Path) -> Evidence | None:
    if not path.is_dir():
        return None
    root = _root(path)
    files = _files(root)
    found = tuple(file for named in files.values() for file in named)
    if not any(_looks_like_coco(root / file) for file in found):
        return None
    return Evidence(found, () if files["train"] else _FILES["train"])


def _root(path: Path) -> Path:
    return path.parent if path.name == _FOLDER else path


def _files(root: Path) -> dict[str, list[str]]:
    """The files of each split, relative to root."""
    here, below = _named(root, ""), _named(root, _FOLDER)
    return here if here["train"] or not any(below.values()) else below


def _named(root: Path, folder: str) -> dict[str, list[str]]:
    """The files of each split in one folder. Those of other kinds that are named alike count only if there are no better ones."""
    found = {}
    for split, patterns in _FILES.items():
        paths = [path for pattern in patterns for path in sorted((root / folder).glob(pattern)) if path.is_file()]
        chosen = [path for path in paths if _looks_like_coco(path)] or paths
        found[split] = [path.relative_to(root).as_posix() for path in chosen]
    return found


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") and _MARK.search(head) is not None


def _read_part(notes: Annotations, file: str, split: str) -> _Part:
    part = _Part(file, split)
    content = notes.json_object(file)
    if content is None:
        return part
    optional = split == "test"
    for place, record in _records(notes, file, content, "images"):
        key, text = _id(notes, place, record, "id", part.images), _text(notes, place, record, "file_name")
        path = None if text is None else notes.inner_path(place, text)
        if key is not None and path is not None:
            part.images[key] = place, path
    for place, record in _records(notes, file, content, "categories", optional):
        key, name = _id(notes, place, record, "id", part.categories), _text(notes, place, record, "name")
        if key is not None and name is not None:
            part.categories[key] = record
            part.names[key] = " ".join(name.replace("_", " ").split())
    part.names = unique_names(part.names)
    for place, record in _records(notes, file, content, "annotations", optional):
        _read_object(notes, part, place, record)
    if not optional:
        for key, (place, path) in part.images.items():
            if key not in part.labels:
                notes.wrong(place, f"{path} has no annotation, which images of {split} need")
    _find_images(notes.root, part)
    return part


def _read_object(notes: Annotations, part: _Part, place: Place, record: Mapping[str, Any]) -> None:
    image, category = _id(notes, place, record, "image_id"), _id(notes, place, record, "category_id")
    for key, known, what in ((image, part.images, "image"), (category, part.categories, "category")):
        if key is not None and key not in known:
            notes.wrong(place, f"there is no {what} with the id {_shown(key)}")
    if image not in part.images or category not in part.categories:
        return
    _, first = part.labels.setdefault(image, (place, category))
    if first != category:
        what = f"{part.images[image][1]} shows {part.names[first]} and {part.names[category]}"
        notes.wrong(place, f"{what}: this reader takes one object per image")
    if box := record.get("bbox"):
        if not isinstance(box, list) or not all(isinstance(side, int | float) for side in box):
            notes.wrong(place, "bbox should be four numbers: left, top, width and height")
        elif edges := notes.corner_box(place, box):
            part.boxes.setdefault(image, []).append(edges)


def _find_images(root: Path, part: _Part) -> None:
    """Make the paths of the images relative to root."""
    first = [path for _, path in islice(part.images.values(), _LOOKED_FOR)]
    for folder in ("", "images", Path(part.file).stem, part.split):
        if any(os.path.isfile(root / folder / path) for path in first):
            part.images = {key: (place, str(PurePosixPath(folder, path))) for key, (place, path) in part.images.items()}
            break


def _check_classes(notes: Annotations, part: _Part, index: Mapping[str, int]) -> None:
    known = set(index)
    for place, category in part.labels.values():
        name = part.names[category]
        if name not in known:
            notes.wrong(place, f"{part.split} has images of {name}, of which train has none")
            known.add(name)


def _rows(part: _Part, index: Mapping[str, int]) -> Iterator[Row]:
    for key, (place, path) in part.images.items():
        if key in part.labels:
            _, category = part.labels[key]
            yield Row(place, path, index[part.names[category]], part.split, enclosing(part.boxes.get(key, ())))
        else:
            yield Row(place, path, None, UNLABELLED)


def _levels(categories: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each level, from fine to coarse, the parent of every class. A genus that is in two families counts as two, and so on."""
    levels: dict[str, list[str]] = {}
    for rank in (*_RANKS, "supercategory"):
        parents = [category.get(rank) for category in categories]
        if all(map(_is_text, parents)):
            levels[rank] = [str(parent) for parent in parents]
    for fine, coarse in pairwise(rank for rank in _RANKS if rank in levels):
        pairs = list(zip(levels[fine], levels[coarse], strict=True))
        times = Counter(name for name, _ in set(pairs))
        levels[fine] = [name if times[name] == 1 else f"{name} ({above})" for name, above in pairs]
    return {rank: parents for rank, parents in levels.items() if 1 < len(set(parents)) < len(parents)}


def _records(
    notes: Annotations, file: str, content: Mapping[str, Any], key: str, optional: bool = False
) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """The objects of one of the lists in a file."""
    records = content.get(key, [] if optional else None)
    if not isinstance(records, list):
        notes.wrong(Place(file), f"it should hold a list called {key}")
        return
    for number, record in enumerate(records, 1):
        place = Place(file, number, f"{key} record")
        if isinstance(record, dict):
            yield place, record
        else:
            notes.wrong(place, f"it is {_shown(record)}, and should be an object")


def _id(notes: Annotations, place: Place, record: Mapping[str, Any], key: str, taken: Mapping[Id, Any] | None = None) -> Id | None:
    value = record.get(key)
    if isinstance(value, bool) or not (isinstance(value, int) or _is_text(value)):
        notes.wrong(place, f"{key} is {_shown(value)}, and should be a whole number or text")
        return None
    if taken is not None and value in taken:
        notes.wrong(place, f"the {key} {_shown(value)} has been used before")
        return None
    return value


def _text(notes: Annotations, place: Place, record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if _is_text(value):
        return value
    notes.wrong(place, f"{key} is {_shown(value)}, and should be text")
    return None


def _is_text(value: object) -> TypeGuard[str]:
    """False also for what is blank, holds a zero byte or has no UTF-8 form, as escapes in JSON may say."""
    return isinstance(value, str) and bool(value.strip()) and is_text(value)


def _shown(value: object) -> str:
    if isinstance(value, str | int | float):
        return repr(value)[:100]
    return "missing" if value is None else "a list or an object"


LAYOUT = Layout(
    name="coco",
    title="COCO JSON",
    recognise=_recognise,
    read=read,
    example="inat2019/",
)
