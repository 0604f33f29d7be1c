from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.evaluation import metrics


def case(seed: int, n: int, classes: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(n, classes))).astype(np.float32), rng.integers(0, classes, n).astype(np.int32)


def softmax(row: np.ndarray) -> list[float]:
    exponentials = [math.exp(float(value) - float(row.max())) for value in row]
    return [value / sum(exponentials) for value in exponentials]


cases = st.builds(case, st.integers(0, 2**32), st.integers(1, 60), st.integers(3, 12), st.floats(0.1, 20))


@given(cases)
def test_macro_f1_agrees_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    expected = sklearn.metrics.f1_score(labels, logits.argmax(axis=1), average="macro")
    assert metrics.macro_f1(logits, labels) == pytest.approx(expected, abs=1e-12)


@given(cases, st.integers(1, 11))
def test_top_k_agrees_with_scikit_learn(data: tuple[np.ndarray, np.ndarray], k: int) -> None:
    logits, labels = data
    k = min(k, logits.shape[1] - 1)
    expected = sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=np.arange(logits.shape[1]))
    assert metrics.top_k(logits, labels, k) == pytest.approx(expected)


@given(cases)
def test_nll_agrees_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    probabilities = np.array([softmax(row) for row in logits])
    if probabilities.min() < 1e-14:  # scikit-learn clips
        return
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=np.arange(logits.shape[1]))
    assert metrics.nll(logits, labels) == pytest.approx(expected, rel=1e-9)


@given(cases)
def test_ece_agrees_with_its_definition(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(logits, labels, strict=True):
        probabilities = softmax(row)
        confidence = max(probabilities)
        index = next(index for index in range(15) if confidence <= (index + 1) / 15)
        bins.setdefault(index, []).append((confidence, probabilities.index(confidence) == label))
    expected = 0.0
    for members in bins.values():
        accuracy = sum(hit for _, hit in members) / len(members)
        expected += len(members) / len(labels) * abs(accuracy - sum(confidence for confidence, _ in members) / len(members))
    assert metrics.ece(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_ece_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    assert metrics.ece(np.log(probabilities), labels) == pytest.approx(0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.6 - 1.0))


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=12), st.integers(0, 2**32), st.integers(1, 6))
def test_ties_are_broken_against_the_model(rows: list[list[int]], seed: int, k: int) -> None:
    logits = np.array(rows, dtype=np.float32)
    labels = np.random.default_rng(seed).integers(0, 4, len(rows))
    orders = [sorted(range(4), key=lambda c, row=row, label=label: (-row[c], c == label)) for row, label in zip(rows, labels, strict=True)]
    assert metrics.top_k_hits(logits, labels, k).tolist() == [label in order[:k] for order, label in zip(orders, labels, strict=True)]
    assert metrics.predicted_classes(logits, labels).tolist() == [order[0] for order in orders]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_counts_as_wrong(bad: float) -> None:
    logits = np.array([[5, 0, 0], [5, 0, bad]], dtype=np.float32)
    labels = np.array([0, 0])
    assert metrics.top_k(logits, labels, 1) == metrics.top_k(logits, labels, 3) == 0.5
    assert metrics.predicted_classes(logits, labels).tolist() == [0, -1]
    assert metrics.macro_f1(logits, labels) == pytest.approx(2 / 3)  # one hit, one miss, no false alarm
    assert metrics.nll(logits, labels) == math.inf
    assert metrics.confidences(logits)[1] == 1
    assert metrics.ece(logits, labels) > 0.4


def test_a_certain_miss_has_a_finite_likelihood() -> None:
    logits = np.array([[0.0, 1e4]], dtype=np.float32)
    assert metrics.nll(logits, np.array([0])) == 1e4


@given(cases)
def test_top_1_is_the_share_of_right_predictions_and_top_k_grows_to_one(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    np.testing.assert_array_equal(metrics.top_k_hits(logits, labels, 1), metrics.predicted_classes(logits, labels) == labels)
    shares = [metrics.top_k(logits, labels, k) for k in range(1, logits.shape[1] + 3)]
    assert shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize("figure", [metrics.macro_f1, metrics.nll, metrics.ece, lambda logits, labels: metrics.top_k(logits, labels, 1)])
def test_what_cannot_be_evaluated_is_refused(figure: Callable[[np.ndarray, np.ndarray], float]) -> None:
    with pytest.raises(InputError, match="no labelled images"):
        figure(np.zeros((0, 3), np.float32), np.zeros(0, np.int32))
    with pytest.raises(ValueError, match="labels go from -1 to 2"):
        figure(np.zeros((3, 3), np.float32), np.array([0, -1, 2]))
    with pytest.raises(ValueError, match="do not fit"):
        figure(np.zeros((3, 3), np.float32), np.array([0, 1]))


@given(st.floats(1e-9, 1), st.integers(1, 20))
def test_a_confidence_lies_in_its_bin(confidence: float, bins: int) -> None:
    index = int(metrics.confidence_bins(np.array([confidence]), bins)[0])
    assert index / bins - 1e-12 <= confidence <= (index + 1) / bins + 1e-12
    assert metrics.confidence_bins(np.array([0.2, 0.2 + 1e-9, 1.0]), 5).tolist() == [0, 1, 4]
