"""Splits: carving the test and val that the data does not have out of its train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fieldmark.core import randomness
from fieldmark.core.errors import InputError
from fieldmark.data.dataset import SPLITS, Dataset


@dataclass(frozen=True)
class Carved:
    """A dataset that has all three splits, and where each of them comes from."""

    dataset: Dataset
    sources: dict[str, str]


class SplitRow(NamedTuple):
    """One line of the split table. `smallest` and `largest` are a class and its pictures; a class missing from the split counts with 0."""

    split: str
    classes: int
    images: int
    smallest: tuple[str, int]
    largest: tuple[str, int]
    source: str


def carve(dataset: Dataset, val_fraction: float, test_fraction: float, seed: int) -> Carved:
    """Give the dataset the splits that it lacks, drawn from train only: first test, then val from the train that remains.

    Stratified: every class gives its share rounded down or up, such that the total is as near to the fraction as that and one picture per
    class left in train allow. Which pictures is a function of the seed and of their paths alone, whatever else is in the dataset.
    Raises InputError where a split would be empty.
    """
    splits = dataset.splits.copy()
    has = {split: bool((splits == split).any()) for split in SPLITS}
    if not has["train"]:
        raise InputError(f"{dataset.name} has no pictures in train", hint="Test and val are drawn from train: add it.")
    train = dataset.rows("train")
    keys = np.zeros(len(dataset), np.int64)
    if not (has["val"] and has["test"]):
        keys[train] = [randomness.key(seed, dataset.paths[row]) for row in train]
    class_keys = np.array([randomness.key(seed, name) for name in dataset.class_names])

    sources = dict.fromkeys(SPLITS, "from the folder")
    whole = "train" if has["val"] or has["test"] else "all"
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if has[split]:
            continue
        rows = np.flatnonzero(splits == "train")
        drawn = _stratified(rows, dataset.labels[rows], keys[rows], class_keys, fraction)
        if not len(drawn):
            raise InputError(
                f"{dataset.name} is too small: {fraction:.4g} of its {len(rows)} pictures in train leave none for {split}",
                hint=f"Add pictures, raise data.{split}_fraction, or add a folder {split} with pictures of its own.",
            )
        splits[drawn] = split
        sources[split] = f"{100 * fraction:.4g} % of {whole}, stratified, seed {seed}"
        sources["train"] = "the rest"
        whole = "the remaining train"
    return Carved(replace(dataset, splits=splits), sources)


def split_table(carved: Carved) -> list[SplitRow]:
    """Train, val and test: classes that have pictures, pictures, and the smallest and largest class (the first by name among equals)."""
    dataset = carved.dataset
    table = []
    for split in SPLITS:
        counts = np.bincount(dataset.labels[dataset.rows(split)], minlength=len(dataset.class_names))
        smallest, largest = ((dataset.class_names[label], int(counts[label])) for label in (counts.argmin(), counts.argmax()))
        table.append(SplitRow(split, int((counts > 0).sum()), int(counts.sum()), smallest, largest, carved.sources[split]))
    return table


def _stratified(rows: np.ndarray, labels: np.ndarray, keys: np.ndarray, class_keys: np.ndarray, fraction: float) -> np.ndarray:
    """The rows to take: of each class those with the smallest keys, as many as `_shares` says."""
    counts = np.bincount(labels, minlength=len(class_keys))
    shares = _shares(counts, fraction, class_keys)
    order = np.lexsort((keys, labels))
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    drawn: np.ndarray = rows[order[rank < np.repeat(shares, counts)]]
    return drawn


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
