"""Splits: drawing the test and val that the data does not have from its train, groups and copies together, and k-fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fieldmark.core import randomness
from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import SPLITS, Dataset


@dataclass(frozen=True)
class Carved:
    """A dataset that has all three splits, and where each of them comes from."""

    dataset: Dataset
    sources: dict[str, str]

    @property
    def is_drawn(self) -> bool:
        """Whether any split was drawn."""
        return set(self.sources.values()) != {_OF_THE_DATA}


_OF_THE_DATA = "from the data"


class SplitRow(NamedTuple):
    """One line of the split table. `smallest` and `largest` are a class and its images; a class missing from the split counts with 0.

    `groups`: how many there are, an image alone being one; None without groups.
    """

    split: str
    classes: int
    images: int
    smallest: tuple[str, int]
    largest: tuple[str, int]
    source: str
    groups: int | None = None


@dataclass(frozen=True)
class Folds:
    """K-fold: train is dealt into `count` folds, and the one numbered `chosen`, from 0, is val."""

    count: int
    chosen: int


def own_splits(dataset: Dataset) -> Dataset:
    """The same with every labelled image in train, so that val and test are drawn anew."""
    return replace(dataset, splits=np.where(dataset.labels < 0, dataset.splits, "train"))


def straddling(groups: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """The groups that have images in more than one split, in ascending order, of int (n,) with -1 for an image alone, and str (n,)."""
    grouped = groups >= 0
    _, split = np.unique(splits[grouped], return_inverse=True)
    found, times = np.unique(np.unique(np.stack([groups[grouped], split]), axis=1)[0], return_counts=True)
    return found[times > 1]


def carve(
    dataset: Dataset,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    folds: Folds | None = None,
    hashes: Sequence[str] | None = None,
) -> Carved:
    """Give the dataset the splits that it lacks, drawn from train only: first test, then val from the train that remains.

    Stratified: every class gives its share rounded down or up, such that the total is as near to the fraction as that and one image per
    class left in train allow. Which images is a function of the seed and of their paths alone, whatever else is in the dataset. The
    images of a group go together, each class then giving as near to its share as whole groups allow. With `hashes` of all images' bytes,
    copies go together as well and count as one image; those that have several labels stay in train. With `folds`, val is one of them.
    Raises InputError if a split would be empty, or if there are folds and a val already.
    """
    splits = dataset.splits.astype("<U10")
    has = {split: bool((splits == split).any()) for split in SPLITS}
    if not has["train"]:
        raise InputError(f"{dataset.name} has no images in train", hint="Test and val are drawn from train: add it.")
    if folds is not None and has["val"]:
        raise InputError(f"{dataset.name} has a val, so it is not dealt into folds", hint="data.splits=own draws all splits anew.")
    sources = dict.fromkeys(SPLITS, _OF_THE_DATA)
    whole = "train" if has["val"] or has["test"] else "all"
    units = None if has["val"] and has["test"] else _units(dataset, dataset.rows("train"), seed, hashes)
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if has[split]:
            continue
        assert units is not None
        remaining = units.of(splits == "train")
        if split == "val" and folds is not None:
            drawn = remaining.rows(_fold_of(remaining, folds.count) == folds.chosen)
            share, source = 1 / folds.count, f"fold {folds.chosen} of {folds.count} of {whole}"
        else:
            drawn = remaining.rows(_stratified(remaining, fraction))
            share, source = fraction, f"{100 * fraction:.4g} % of {whole}"
        if not len(drawn):
            raise InputError(
                f"{dataset.name} is too small: {share:.4g} of its {len(remaining.member)} images in train leave none for {split}",
                hint=f"Add images, raise data.{split}_fraction, or add a folder {split} with images of its own.",
            )
        splits[drawn] = split
        sources[split] = f"{source}, stratified{units.kept_together}, seed {seed}"
        sources["train"] = "the rest"
        whole = "the remaining train"
    return Carved(replace(dataset, splits=splits), sources)


def split_table(carved: Carved) -> list[SplitRow]:
    """Train, val and test."""
    dataset = carved.dataset
    rows = {split: dataset.rows(split) for split in SPLITS}
    groups = {split: None if dataset.groups is None else dataset.groups[each] for split, each in rows.items()}
    return [split_row(each, dataset.labels[rows[each]], dataset.class_names, carved.sources[each], groups[each]) for each in SPLITS]


def split_row(split: str, labels: np.ndarray, class_names: Sequence[str], source: str = "", groups: np.ndarray | None = None) -> SplitRow:
    """The row of images with these labels, int (n,) in [0, C), and groups, int (n,) with -1 for an image alone.

    Of classes with equally many images, the first is named.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    smallest, largest = ((class_names[label], int(counts[label])) for label in (int(counts.argmin()), int(counts.argmax())))
    grouped = None if groups is None else len(np.unique(groups[groups >= 0])) + int((groups < 0).sum())
    return SplitRow(split, int((counts > 0).sum()), int(counts.sum()), smallest, largest, source, grouped)


