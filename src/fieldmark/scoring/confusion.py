"""Which classes are taken for one another, and an order of the classes in which that can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from fieldmark.scoring.metrics import check_answers

_MOST_ORDERED = 1000
"""Classes up to which leaves are put in their optimal order: a second for 1,000, and the third power of their number beyond."""


@dataclass(frozen=True)
class Pair:
    """Two classes by index, `one` < `other`, and how many images of each were taken for the other one."""

    one: int
    other: int
    one_as_other: int
    other_as_one: int
    total: int


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class (row) were taken for each class (column): int64 (C, C + 1).

    labels: int (n,) in [0, C); predicted: int (n,) in [-1, C), -1 for no answer, which the last column counts.
    Raises InputError where there are no images, and ValueError where shapes or classes do not fit.
    """
    check_answers(predicted, labels, classes)
    columns = np.where(predicted < 0, classes, predicted).astype(np.int64)
    return np.bincount(labels.astype(np.int64) * (classes + 1) + columns, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def worst_pairs(matrix: np.ndarray, count: int) -> list[Pair]:
    """The `count` pairs of classes that are confused the most in a confusion matrix, both ways together; fewer where fewer are.

    Of equals the pair with the smaller indices comes first.
    """
    taken = _confusions(matrix)
    ones, others = np.nonzero(np.triu(taken + taken.T))
    totals = taken[ones, others] + taken[others, ones]
    first = np.argsort(-totals, kind="stable")[:count]
    rows = np.column_stack([ones, others, taken[ones, others], taken[others, ones], totals])[first]
    return [Pair(*row) for row in rows.tolist()]


def cluster_order(matrix: np.ndarray) -> np.ndarray:
    """An order of the classes of a confusion matrix that puts those next to one another that are confused: int64 (C,).

    The leaves of average linkage (Sokal and Michener 1958) on the mean of both rates of confusion, in their optimal order (Bar-Joseph,
    Gifford and Jaakkola, Bioinformatics 2001) for up to 1,000 classes. Classes that are never confused come last, in their own order.
    """
    confused, _, leaves = _clustered(matrix)
    alone = np.setdiff1d(np.arange(len(matrix)), confused)
    return np.concatenate([leaves, alone])


def blocks(matrix: np.ndarray, largest: int = 10, count: int = 6) -> list[np.ndarray]:
    """Groups of 2 to `largest` classes of a confusion matrix that are confused with one another: at most `count`, int64 (classes,) each.

    They are the largest branches of that size of the tree of `cluster_order`, in whose order their classes stand, so that no class is in
    two; those with the most confusions inside come first, of equals the one that comes first in that order.
    """
    confused, tree, leaves = _clustered(matrix)
    taken = _confusions(matrix)
    branches: dict[int, np.ndarray] = {leaf: confused[[leaf]] for leaf in range(len(confused))}
    for node, (left, right) in enumerate(tree[:, :2].astype(int).tolist(), start=len(confused)):
        if left in branches and right in branches and len(branches[left]) + len(branches[right]) <= largest:
            one, other = branches[left], branches[right]
            if taken[np.ix_(one, other)].any() or taken[np.ix_(other, one)].any():
                branches[node] = np.concatenate([one, other])
                del branches[left], branches[right]
    found = [leaves[np.isin(leaves, branch)] for branch in branches.values() if len(branch) > 1]
    found.sort(key=lambda branch: leaves.tolist().index(branch[0]))
    return sorted(found, key=lambda branch: -int(taken[np.ix_(branch, branch)].sum()))[:count]


def _clustered(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes that are confused at all, the tree of them, as scipy's linkage gives it, and its leaves as classes, in order."""
    taken = _confusions(matrix)
    confused = np.flatnonzero(taken.any(axis=0) | taken.any(axis=1))
    if not len(confused):
        return confused, np.zeros((0, 4)), confused
    rates = taken / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    distances = squareform(1 - (rates + rates.T)[np.ix_(confused, confused)] / 2, checks=False)
    tree = linkage(distances, "average")
    if len(confused) <= _MOST_ORDERED:
        tree = optimal_leaf_ordering(tree, distances)
    return confused, tree, confused[leaves_list(tree)]


def _confusions(matrix: np.ndarray) -> np.ndarray:
    """The matrix of classes against classes without its diagonal."""
    taken = matrix[:, : len(matrix)].copy()
    np.fill_diagonal(taken, 0)
    return taken
