"""The dataset: a table of images with their labels and splits, and with boxes, groups and a taxonomy if there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.core.names import in_order, suggest
from fieldmark.datasets.images import Images

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"
"""The split of images whose labels are not known, to be predicted and handed in."""
UNKNOWN = "unknown"
"""The split of images of classes that were held out of training (data.unknown_classes)."""


@dataclass(frozen=True, eq=False)
class Level:
    """A coarser naming of the classes, such as the genus of a species or the make of a car.

    `parents` are int32 (classes,): for each class the index of its name in `names`.
    """

    name: str
    names: tuple[str, ...]
    parents: np.ndarray

    @classmethod
    def of(cls, name: str, parents: Sequence[str]) -> Level:
        """From the parent's name of each class, in the order of the classes. The names are sorted, as numbers if all are."""
        names = in_order(set(parents))
        index = {each: position for position, each in enumerate(names)}
        return cls(name, tuple(names), np.array([index[parent] for parent in parents], np.int32))

    def of_classes(self) -> list[str]:
        return [self.names[parent] for parent in self.parents]


@dataclass(frozen=True, eq=False)
class Dataset:
    """One row per image, in the order of `paths`, of which no two are alike.

    Args:
        root: the folder or file that the layout reader read.
        paths: names of images that `images` understands; for files, relative to root with forward slashes.
        labels: int32 (n,), indices into `class_names`, -1 in the splits "unlabelled" and "unknown", and only there.
        splits: str (n,), each "train", "val", "test", "unlabelled" or "unknown".
        images: where the bytes are.
        boxes: float32 (n, 4): left, top, right and bottom edge of the object in pixels of the upright image, from its top left corner;
            NaN if an image has none.
        groups: int32 (n,), alike for images that belong together, such as those of one individual; -1 for none.
        levels: coarser namings of the classes.
        banner: how many rows of pixels at the bottom of every image are not part of it.
        true_labels: int32 (n,), the labels before some were made wrong on purpose.
        held_out: str (n,), in the split "unknown" the name of the image's class, elsewhere "".
        notes: what the layout reader wants the user to know, one sentence each.
    """

    name: str
    root: Path
    layout: str
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    images: Images
    boxes: np.ndarray | None = None
    groups: np.ndarray | None = None
    levels: tuple[Level, ...] = ()
    banner: int = 0
    true_labels: np.ndarray | None = None
    held_out: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.labels) == len(self.splits)
        assert self.boxes is None or self.boxes.shape == (len(self), 4)
        assert self.groups is None or self.groups.shape == (len(self),)
        assert all(len(level.parents) == len(self.class_names) for level in self.levels)
        assert ((self.labels < 0) == np.isin(self.splits, (UNLABELLED, UNKNOWN))).all()

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the images of one split, ascending, int64. Raises InputError for a split that there cannot be."""
        if split not in (*SPLITS, UNLABELLED, UNKNOWN):
            raise InputError(f"there is no split called {split!r}", hint=f"The splits are {', '.join(SPLITS)}, {UNLABELLED} and {UNKNOWN}.")
        return np.flatnonzero(self.splits == split).astype(np.int64, copy=False)

    def take(self, rows: np.ndarray) -> Dataset:
        """The dataset of these rows alone, in their order."""
        return replace(
            self,
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[rows],
            splits=self.splits[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            groups=None if self.groups is None else self.groups[rows],
            true_labels=None if self.true_labels is None else self.true_labels[rows],
            held_out=None if self.held_out is None else self.held_out[rows],
        )

    def label_names(self) -> list[str]:
        """The name of each row's class, "" if there is no label."""
        names = ["" if label < 0 else self.class_names[label] for label in self.labels]
        return names if self.held_out is None else [held or name for held, name in zip(self.held_out.tolist(), names, strict=True)]


def at_level(dataset: Dataset, name: str) -> Dataset:
    """The same images with the names of a level as their classes; levels that these classes still have a parent in stay.

    Raises InputError if the dataset has no such level.
    """
    chosen = next((level for level in dataset.levels if level.name == name), None)
    if chosen is None:
        known = ", ".join(level.name for level in dataset.levels)
        raise InputError(
            f"{dataset.name} has no level called {name!r}",
            hint=f"Its levels are {known}." if known else "It has no taxonomy; data.taxonomy gives it one.",
        )
    labels = np.where(dataset.labels < 0, -1, chosen.parents[dataset.labels]).astype(np.int32)
    first = np.array([np.flatnonzero(chosen.parents == index)[0] for index in range(len(chosen.names))])
    others = [level for level in dataset.levels if level is not chosen]
    kept = [level for level in others if (level.parents[first][chosen.parents] == level.parents).all()]
    levels = tuple(replace(level, parents=level.parents[first]) for level in kept)
    return replace(dataset, class_names=chosen.names, labels=labels, levels=levels)


def some_classes(dataset: Dataset, count: int) -> Dataset:
    """So many of the classes, evenly spread over the list of their names, and their images; unlabelled ones are left out.

    Raises InputError if the dataset has fewer.
    """
    names = dataset.class_names
    if count > len(names):
        raise InputError(f"data.classes={count}: {dataset.name} has {len(names)} classes")
    kept = np.arange(count) * len(names) // count
    labels = _renumbered(dataset, kept)
    rows = np.flatnonzero(labels >= 0)
    return replace(
        dataset.take(rows), class_names=tuple(names[index] for index in kept), labels=labels[rows], levels=_parents(dataset, kept)
    )


def hold_out(dataset: Dataset, chosen: int | Sequence[str]) -> Dataset:
    """The same with the images of some classes in the split "unknown", and those classes no longer among its own.

    `chosen` names them, or says how many, evenly spread over the list of names.
    Raises InputError for names that are none, and if fewer than two classes with images would stay.
    """
    names = dataset.class_names
    if isinstance(chosen, int):
        out = (2 * np.arange(chosen) + 1) * len(names) // (2 * chosen)
    else:
        if missing := [name for name in chosen if name not in names]:
            raise InputError(*(f"data.unknown_classes: {dataset.name} has no class {name!r}{suggest(name, names)}" for name in missing))
        out = np.array([names.index(name) for name in chosen])
    kept = np.setdiff1d(np.arange(len(names)), out)
    if len(kept) < 2:
        raise InputError(f"data.unknown_classes holds out {len(set(out.tolist()))} of the {len(names)} classes, and leaves fewer than two")
    labels = _renumbered(dataset, kept)
    gone = (dataset.labels >= 0) & (labels < 0)
    return replace(
        dataset,
        class_names=tuple(names[index] for index in kept),
        labels=labels,
        splits=np.where(gone, UNKNOWN, dataset.splits),
        levels=_parents(dataset, kept),
        held_out=np.array([name if held else "" for name, held in zip(dataset.label_names(), gone, strict=True)], np.str_),
    )


def _renumbered(dataset: Dataset, kept: np.ndarray) -> np.ndarray:
    """The labels when only these classes are left: int32 (n,), -1 for the others'."""
    labels = np.full(len(dataset.class_names) + 1, -1, np.int32)  # the last is what -1, no label, picks
    labels[kept] = np.arange(len(kept))
    return labels[dataset.labels]


def _parents(dataset: Dataset, kept: np.ndarray) -> tuple[Level, ...]:
    """The levels of these classes alone."""
    return tuple(Level.of(level.name, [level.names[parent] for parent in level.parents[kept]]) for level in dataset.levels)
