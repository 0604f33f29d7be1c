"""Views of a split dataset: less of its train, or wrong labels in it, chosen by a seed. Val and test stay as they are.

Which images a view takes is a function of the seed and of their paths, and a smaller view is a part of a larger one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fieldmark.core import randomness
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.data import FractionOfTrain, LongTailed, NoisyLabels, PerClass, Siblings, Subset, WholeTrain
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.label_noise import noisy_labels


def subset(dataset: Dataset, chosen: Subset) -> Dataset:
    """Train cut down to a share of each class, to so many images of each (few-shot), or to a long tail (Cui et al., 2019).

    No class loses its last image.
    """
    if isinstance(chosen, WholeTrain):
        return dataset
    train = dataset.rows("train")
    labels = dataset.labels[train]
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    if isinstance(chosen, FractionOfTrain):
        kept = np.rint(counts * chosen.share)
    elif isinstance(chosen, PerClass):
        kept = np.full(len(counts), chosen.count)
    else:
        kept = np.rint(counts * _tail(dataset, chosen))
    kept = np.minimum(np.maximum(kept, 1), counts).astype(np.int64)
    keys = np.array([randomness.key(chosen.seed, "subset", dataset.paths[row]) for row in train], np.int64)
    order = np.lexsort((keys, labels))
    rank = np.empty(len(train), np.int64)
    rank[order] = np.arange(len(train)) - np.repeat(np.cumsum(counts) - counts, counts)
    dropped = train[rank >= kept[labels]]
    return dataset.take(np.setdiff1d(np.arange(len(dataset)), dropped))


def _tail(dataset: Dataset, chosen: LongTailed) -> np.ndarray:
    """The share that each class keeps: from 1 for the first at random down to 1 / ratio for the last, exponentially."""
    keys = [randomness.key(chosen.seed, "tail", name) for name in dataset.class_names]
    rank = np.argsort(np.argsort(keys))
    return chosen.ratio ** (-rank / max(len(keys) - 1, 1))


def mislabelled(dataset: Dataset, noise: NoisyLabels) -> Dataset:
    """Some labels of train made wrong; `true_labels` remember them all. Raises InputError if there are no siblings to take."""
    if noise.name == "none":
        return dataset
    parents = None
    if isinstance(noise, Siblings):
        level = next((level for level in dataset.levels if noise.level in (None, level.name)), None)
        if level is None:
            known = ", ".join(level.name for level in dataset.levels) or "none"
            raise InputError(f"data.label_noise.level: {dataset.name} has no such level to find siblings by", hint=f"It has {known}.")
        parents = level.parents
    train = dataset.rows("train")
    paths = [dataset.paths[row] for row in train]
    labels = noisy_labels(dataset.labels, train, len(dataset.class_names), noise.share, noise.seed, paths, parents)
    return replace(dataset, labels=labels, true_labels=dataset.labels)
