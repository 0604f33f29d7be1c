from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fieldmark.core.errors import InputError
from fieldmark.scoring import confusion
from fieldmark.scoring.confusion import Pair

matrices = st.integers(1, 9).flatmap(lambda classes: arrays(np.int64, (classes, classes + 1), elements=st.sampled_from([0, 0, 0, 1, 2, 9])))


def answers(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n).astype(np.int32), rng.integers(-1, classes, n)


def families(sizes: tuple[int, ...], seed: int) -> tuple[np.ndarray, list[set[int]]]:
    """Classes in families that are confused inside alone, the classes shuffled; and which those are."""
    rng = np.random.default_rng(seed)
    family = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    same = family[:, None] == family
    matrix = np.where(same, rng.integers(2, 6, same.shape), 0)
    np.fill_diagonal(matrix, 100)
    return np.pad(matrix, ((0, 0), (0, 1))), [set(np.flatnonzero(family == each).tolist()) for each in range(len(sizes))]


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 8))
def test_the_matrix_agrees_with_scikit_learn(seed: int, n: int, classes: int) -> None:
    labels, predicted = answers(seed, n, classes)
    matrix = confusion.confusion_matrix(labels, predicted, classes)
    known = predicted >= 0
    assert matrix.dtype == np.int64 and matrix.shape == (classes, classes + 1)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=classes))
    np.testing.assert_array_equal(matrix[:, -1], np.bincount(labels[~known], minlength=classes))
    if known.any():
        expected = sklearn.metrics.confusion_matrix(labels[known], predicted[known], labels=np.arange(classes))
        np.testing.assert_array_equal(matrix[:, :-1], expected)


def test_small_integers_do_not_overflow() -> None:
    labels = np.array([0, 99, 99], np.int8)
    assert confusion.confusion_matrix(labels, np.array([1, 99, -1], np.int8), 100)[99, 99:].tolist() == [1, 1]


@given(matrices, st.integers(0, 40))
def test_the_worst_pairs_agree_with_a_loop(matrix: np.ndarray, count: int) -> None:
    classes = len(matrix)
    every = [
        Pair(one, other, int(matrix[one, other]), int(matrix[other, one]), int(matrix[one, other] + matrix[other, one]))
        for one in range(classes)
        for other in range(one + 1, classes)
    ]
    expected = sorted((each for each in every if each.total), key=lambda each: (-each.total, each.one, each.other))[:count]
    assert confusion.worst_pairs(matrix, count) == expected


@given(matrices)
def test_the_order_holds_each_class_once_and_those_never_confused_last(matrix: np.ndarray) -> None:
    order = confusion.cluster_order(matrix)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(matrix)))
    taken = matrix[:, :-1] * (1 - np.eye(len(matrix), dtype=int))
    alone = [each for each in range(len(matrix)) if not taken[each].any() and not taken[:, each].any()]
    assert order.tolist()[len(matrix) - len(alone) :] == alone
    np.testing.assert_array_equal(confusion.cluster_order(matrix.copy()), order)


@pytest.mark.parametrize("seed", range(5))
def test_classes_that_are_confused_stand_together(seed: int) -> None:
    matrix, members = families((3, 4, 6, 9, 1, 1), seed)
    place = np.argsort(confusion.cluster_order(matrix))
    for each in members[:4]:
        places = sorted(place[list(each)].tolist())
        assert places[-1] - places[0] == len(each) - 1
    assert {place[min(members[4])], place[min(members[5])]} == {22, 23}


def test_neighbours_in_the_order_are_the_most_confused() -> None:
    """A chain in which each class is confused with the next, shuffled: the order finds the chain, forwards or backwards."""
    rng = np.random.default_rng(0)
    chain = rng.permutation(12)
    matrix = np.diag(np.full(12, 50))
    for step, (one, other) in enumerate(pairwise(chain.tolist())):
        matrix[one, other] = 20 - step
    order = confusion.cluster_order(matrix).tolist()
    assert order in (chain.tolist(), chain.tolist()[::-1])


