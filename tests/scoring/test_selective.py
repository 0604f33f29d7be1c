from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.scoring.selective import coverage_at, risk_coverage

confidences = st.sampled_from([-math.inf, math.nan, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0])
images = st.lists(st.tuples(confidences, st.booleans()), min_size=1, max_size=40)


def arrays(rows: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([confidence for confidence, _ in rows]), np.array([hit for _, hit in rows])


def point(rows: list[tuple[float, bool]], at_least: float) -> tuple[float, float]:
    answered = [hit for confidence, hit in rows if at_least == -math.inf or confidence >= at_least]
    return len(answered) / len(rows), answered.count(False) / len(answered)


@given(images)
def test_each_point_answers_all_images_of_at_least_its_confidence(rows: list[tuple[float, bool]]) -> None:
    curve = risk_coverage(*arrays(rows))
    distinct = {-math.inf if math.isnan(confidence) else confidence for confidence, _ in rows}
    assert curve.thresholds.tolist() == sorted(distinct, reverse=True)
    expected = [point(rows, each) for each in curve.thresholds]
    assert list(zip(curve.coverage.tolist(), curve.risk.tolist(), strict=True)) == expected
    assert curve.coverage.dtype == curve.risk.dtype == curve.thresholds.dtype == np.float64 and curve.n == len(rows)


@given(images)
def test_the_area_is_the_mean_risk_when_an_image_is_first_answered(rows: list[tuple[float, bool]]) -> None:
    risks = [point(rows, -math.inf if math.isnan(confidence) else confidence)[1] for confidence, _ in rows]
    assert risk_coverage(*arrays(rows)).aurc == pytest.approx(sum(risks) / len(rows), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 2**32))
def test_without_ties_the_area_is_the_mean_over_all_coverages(hits: list[bool], seed: int) -> None:
    """And no order does better than the one that puts wrong answers last."""
    correct, confidence = np.array(hits), np.random.default_rng(seed).permutation(len(hits)).astype(np.float64)

    def by_hand(order: np.ndarray) -> float:
        return float(np.mean([np.mean(~correct[order[: number + 1]]) for number in range(len(order))]))

    curve = risk_coverage(confidence, correct)
    assert curve.aurc == pytest.approx(by_hand(np.argsort(-confidence)), abs=1e-12)
    assert curve.best_aurc == pytest.approx(by_hand(np.argsort(~correct, kind="stable")), abs=1e-12)


@given(images)
def test_the_excess_is_never_negative_and_zero_where_wrong_answers_come_last(rows: list[tuple[float, bool]]) -> None:
    curve = risk_coverage(*arrays(rows))
    assert curve.excess_aurc >= -1e-12 and curve.excess_aurc == curve.aurc - curve.best_aurc
    _, correct = arrays(rows)
    ideal = correct * 100.0 - np.arange(len(rows))
    assert risk_coverage(ideal, correct).excess_aurc == pytest.approx(0, abs=1e-12)


@given(images, st.integers(0, 2**32))
def test_no_order_of_the_images_matters(rows: list[tuple[float, bool]], seed: int) -> None:
    confidence, correct = arrays(rows)
    order = np.random.default_rng(seed).permutation(len(rows))
    one, other = risk_coverage(confidence, correct), risk_coverage(confidence[order], correct[order])
    np.testing.assert_array_equal(one.risk, other.risk)
    assert one.aurc == other.aurc


@given(images, st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0]))
def test_the_coverage_at_a_risk(rows: list[tuple[float, bool]], risk: float) -> None:
    points = [point(rows, -math.inf if math.isnan(confidence) else confidence) for confidence, _ in rows]
    expected = max((coverage for coverage, found in points if found <= risk), default=0.0)
    assert coverage_at(risk_coverage(*arrays(rows)), risk) == expected


def test_a_risk_that_rises_and_falls() -> None:
    """The largest coverage counts, not the first that is too risky."""
    curve = risk_coverage(np.array([5.0, 4, 3, 2, 1]), np.array([False, True, True, True, False]))
    assert curve.risk.tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 2 / 5]
    assert coverage_at(curve, 0.25) == 0.8 and coverage_at(curve, 0.39) == 0.8 and coverage_at(curve, 0.4) == 1
    assert coverage_at(curve, 0.2) == 0


def test_images_without_a_confidence_are_answered_last() -> None:
    curve = risk_coverage(np.array([np.nan, -1e300, -np.inf], np.float64), np.array([False, True, False]))
    assert curve.thresholds.tolist() == [-1e300, -np.inf] and curve.risk.tolist() == [0, 2 / 3]


def test_a_single_image_and_one_confidence_for_all() -> None:
    right, wrong = (risk_coverage(np.array([0.5]), np.array([hit])) for hit in (True, False))
    assert (right.aurc, right.best_aurc, coverage_at(right, 0)) == (0, 0, 1)
    assert (wrong.aurc, wrong.best_aurc, coverage_at(wrong, 0.99)) == (1, 1, 0)
    tied = risk_coverage(np.full(4, 0.5), np.array([True, True, False, True]))
    assert (tied.coverage.tolist(), tied.risk.tolist(), tied.aurc) == ([1], [0.25], 0.25)


def test_everything_wrong() -> None:
    curve = risk_coverage(np.arange(7.0), np.zeros(7, bool))
    assert curve.aurc == pytest.approx(1) and curve.best_aurc == 1 and coverage_at(curve, 0.5) == 0


def test_what_has_no_curve_is_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        risk_coverage(np.zeros(0), np.zeros(0, bool))
    with pytest.raises(ValueError, match="do not fit"):
        risk_coverage(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="do not fit"):
        risk_coverage(np.zeros(3), np.zeros(3, np.int64))
