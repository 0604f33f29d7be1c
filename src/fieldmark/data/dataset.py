"""The dataset: a table of pictures with their labels and splits, and with boxes, groups and a taxonomy where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.data.pictures import Pictures

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"
"""The split of pictures whose labels are not known, to be predicted and handed in."""


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
        """From the parent's name of each class, in the order of the classes. The names are sorted."""
        names, indices = np.unique(np.array(parents, np.str_), return_inverse=True)
        return cls(name, tuple(names.tolist()), indices.astype(np.int32))

    def of_classes(self) -> list[str]:
        return [self.names[parent] for parent in self.parents]


@dataclass(frozen=True, eq=False)
class Dataset:
    """One row per picture, in the order of `paths`, of which no two are alike.

    Args:
        root: the folder or file that the layout reader read.
        paths: names of pictures that `pictures` understands; for files, relative to root with forward slashes.
        labels: int32 (n,), indices into `class_names`, -1 in the split "unlabelled" and only there.
        splits: str (n,), each "train", "val", "test" or "unlabelled".
        pictures: where the bytes are.
        boxes: float32 (n, 4): left, top, right and bottom edge of the object in pixels of the upright picture, from its top left corner;
            NaN where a picture has none.
        groups: int32 (n,), alike for pictures that belong together, such as those of one individual; -1 for none.
        levels: coarser namings of the classes.
        banner: how many rows of pixels at the bottom of every picture are not part of it.
        true_labels: int32 (n,), the labels before some were made wrong on purpose.
        notes: what the layout reader wants the user to know, one sentence each.
    """

    name: str
    root: Path
    layout: str
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    pictures: Pictures
    boxes: np.ndarray | None = None
    groups: np.ndarray | None = None
    levels: tuple[Level, ...] = ()
    banner: int = 0
    true_labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.labels) == len(self.splits)
        assert self.boxes is None or self.boxes.shape == (len(self), 4)
        assert self.groups is None or self.groups.shape == (len(self),)
        assert all(len(level.parents) == len(self.class_names) for level in self.levels)
        assert ((self.labels < 0) == (self.splits == UNLABELLED)).all()

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the pictures of one split, ascending, int64. Raises InputError for a split that there cannot be."""
        if split not in (*SPLITS, UNLABELLED):
            raise InputError(f"there is no split called {split!r}", hint=f"The splits are {', '.join(SPLITS)} and {UNLABELLED}.")
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
        )

    def label_names(self) -> list[str]:
        """The name of each row's class, "" where it is not known."""
        return ["" if label < 0 else self.class_names[label] for label in self.labels]


def at_level(dataset: Dataset, name: str) -> Dataset:
    """The same pictures with the names of a level as their classes; levels that these classes still have a parent in stay.

    Raises InputError where the dataset has no such level.
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
    """So many of the classes, evenly spread over the list of their names, and their pictures; unlabelled ones are left out.

    Raises InputError where the dataset has fewer.
    """
    names = dataset.class_names
    if count > len(names):
        raise InputError(f"data.classes={count}: {dataset.name} has {len(names)} classes")
    kept = np.arange(count) * len(names) // count
    labels = np.full(len(names) + 1, -1, np.int32)  # the last is what -1, no label, picks
    labels[kept] = np.arange(count)
    few = dataset.take(np.flatnonzero(labels[dataset.labels] >= 0))
    levels = tuple(Level.of(level.name, [level.names[parent] for parent in level.parents[kept]]) for level in dataset.levels)
    return replace(few, class_names=tuple(names[index] for index in kept), labels=labels[few.labels], levels=levels)
