"""What a layout is: a name, the marks that it is recognised by, and a reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.recipe.data import LayoutName, MissingLabels, SeveralObjects
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.images import Files, Images


@dataclass(frozen=True)
class Source:
    """What a reader is given: a folder or file that is there, and how it is to be read, as `data.columns` and the like say it.

    `chosen`: whether the user named the layout. `usual_columns` are those of the data that a run was trained on, taken where a table has
    them. Data that are not `for_training` may have one class or none, and no train.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    images: str | None = None
    suffix: str | None = None
    missing_labels: MissingLabels = "words"
    several_objects: SeveralObjects = "ask"
    class_depth: int | str | None = None
    chosen: bool = False
    console: Console = field(default_factory=lambda: Console(quiet=True))
    usual_columns: Mapping[str, str] = field(default_factory=dict)
    for_training: bool = True


SETTINGS = ("columns", "images", "suffix", "missing_labels", "several_objects", "class_depth")
"""The fields of Source that are keys of `data`."""


@dataclass(frozen=True)
class Evidence:
    """The marks of a layout that were found in a folder, and those that are missing there, with what to do about it."""

    found: tuple[str, ...]
    missing: tuple[str, ...] = ()
    hint: str = "Was it downloaded and unpacked whole? data.layout=class-folders reads it as class folders all the same."


Recognise = Callable[[Path], Evidence | None]


@dataclass(frozen=True)
class Layout:
    """One way in which datasets are published.

    Args:
        name: what `data.layout` calls it.
        title: what people call it.
        recognise: the evidence that a path, which exists, is of this layout; None without any.
        read: reads the dataset. Raises InputError with all problems at once, each with its file and line.
        images: opens the images again, given the root of a dataset read before.
        example: what the user types as DATA.
        settings: the keys of `data` that mean something to it, of those that Source has.
    """

    name: LayoutName
    title: str
    recognise: Recognise
    read: Callable[[Source], Dataset]
    example: str
    images: Callable[[Path], Images] = Files
    settings: tuple[str, ...] = ()


def marks(*wanted: str) -> Recognise:
    """Recognise a folder that holds all of these files and folders. "a|b" is either; a name may be a pattern such as "*.tar"."""

    def recognise(path: Path) -> Evidence | None:
        if not path.is_dir():
            return None
        found, missing = [], []
        for mark in wanted:
            there = next((choice for choice in mark.split("|") if next(path.glob(choice), None) is not None), None)
            found.append(there) if there else missing.append(mark.replace("|", " or "))
        return Evidence(tuple(found), tuple(missing)) if found else None

    return recognise
