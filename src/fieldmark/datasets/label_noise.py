"""Labels made wrong on purpose, to measure what wrong labels cost and how many of them are found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldmark.core.randomness import key


def noisy_labels(
    labels: np.ndarray, rows: np.ndarray, classes: int, share: float, seed: int, keys: Sequence[str], parents: np.ndarray | None = None
) -> np.ndarray:
    """A copy of the labels, int32, in which round(share * n) of the `rows` have another class, drawn uniformly.

    With `parents` it is another class of the same parent, a look-alike. A class that has no other to be taken for keeps its labels, and its
    rows do not count in n. Which rows change, and to what, follows from the seed and their paths alone; a larger share changes the same
    rows in the same way, and others besides.

    Args:
        labels: integers (all rows,); those of `rows` are not -1.
        rows: integers, the rows to change among.
        share: from 0 to 1.
        keys: the path of each of `rows`, no two alike.
        parents: integers (classes,), or None if every class may be taken for every other.
    """
    assert 0 <= share <= 1 and len(keys) == len(rows) and (labels[rows] >= 0).all()
    families = np.zeros(classes, np.int64) if parents is None else np.asarray(parents)
    assert len(families) == classes
    others = {label: np.flatnonzero(families == families[label]) for label in np.unique(labels[rows]).tolist()}
    others = {label: kin[kin != label] for label, kin in others.items()}
    changeable = sorted(
        (key(seed, "mislabelled", path), path, row) for row, path in zip(rows, keys, strict=True) if len(others[labels[row]])
    )
    noisy = labels.astype(np.int32)
    for _, path, row in changeable[: round(share * len(changeable))]:
        choices = others[labels[row]]
        noisy[row] = choices[key(seed, "taken for", path) % len(choices)]
    return noisy
