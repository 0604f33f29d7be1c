"""COCO JSON for classification: as iNaturalist (Van Horn et al., 2018) and COCO are published, and as annotation tools export it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeGuard

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, is_text
from fieldmark.datasets.layouts.class_names import unique_names
from fieldmark.datasets.layouts.coco_files import coco_files, image_paths, root_of
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.several_objects import Marked, Object, remarks, settle

_RANKS = ("genus", "family", "order", "class", "phylum", "kingdom")

Id = int | str


@dataclass
class _Part:
    """One file: images, categories and the objects in the images, by their ids."""

    file: str
    split: str
    images: dict[Id, tuple[Place, str]] = field(default_factory=dict)
    categories: dict[Id, Mapping[str, Any]] = field(default_factory=dict)
    names: dict[Id, str] = field(default_factory=dict)
    objects: dict[Id, list[Object]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def marked(self) -> list[Marked]:
        return [Marked(place, path, self.split, tuple(self.objects.get(key, ()))) for key, (place, path) in self.images.items()]


def read(source: Source) -> Dataset:
    """Read the files that `coco_files` finds: one, or one for each split.

    An image has the label of its objects, and a box around all of them; without any it is unlabelled. If they are of several categories,
    `data.several_objects` says what happens. Objects that are crowds do not count. A box that is empty, or is none, is left out.
    Classes are the categories that images have, in the order of train's, and are matched by name. The levels are those of genus, family,
    order, class, phylum, kingdom and supercategory that every class has and that tell some of them apart, but not all. Where images are,
    `image_paths` finds out.
    """
    notes = Annotations(root_of(source.path))
    files = coco_files(source.path)
    if not files:
        notes.wrong(Place("train*.json"), "there is no such file, nor another in COCO's form")
    for split, (first, *others) in files.items():
        for other in others:
            notes.wrong(Place(other), f"it is {split}, and so is {first}: keep one of them here, or give one as DATA")
    notes.check()
    parts = [_read_part(notes, found[0], split) for split, found in files.items()]
    notes.check()
    marked = [each for part in parts for each in part.marked()]
    said = list(remarks(marked, source.several_objects))
    images = settle(marked, source.several_objects)

    categories: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        used = {each.objects[0].name for each in images if each.split == part.split and each.objects}
        for key in (key for key in part.categories if part.names[key] in used):
            categories.setdefault(part.names[key], part.categories[key])
    index = {name: position for position, name in enumerate(categories)}
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=list(categories),
        rows=[each.row(index) for each in images],
        levels=_levels(list(categories.values())),
        notes=[*_remarks(parts, index), *said],
    )


def _recognise(path: Path) -> Evidence | None:
    if not path.is_dir() and path.suffix.lower() != ".json":
        return None
    files = coco_files(path)
    found = tuple(file for named in files.values() for file in named)
    return Evidence(found, () if "train" in files or not path.is_dir() else ("train*.json",)) if found else None


def _read_part(notes: Annotations, file: str, split: str) -> _Part:
    part = _Part(file, split)
    content = notes.json_object(file)
    if content is None:
        return part
    optional = split == "test"
    listed: dict[Id, tuple[Place, str]] = {}
    for place, record in _records(notes, file, content, "images"):
        key, text = _id(notes, place, record, "id", listed), _text(notes, place, record, "file_name")
        if key is not None and text is not None:
            listed[key] = place, text
    paths, part.remarks = image_paths(notes.root, file, split, [text for _, text in listed.values()])
    for key, (place, text) in listed.items():
        if (path := notes.inner_path(place, paths[text])) is not None:
            part.images[key] = place, path
    for place, record in _records(notes, file, content, "categories", optional):
        key, name = _id(notes, place, record, "id", part.categories), _text(notes, place, record, "name")
        if key is not None and name is not None:
            part.categories[key] = record
            part.names[key] = " ".join(name.replace("_", " ").split())
    part.names = unique_names(part.names)
    for place, record in _records(notes, file, content, "annotations", optional):
        _read_object(notes, part, place, record)
    return part


def _read_object(notes: Annotations, part: _Part, place: Place, record: Mapping[str, Any]) -> None:
    image, category = _id(notes, place, record, "image_id"), _id(notes, place, record, "category_id")
    for key, known, what in ((image, part.images, "image"), (category, part.categories, "category")):
        if key is not None and key not in known:
            notes.wrong(place, f"there is no {what} with the id {_shown(key)}")
    if image not in part.images or category not in part.categories or record.get("iscrowd") == 1:
        return
    box = no_box = None
    if sides := record.get("bbox"):
        if isinstance(sides, list) and all(isinstance(side, int | float) for side in sides):
            box = Annotations(notes.root).corner_box(place, sides)  # what is wrong with it is no reason to refuse the image
        no_box = place if box is None else None
    part.objects.setdefault(image, []).append(Object(part.names[category], box, no_box))


def _remarks(parts: Sequence[_Part], classes: Collection[str]) -> Iterator[str]:
    labelled = [part.split for part in parts if part.objects]
    if len(parts) > 1 or parts[0].split in parts[0].file.lower():
        yield f"its official splits are used: {', '.join(labelled)}"
    else:
        yield f"{parts[0].file} says no split: all of it is train"
    yield from chain.from_iterable(part.remarks for part in parts)
    names = parts[0].names.values()
    if dropped := sum(name not in classes for name in names):
        yield f"{dropped:,} of {len(names):,} categories have no image in train and are left out"


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
    settings=("several_objects",),
)