def test_rates_count_and_not_numbers_of_images() -> None:
    matrix = np.diag([1000, 10, 10, 1000])
    matrix[0, 3] = matrix[3, 0] = 6  # more images, but rarely
    matrix[1, 2] = matrix[2, 1] = 5
    matrix[0, 1] = 1
    found = confusion.blocks(matrix, largest=2, count=1) + confusion.blocks(matrix, largest=2)[1:]
    assert [sorted(each.tolist()) for each in found] == [[0, 3], [1, 2]]
    matrix[3, 2] = 1
    tree = confusion.blocks(matrix, largest=2)
    assert [1, 2] in [sorted(each.tolist()) for each in tree]
    unanswered = np.column_stack([matrix, [0, 10_000, 10_000, 0]])  # images without an answer make the rates of 1 and 2 the lowest
    unanswered[0, 2] = 30
    assert sorted(confusion.blocks(unanswered, largest=2)[0].tolist()) == [0, 2]
    answered = np.column_stack([matrix, np.zeros(4, int)])
    answered[0, 2] = 30
    assert [sorted(each.tolist()) for each in confusion.blocks(answered, largest=2)][-1] == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_the_blocks_are_the_families(seed: int) -> None:
    matrix, members = families((3, 4, 6, 9, 1, 1, 2), seed)
    found = confusion.blocks(matrix, largest=10, count=20)
    assert sorted(sorted(each.tolist()) for each in found) == sorted(sorted(each) for each in members if len(each) > 1)
    inside = [int(matrix[np.ix_(each, each)].sum() - matrix.diagonal()[each].sum()) for each in found]
    assert inside == sorted(inside, reverse=True)
    assert [each.tolist() for each in confusion.blocks(matrix, largest=10, count=2)] == [each.tolist() for each in found[:2]]


@given(matrices, st.integers(1, 6), st.integers(1, 4))
def test_blocks_are_small_apart_confused_and_stretches_of_the_order(matrix: np.ndarray, largest: int, count: int) -> None:
    found = confusion.blocks(matrix, largest, count)
    assert len(found) <= count
    held = [each for block in found for each in block.tolist()]
    assert len(held) == len(set(held))
    place = np.argsort(confusion.cluster_order(matrix))
    taken = matrix[:, :-1] * (1 - np.eye(len(matrix), dtype=int))
    for block in found:
        assert 2 <= len(block) <= largest
        assert (np.diff(place[block]) == 1).all()
        inside = taken[np.ix_(block, block)]
        assert (inside.any(axis=0) | inside.any(axis=1)).all()
    if largest >= 2 and taken.any():
        assert found


def test_a_chain_of_confusions_falls_into_pairs() -> None:
    matrix = np.diag([100] * 4) + np.diag([10, 9, 8], 1)
    assert [sorted(each.tolist()) for each in confusion.blocks(matrix, largest=2)] == [[0, 1], [2, 3]]


def test_equal_blocks_stand_as_in_the_order() -> None:
    family = np.random.default_rng(0).permutation(np.repeat(np.arange(8), 2))
    matrix = np.where(family[:, None] == family, 3, 0)
    place = np.argsort(confusion.cluster_order(matrix))
    firsts = [place[each[0]] for each in confusion.blocks(matrix, largest=3, count=8)]
    assert len(firsts) == 8 and firsts == sorted(firsts)


def test_where_nothing_is_confused() -> None:
    for matrix in (np.diag([3, 0, 5]), np.zeros((3, 4), np.int64), np.array([[4, 1]])):
        assert confusion.worst_pairs(matrix, 5) == []
        assert confusion.blocks(matrix) == []
        assert confusion.cluster_order(matrix).tolist() == list(range(len(matrix)))


def test_a_test_of_one_class_all_wrong() -> None:
    matrix = confusion.confusion_matrix(np.full(6, 1), np.array([0, 0, 0, 2, 2, -1]), 4)
    assert confusion.worst_pairs(matrix, 9) == [Pair(0, 1, 0, 3, 3), Pair(1, 2, 2, 0, 2)]
    assert confusion.cluster_order(matrix).tolist() in ([0, 1, 2, 3], [2, 1, 0, 3])
    assert [sorted(each.tolist()) for each in confusion.blocks(matrix)] == [[0, 1, 2]]


def test_a_thousand_classes_and_more_are_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, members = families((5,) * 30, 1)
    monkeypatch.setattr(confusion, "_MOST_ORDERED", 100)
    place = np.argsort(confusion.cluster_order(matrix))
    assert all(np.ptp(place[list(each)]) == 4 for each in members)


def test_what_makes_no_matrix_is_refused() -> None:
    with pytest.raises(InputError, match="no labelled images"):
        confusion.confusion_matrix(np.zeros(0, np.int32), np.zeros(0, np.int32), 3)
    with pytest.raises(ValueError, match="do not fit"):
        confusion.confusion_matrix(np.zeros(2, np.int32), np.zeros(3, np.int32), 3)
    for labels, predicted in (([0, -1], [0, 0]), ([0, 3], [0, 0]), ([0, 0], [0, 3]), ([0, 0], [-2, 0])):
        with pytest.raises(ValueError, match="outside the 3 classes"):
            confusion.confusion_matrix(np.array(labels), np.array(predicted), 3)
