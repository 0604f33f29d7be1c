import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fieldmark.bundles.parity import AccuracyLoss, Agreement, Attempt, Limits
from fieldmark.exports.parity import (
    Reference,
    images_to_prove,
    is_proven,
    proof,
    shortfall,
    why_not_float,
    why_not_int8,
)
from fieldmark.scoring.comparison import paired_interval
from fieldmark.scoring.predictions import Predictions


def reference(logits, labels) -> Reference:
    n, classes = np.shape(logits)
    names = tuple(f"c{index}" for index in range(classes))
    ids = np.array([f"{row}.jpg" for row in range(n)])
    arrays = np.array(logits, np.float32)
    return Reference(Predictions(ids, np.array(labels, np.int32), arrays, np.zeros((n, 2), np.float32), names), None, None)


def loss_of(lost: int, gained: int, n: int) -> AccuracyLoss:
    low, high = paired_interval(lost, gained, n)
    points = 100 * (lost - gained) / n
    return AccuracyLoss(n=n, run=80.0, bundle=80.0 - points, lost=lost, gained=gained, points=points, low=low, high=high)


def agreement(**values) -> Agreement:
    return Agreement(**{"n": 100, "equal": 100, "clear": 100, "clear_equal": 100, "largest_difference": 0.0} | values)


def test_what_is_compared():
    run = [[3.0, 0.0], [0.0, 3.0], [1.0, 1.0005], [2.0, 0.0]]
    bundle = np.array([[3.0, 0.0], [3.0, 0.0], [1.0005, 1.0], [2.0, 0.1]], np.float32)
    ours = reference(run, [0, 1, 1, -1])
    found = ours.agreement(bundle, np.zeros((4, 2), np.float32))
    assert (found.n, found.equal, found.clear, found.clear_equal) == (4, 2, 3, 2)
    largest = 1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(3))
    assert found.largest_difference == pytest.approx(largest, abs=1e-6) and found.equal_unknown is None
    loss = ours.loss(bundle)
    assert (loss.n, loss.lost, loss.gained) == (3, 2, 0) and loss.points == pytest.approx(200 / 3)
    assert (loss.run, loss.bundle) == (100.0, pytest.approx(100 / 3))


def test_a_bundle_that_returns_numbers_that_are_none_fails():
    ours = reference([[3.0, 0.0]], [0])
    found = ours.agreement(np.array([[np.nan, np.nan]], np.float32), np.zeros((1, 2), np.float32))
    assert found.largest_difference is None
    assert "not numbers" in why_not_float(found) and "not numbers" in why_not_int8(found, loss_of(0, 0, 100), Limits())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, ""),
        ({"equal": 98, "clear": 98, "clear_equal": 98}, ""),
        ({"equal": 99, "clear_equal": 99}, "1 of 100 answers whose logits are clearly apart differ"),
        ({"largest_difference": 0.0011}, "a probability differs by 0.0011, and 0.001 is allowed"),
        ({"largest_difference": 0.001}, ""),
    ],
)
def test_a_float_format_must_answer_alike(values, reason):
    assert why_not_float(agreement(**values)) == reason


@pytest.mark.parametrize(
    ("lost", "changed", "strict", "reason"),
    [
        (0, 0, False, ""),
        (5, 50, False, ""),
        (6, 50, False, "it loses 0.60 points"),
        (5, 51, False, "5.1 % of the answers changed"),
        (0, 0, True, ""),
        (4, 10, True, "1,000 images of val do not prove that the loss is within 0.5 points: it may be 0.9; about 16,000 images"),
    ],
)
def test_int8_may_lose_as_much_as_the_limits_say(lost, changed, strict, reason):
    found = why_not_int8(agreement(n=1000, equal=1000 - changed), loss_of(lost, 0, 1000), Limits(strict=strict))
    assert found.startswith(reason) and bool(found) == bool(reason)


def test_how_far_an_attempt_is_from_passing():
    def short(lost: int, changed: int, strict: bool = False, **values):
        found = agreement(n=1000, equal=1000 - changed, **values)
        return shortfall(Attempt(cures=(), agreement=found, loss=loss_of(lost, 0, 1000)), Limits(strict=strict))

    assert short(5, 50) == (0, 5) and short(8, 70) == (pytest.approx(0.3 + 2), 7)
    assert short(5, 20) < short(5, 30) < short(8, 30) < short(8, 60) < short(0, 0, largest_difference=None)
    assert short(5, 20, strict=True)[0] == pytest.approx(paired_interval(5, 0, 1000)[1] - 0.5)


def test_the_paired_interval_is_that_of_the_mean_with_one_more_of_each_kind():
    lost, gained, n = 16, 6, 161
    differences = np.array([1] * (lost + 1) + [-1] * (gained + 1) + [0] * (n - lost - gained))
    half = 1.959964 * differences.std() / math.sqrt(n + 2)
    low, high = paired_interval(lost, gained, n)
    assert (low, high) == pytest.approx((100 * (differences.mean() - half), 100 * (differences.mean() + half)), abs=1e-4)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 2000))
def test_the_paired_interval_holds_the_loss_and_is_the_same_for_the_other_way_round(lost, gained, neither):
    n = lost + gained + neither
    low, high = paired_interval(lost, gained, n)
    assert -100 <= low < high <= 100 and (low, high) == pytest.approx([-each for each in paired_interval(gained, lost, n)[::-1]])
    if n:
        assert low <= 100 * (lost - gained) / n <= high or abs(lost - gained) == n


def test_the_paired_interval_covers_as_often_as_it_promises():
    n, share = 600, 0.01
    counts = np.arange(0, 30)
    chance = np.outer(binom.pmf(counts, n, share), binom.pmf(counts, n, share))
    covered = [[paired_interval(lost, gained, n)[0] <= 0 <= paired_interval(lost, gained, n)[1] for gained in counts] for lost in counts]
    assert 0.94 < (chance * covered).sum() < 0.99


def test_how_many_images_it_takes_to_prove_a_loss():
    limits = Limits()
    nothing = images_to_prove(loss_of(0, 0, 50), limits)
    assert nothing is not None and is_proven(loss_of(0, 0, nothing), limits) and not is_proven(loss_of(0, 0, nothing * 9 // 10), limits)
    some = images_to_prove(loss_of(2, 1, 1000), limits)
    assert some is not None and some > nothing
    assert images_to_prove(loss_of(5, 0, 1000), limits) is None and images_to_prove(loss_of(9, 0, 1000), limits) is None


def test_what_is_proven_is_said():
    unproven = "5 images of val do not prove that the loss is within 0.5 points: it may be 39.6; about 5"
    assert proof(loss_of(0, 0, 5), Limits()).startswith(unproven)
    assert proof(loss_of(0, 0, 2000), Limits()) == "2,000 images of val prove that the loss is within 0.5 points: it is at most 0.14"
    assert proof(loss_of(9, 0, 100), Limits()) == "100 images of val do not prove that the loss is within 0.5 points: it may be 15.0"