@dataclass(frozen=True)
class _Units:
    """What is drawn whole: images, or groups of them.

    Of each unit its class, its number of images (copies count once), a random key, and whether it may be drawn from train; of each image
    that belongs to one (`member`, rows of the dataset) the unit (`unit`). `class_keys` are random keys of all classes. `kept_together`
    says what the units are.
    """

    labels: np.ndarray
    sizes: np.ndarray
    keys: np.ndarray
    free: np.ndarray
    class_keys: np.ndarray
    member: np.ndarray
    unit: np.ndarray
    kept_together: str

    def of(self, rows: np.ndarray) -> _Units:
        """Only the units whose images are among the rows (bool, one for each image of the dataset)."""
        kept = rows[self.member]
        present, unit = np.unique(self.unit[kept], return_inverse=True)
        labels, sizes, keys, free = (column[present] for column in (self.labels, self.sizes, self.keys, self.free))
        return _Units(labels, sizes, keys, free, self.class_keys, self.member[kept], unit, self.kept_together)

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """The images of the chosen units (bool)."""
        return self.member[chosen[self.unit]]

    def counts(self) -> np.ndarray:
        """Images of each class."""
        return np.bincount(self.labels, self.sizes, len(self.class_keys)).astype(np.int64)

    def in_order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index, class and size of each unit, by class and at random within it."""
        order = np.lexsort((self.keys, self.labels))
        return order, self.labels[order], self.sizes[order]


def _units(dataset: Dataset, rows: np.ndarray, seed: int, hashes: Sequence[str] | None) -> _Units:
    keys = np.array([randomness.key(seed, dataset.paths[row]) for row in rows], np.int64)
    class_keys = np.array([randomness.key(seed, name) for name in dataset.class_names])
    labels = dataset.labels[rows]
    groups = np.full(len(rows), -1) if dataset.groups is None else dataset.groups[rows]
    images = copies(hashes, rows)
    grouped, copied = bool((groups >= 0).any()), bool((images >= 0).any())
    if not grouped and not copied:
        ones, each = np.ones(len(rows), np.int64), np.arange(len(rows))
        return _Units(labels, ones, keys, ones > 0, class_keys, rows, each, "")
    images = _each_alone(images)
    unit = _joined(_each_alone(groups), images)
    sizes = np.bincount(np.unique(np.stack([unit, images]), axis=1)[0])
    free = np.ones(len(sizes), bool)
    named = np.unique(np.stack([images, labels]), axis=1)[0]
    free[unit[np.isin(images, named[1:][named[1:] == named[:-1]])]] = False
    pairs, times = np.unique(np.stack([unit, labels]), axis=1, return_counts=True)
    by_times = np.argsort(times, kind="stable")
    unit_labels = np.empty(len(sizes), np.int64)
    unit_labels[pairs[0, by_times]] = pairs[1, by_times]  # the commonest class of a group comes last, and stays
    unit_keys = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(unit_keys, unit, keys)
    return _Units(unit_labels, sizes, unit_keys, free, class_keys, rows, unit, ", whole groups" * grouped + ", copies together" * copied)


def copies(hashes: Sequence[str] | None, rows: np.ndarray) -> np.ndarray:
    """Which of these rows are copies of one another, by the hashes of all images' bytes: int (n,), alike for copies, -1 for all others."""
    if hashes is None:
        return np.full(len(rows), -1)
    content = np.array(hashes, np.str_)[rows]
    _, image, times = np.unique(content, return_inverse=True, return_counts=True)
    return np.where((times[image] > 1) & (content != ""), image, -1)


def _each_alone(identities: np.ndarray) -> np.ndarray:
    """The same with a number of its own in place of each -1, and all numbers in a row from 0."""
    alone = np.where(identities < 0, identities.max(initial=0) + 1 + np.arange(len(identities)), identities)
    return np.unique(alone, return_inverse=True)[1]


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What is connected by being alike in `one` or in `other`, directly or through others: int (n,), numbers in a row from 0."""
    first = int(one.max()) + 1
    nodes = first + int(other.max()) + 1
    edges = coo_array((np.ones(len(one), np.int8), (one, first + other)), shape=(nodes, nodes))
    return connected_components(edges, directed=False)[1][one]


def _stratified(units: _Units, fraction: float) -> np.ndarray:
    """Which units to take, bool: of each class the first ones at random that bring it nearer to what `_shares` says."""
    counts = units.counts()
    shares, left = _shares(counts, fraction, units.class_keys).tolist(), counts.tolist()
    chosen = np.zeros(len(units.labels), bool)
    for index, label, size in zip(*(column.tolist() for column in units.in_order()), strict=True):
        if units.free[index] and size <= 2 * shares[label] and size < left[label]:
            chosen[index] = True
            shares[label] -= size
            left[label] -= size
    return chosen


def _fold_of(units: _Units, folds: int) -> np.ndarray:
    """The fold of each unit, from 0; -1 for what stays in train: the only unit of a class, and what may not be drawn.

    Each unit goes to the fold with the fewest images of its class so far, among equals to the one with the fewest images.
    """
    fold = np.full(len(units.labels), -1)
    alone = np.bincount(units.labels, minlength=len(units.class_keys)) < 2
    of_class, total = [0] * folds, [0] * folds
    current = -1
    for index, label, size in zip(*(column.tolist() for column in units.in_order()), strict=True):
        if label != current:
            of_class, current = [0] * folds, label
        if units.free[index] and not alone[label]:
            chosen = min(range(folds), key=lambda each: (of_class[each], total[each]))
            fold[index] = chosen
            of_class[chosen] += size
            total[chosen] += size
    return fold


def _shares(counts: np.ndarray, fraction: float, class_keys: np.ndarray) -> np.ndarray:
    """Largest-remainder allocation (Hamilton's method) of round(fraction * total), at most count - 1 of each class.

    Equal remainders are settled by `class_keys`, so that many small classes do not all round the same way.
    """
    quotas = np.round(fraction * counts, 9)
    most = np.maximum(counts - 1, 0)
    shares: np.ndarray = np.minimum(np.floor(quotas).astype(np.int64), most)
    missing = max(int(fraction * counts.sum() + 0.5) - int(shares.sum()), 0)
    can_grow = (quotas > shares) & (shares < most)
    by_remainder = np.lexsort((class_keys, shares - quotas))
    shares[by_remainder[can_grow[by_remainder]][:missing]] += 1
    return shares
