from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.datasets.label_noise import noisy_labels


def paths_of(rows: np.ndarray) -> list[str]:
    return [f"train/{row}.jpg" for row in rows]


@st.composite
def labelled(draw):
    """(labels, rows, classes, parents)"""
    classes = draw(st.integers(1, 6))
    labels = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=40)), np.int32)
    rows = np.array(draw(st.lists(st.integers(0, len(labels) - 1), unique=True)), np.int64)
    parents = draw(st.none() | st.lists(st.integers(0, 3), min_size=classes, max_size=classes).map(np.array))
    return labels, rows, classes, parents


SHARES = st.floats(0, 1)
SEEDS = st.integers(0, 2**62)


@given(labelled(), SHARES, SEEDS)
def test_exactly_the_share_of_the_rows_that_can_change_does(data, share, seed):
    labels, rows, classes, parents = data
    before = labels.copy()
    noisy = noisy_labels(labels, rows, classes, share, seed, paths_of(rows), parents)
    families = [0] * classes if parents is None else parents.tolist()
    can_change = [row for row in rows if families.count(families[labels[row]]) > 1]
    changed = np.flatnonzero(noisy != labels)
    assert len(changed) == round(share * len(can_change)) and set(changed) <= set(can_change)
    assert noisy.dtype == np.int32 and noisy.min() >= 0 and noisy.max() < classes
    assert all(families[noisy[row]] == families[labels[row]] for row in changed)
    assert (labels == before).all()


@given(labelled(), SHARES, SHARES, SEEDS)
def test_a_larger_share_changes_the_same_rows_alike_and_others_besides(data, one, other, seed):
    labels, rows, classes, parents = data
    fewer, more = (noisy_labels(labels, rows, classes, share, seed, paths_of(rows), parents) for share in sorted((one, other)))
    changed = fewer != labels
    assert (more[changed] == fewer[changed]).all()


@given(labelled(), SHARES, SEEDS, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_other_rows_matter(data, share, seed, random):
    labels, rows, classes, parents = data
    noisy = noisy_labels(labels, rows, classes, share, seed, paths_of(rows), parents)
    order = random.sample(range(len(rows)), len(rows))
    assert (noisy == noisy_labels(labels, rows[order], classes, share, seed, paths_of(rows[order]), parents)).all()
    before_others = np.concatenate([[0, 0], labels])
    assert (noisy == noisy_labels(before_others, rows + 2, classes, share, seed, paths_of(rows), parents)[2:]).all()


def test_every_other_class_is_as_likely():
    labels, rows = np.zeros(30_000, np.int64), np.arange(30_000)
    counts = np.bincount(noisy_labels(labels, rows, 4, 0.5, 1, paths_of(rows)), minlength=4)
    assert counts[0] == 15_000
    assert np.abs(counts[1:] - 5_000).max() < 5 * (15_000 * 2 / 9) ** 0.5


def test_which_rows_change_has_nothing_to_do_with_what_they_become():
    labels, rows = np.zeros(30_000, np.int64), np.arange(30_000)
    first = noisy_labels(labels, rows, 3, 0.1, 1, paths_of(rows))
    assert abs((first == 1).sum() - 1_500) < 5 * 750**0.5


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_another_seed_changes_other_rows(share):
    labels, rows = np.zeros(10_000, np.int64), np.arange(10_000)
    one, other = (noisy_labels(labels, rows, 3, share, seed, paths_of(rows)) != 0 for seed in (1, 2))
    assert abs((one & other).mean() - share**2) < 0.02


def test_unlabelled_rows_stay_and_other_rows_too():
    labels = np.array([-1, 0, 1, 2, 0, -1])
    noisy = noisy_labels(labels, np.array([1, 2]), 3, 1.0, 0, ["a", "b"])
    assert noisy[[0, 3, 4, 5]].tolist() == [-1, 2, 0, -1]
    assert noisy[1] != 0 and noisy[2] != 1


def test_one_known_answer():
    """Where this fails, runs on noisy labels can no longer be compared with those before."""
    labels = np.arange(12) % 4
    noisy = noisy_labels(labels, np.arange(12), 4, 0.5, 7, [f"{row}.png" for row in range(12)])
    assert noisy.tolist() == [2, 1, 2, 0, 2, 1, 1, 1, 0, 1, 0, 3]
