from __future__ import annotations

import inspect
import math
import warnings
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.scoring import metrics


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
def test_brier_agrees_with_scikit_learn_and_with_a_loop(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    probabilities = [softmax(row) for row in logits]
    expected = [sum((p - (c == label)) ** 2 for c, p in enumerate(row)) for row, label in zip(probabilities, labels, strict=True)]
    errors = metrics.squared_errors(logits, labels)
    assert errors.dtype == np.float64
    assert errors.tolist() == pytest.approx(expected, abs=1e-12)
    assert metrics.figures(logits, labels)["brier"] == pytest.approx(sum(expected) / len(labels), abs=1e-12)
    if "scale_by_half" in inspect.signature(sklearn.metrics.brier_score_loss).parameters:
        theirs = sklearn.metrics.brier_score_loss(labels, np.array(probabilities), labels=np.arange(logits.shape[1]), scale_by_half=False)
        assert errors.mean() == pytest.approx(theirs, abs=1e-12)


def test_brier_goes_from_0_to_2() -> None:
    logits = np.array([[100, 0, 0], [100, 0, 0], [0, 0, 0]], np.float32)
    assert metrics.squared_errors(logits, np.array([0, 1, 1])) == pytest.approx([0, 2, 2 / 3])


@given(cases, st.integers(1, 12))
def test_balanced_accuracy_agrees_with_scikit_learn(data: tuple[np.ndarray, np.ndarray], occurring: int) -> None:
    logits, labels = data
    labels = labels % min(occurring, logits.shape[1])  # of the others there are no images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, that predicted classes have no images
        expected = sklearn.metrics.balanced_accuracy_score(labels, logits.argmax(axis=1))
    assert metrics.figures(logits, labels)["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_balanced_accuracy_by_hand() -> None:
    logits = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 3]]
    assert metrics.figures(logits, np.array([0, 0, 0, 1, 1]))["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.figures(logits, np.zeros(5, np.int32))["balanced_accuracy"] == pytest.approx(2 / 5)  # one class only
    assert metrics.figures(logits, np.full(5, 2))["balanced_accuracy"] == 0  # all wrong
    assert metrics.figures(logits, np.array([0, 0, 1, 1, 3]))["balanced_accuracy"] == 1


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


few_values = st.lists(st.sampled_from([0.2, 0.3, 0.5, 0.7, 0.70001, 0.9, 1.0]), min_size=1, max_size=80)
any_values = st.lists(st.floats(0.01, 1), min_size=1, max_size=80)


@given(st.one_of(few_values, any_values), st.integers(1, 20))
def test_adaptive_bins_are_of_equal_mass_and_keep_ties_together(values: list[float], bins: int) -> None:
    found = metrics.adaptive_bins(np.array(values), bins).tolist()
    # A confidence is in the bin that the first of its like falls into when all stand in line and each bin takes an equal share.
    line = sorted(values)
    assert found == [int(Fraction(line.index(value), len(line)) * bins) for value in values]
    assert all(found[a] == found[b] for a in range(len(values)) for b in range(a) if values[a] == values[b])
    assert [each for _, each in sorted(zip(values, found, strict=True))] == sorted(found)
    if len(set(values)) == len(values):
        sizes = Counter(found)
        assert {sizes[each] for each in range(bins)} <= {len(values) // bins, -(-len(values) // bins)}


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(3, 12))
def test_ece_adaptive_agrees_with_its_definition(seed: int, a_bin: int, classes: int) -> None:
    logits, labels = case(seed, 15 * a_bin, classes)
    told = [(max(row := softmax(each)), row.index(max(row)) == label) for each, label in zip(logits, labels, strict=True)]
    told.sort()
    parts = [told[start : start + a_bin] for start in range(0, len(told), a_bin)]
    expected = sum(abs(sum(hit for _, hit in part) - sum(confidence for confidence, _ in part)) for part in parts) / len(told)
    assert metrics.figures(logits, labels)["ece_adaptive"] == pytest.approx(expected, abs=1e-9)


def test_ece_adaptive_of_equal_confidences_is_the_one_gap_between_their_mean_and_the_accuracy() -> None:
    logits, labels = np.log([[0.8, 0.2]] * 40), (np.arange(40) % 2).astype(np.int32)
    assert metrics.adaptive_bins(metrics.confidences(logits)).tolist() == [0] * 40
    assert metrics.figures(logits, labels)["ece_adaptive"] == pytest.approx(0.3)


@given(cases)
def test_figures_agree_with_the_single_functions(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    found = metrics.figures(logits, labels)
    assert list(found) == ["top1", "top5", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "ece_adaptive"]
    assert found["top1"] == pytest.approx(metrics.top_k(logits, labels, 1))
    assert found["top5"] == pytest.approx(metrics.top_k(logits, labels, 5))
    assert found["macro_f1"] == metrics.macro_f1(logits, labels)
    assert found["nll"] == pytest.approx(metrics.nll(logits, labels))
    assert found["brier"] == pytest.approx(metrics.squared_errors(logits, labels).mean())
    assert found["ece"] == pytest.approx(metrics.ece(logits, labels), rel=1e-12)


@given(cases, st.integers(0, 2**32))
def test_figures_of_several_sets_are_the_figures_of_each(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    logits, labels = data
    members = np.random.default_rng(seed).integers(0, 3, (2, 4, len(labels)))  # how often each image is in each of eight sets
    members[..., 0] += members.sum(axis=-1) == 0
    found = metrics.figures_of(members @ metrics.contributions(logits, labels).toarray(), logits.shape[1])
    for at in np.ndindex(2, 4):
        rows = np.repeat(np.arange(len(labels)), members[at])
        expected = metrics.figures(logits[rows], labels[rows])
        del expected["ece_adaptive"]  # its bins are those of all images
        assert {name: found[name][at] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_never_finite_has_the_worst_of_all_figures(bad: float) -> None:
    logits = np.tile(np.array([bad, 1, 0], np.float32), (8, 1))
    worst = {"top1": 0, "top5": 0, "balanced_accuracy": 0, "macro_f1": 0, "nll": math.inf, "brier": 2, "ece": 1, "ece_adaptive": 1}
    assert metrics.figures(logits, (np.arange(8) % 3).astype(np.int32)) == worst


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_has_defined_errors(bad: float) -> None:
    logits = np.log(np.array([[0.6, 0.4], [0.6, 0.4], [0.5, 0.5]]))
    logits[1, 1] = bad
    labels = np.array([0, 0, 1])
    assert metrics.squared_errors(logits, labels) == pytest.approx([0.32, 2, 0.5])
    found = metrics.figures(logits, labels)
    assert found["nll"] == math.inf and found["brier"] == pytest.approx(2.82 / 3)
    assert found["balanced_accuracy"] == pytest.approx(0.25)  # half of the first class, and of the second a tie
    assert found["ece"] == found["ece_adaptive"] == pytest.approx((0.4 + 1 + 0.5) / 3)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=12), st.integers(0, 2**32))
def test_a_tie_counts_as_wrong_in_all_figures(rows: list[list[int]], seed: int) -> None:
    logits = np.array(rows, dtype=np.float32)
    labels = np.random.default_rng(seed).integers(0, 4, len(rows))
    worse = logits.astype(np.float64)
    worse[np.arange(len(rows)), labels] -= 1e-9  # the label just behind: what a tie is taken for
    found, expected = metrics.figures(logits, labels), metrics.figures(worse, labels)
    del found["ece_adaptive"], expected["ece_adaptive"]  # its ties are those of confidences, which are no longer equal
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("figure", [metrics.figures, metrics.squared_errors, metrics.contributions])
def test_the_figures_refuse_what_cannot_be_evaluated(figure: Callable[[np.ndarray, np.ndarray], object]) -> None:
    with pytest.raises(InputError, match="no labelled images"):
        figure(np.zeros((0, 3), np.float32), np.zeros(0, np.int32))
    with pytest.raises(ValueError, match="labels go from 0 to 3"):
        figure(np.zeros((3, 3), np.float32), np.array([0, 3, 2]))
    with pytest.raises(ValueError, match="do not fit"):
        figure(np.zeros((3, 3), np.float32), np.array([0, 1]))


def test_every_metric_is_better_in_its_direction_for_sure_and_right_answers() -> None:
    labels = np.random.default_rng(0).integers(0, 20, 500)
    right, random = 30.0 * np.eye(20)[labels], np.random.default_rng(1).normal(size=(500, 20))
    best, worse = metrics.figures(right, labels), metrics.figures(random, labels)
    assert list(best) == list(metrics.METRICS)
    for key, metric in metrics.METRICS.items():
        assert key == metric.key and metric.name and metric.meaning
        assert best[key] > worse[key] if metric.higher_is_better else best[key] < worse[key]
        assert best[key] == pytest.approx(1 if metric.higher_is_better else 0, abs=1e-9)


def test_the_sums_have_a_part_for_all_that_metrics_are_made_of() -> None:
    logits, labels = np.eye(4)[[0, 1, 1]], np.array([0, 1, 2])
    sums = metrics.Sums.of(np.asarray(metrics.contributions(logits, labels).sum(axis=0)), 4)
    assert (sums.images.item(), sums.top1.item(), sums.top5.item()) == (3, 2, 3)
    assert (sums.hits.tolist(), sums.actual.tolist(), sums.predicted.tolist()) == ([1, 1, 0, 0], [1, 1, 1, 0], [1, 2, 0, 0])


def test_classes_without_an_image_are_counted_and_the_f1_of_the_others_is_that_of_scikit_learn() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    predicted = np.array([0, 0, 4, 1, 1, 0])
    found = metrics.absent_classes(np.eye(6)[predicted], labels)
    assert (found.number, found.predicted) == (4, 1)
    assert found.macro_f1_of_others == pytest.approx(sklearn.metrics.f1_score(labels, predicted, labels=[0, 1], average="macro"))
    assert metrics.macro_f1(np.eye(6)[predicted], labels) == pytest.approx(found.macro_f1_of_others * 2 / 3)
