"""Food-101 (Bossard et al., 2014): 101 dishes, official train and test."""

from __future__ import annotations

from collections.abc import Iterator

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row
from fieldmark.datasets.layouts.class_names import readable
from fieldmark.datasets.layouts.layout import Layout, Source, marks


def read(source: Source) -> Dataset:
    """Read meta/train.txt and meta/test.txt, or the .json files of these names: lines such as apple_pie/1005649, without .jpg.

    Classes are in the order of meta/classes.txt, which gives their folders, with the names in the same lines of meta/labels.txt; without
    it they are the folders of train.
    """
    notes = Annotations(source.path)
    listed = [(place, text, split) for split in ("train", "test") for place, text in _listed(notes, split)]
    images = []
    for place, text, split in listed:
        path = notes.inner_path(place, f"{text}.jpg", "images")
        folder = text.rpartition("/")[0]
        if not folder:
            notes.wrong(place, f"{text!r:.200} should be a class and an image, such as apple_pie/1005649")
        elif path is not None:
            images.append((place, path, folder, split))
    named = _lines_of(notes, "meta/classes.txt")
    folders = named or sorted({folder for _, _, folder, split in images if split == "train"})
    index = {folder: position for position, folder in enumerate(folders)}
    for place, _, folder, _ in images:
        if folder not in index:
            notes.wrong(place, f"there is no class {folder!r:.200} in {'meta/classes.txt' if named else 'train'}")
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=_names(notes, folders),
        rows=[Row(place, path, index[folder], split) for place, path, folder, split in images if folder in index],
        notes=["its official splits are used: train, test"],
    )


def _listed(notes: Annotations, split: str) -> Iterator[tuple[Place, str]]:
    if (notes.root / f"meta/{split}.txt").is_file():
        yield from ((line.place, line.text.strip()) for line in notes.lines(f"meta/{split}.txt"))
        return
    file = f"meta/{split}.json"
    for name, images in (notes.json_object(file) or {}).items():
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            notes.wrong(Place(file), f"{name!r:.200} should be a list of images")
            continue
        yield from ((Place(file), image) for image in images)


def _names(notes: Annotations, folders: list[str]) -> list[str]:
    """The names in meta/labels.txt, if it has one for each class, otherwise those of the folders."""
    names = _lines_of(notes, "meta/labels.txt")
    return names if len(names) == len(folders) == len(set(names)) else readable(folders)


def _lines_of(notes: Annotations, file: str) -> list[str]:
    """None if the file is not there."""
    return [line.text.strip() for line in notes.lines(file)] if (notes.root / file).is_file() else []


LAYOUT = Layout(
    name="food101",
    title="Food-101",
    recognise=marks("meta/train.txt|meta/train.json", "meta/test.txt|meta/test.json", "meta/classes.txt|meta/labels.txt", "images"),
    read=read,
    example="food-101/",
)
