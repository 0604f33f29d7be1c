from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from fieldmark.core.errors import InputError
from fieldmark.scoring.comparison import compare
from fieldmark.scoring.intervals import drawn_units
from fieldmark.scoring.predictions import Predictions


def predictions(hits: np.ndarray, ids: np.ndarray | None = None) -> Predictions:
    logits = np.where(hits[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)
    ids = np.array([f"{row:04}" for row in range(len(hits))]) if ids is None else ids
    return Predictions(ids, np.zeros(len(hits), np.int32), logits, np.zeros((len(hits), 0), np.float32), ("x", "y"))


def test_the_difference_its_interval_and_mcnemars_test():
    rng = np.random.default_rng(0)
    one, other = rng.random(500) < 0.8, rng.random(500) < 0.7
    found = compare(predictions(one), predictions(other), 4000, 0)
    assert found.points == pytest.approx(100 * (one.mean() - other.mean())) and found.n == 500
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    assert (found.wins, found.losses) == (wins, losses)
    tail = scipy.stats.binom.cdf(min(wins, losses), wins + losses, 0.5)
    assert found.p == pytest.approx(min(2 * tail, 1))
    gained = one.astype(float) - other
    theirs = scipy.stats.bootstrap((gained,), np.mean, method="percentile", n_resamples=4000, random_state=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=0.5)
    assert found.significant and "not significant" not in str(found)


def test_a_few_images_show_nothing():
    """Four wins and no loss: the bootstrap's interval excludes zero, but a coin falls so one time in eight."""
    one, other = np.ones(100, bool), np.arange(100) >= 4
    found = compare(predictions(one), predictions(other), 1000, 0)
    assert (found.wins, found.losses) == (4, 0) and found.low > 0 and found.p == pytest.approx(0.125)
    assert not found.significant and str(found).endswith("not significant")


def test_images_are_paired_by_id_and_equal_models_do_not_differ():
    hits = np.random.default_rng(1).random(50) < 0.5
    one = predictions(hits)
    order = np.random.default_rng(2).permutation(50)[:40]
    found = compare(one, predictions(hits[order], one.ids[order]), 200, 0)
    assert (found.points, found.low, found.high, found.n, found.p) == (0, 0, 0, 40, 1) and not found.significant
    with pytest.raises(InputError, match="no labelled images in common"):
        compare(one, predictions(hits, np.array([f"x{row}" for row in range(50)])), 200, 0)


def grouped(rng: np.random.Generator, groups: int, size: int, better: float = 0.0) -> tuple[Predictions, Predictions]:
    """Two models that each get whole groups right or wrong, the one `better` more often; images of a group are apart."""
    group = rng.permutation(np.repeat(np.arange(groups), size)).astype(np.int32)
    one, other = rng.random(groups) < 0.6 + better, rng.random(groups) < 0.6
    return replace(predictions(one[group]), groups=group), replace(predictions(other[group]), groups=group)


def test_the_interval_over_groups_equals_a_naive_loop():
    rng = np.random.default_rng(3)
    groups = np.concatenate([rng.integers(0, 12, 80), np.full(20, -1)]).astype(np.int32)
    one, other = predictions(rng.random(100) < 0.8), predictions(rng.random(100) < 0.6)
    found = compare(replace(one, groups=groups), other, 400, 5)
    gained = (one.logits.argmax(axis=1) == 0).astype(float) - (other.logits.argmax(axis=1) == 0)
    units = [np.flatnonzero(groups == each) for each in range(12)] + [np.array([row]) for row in range(80, 100)]
    means = sorted(
        np.concatenate([gained[units[each]] for each in drawn_units(32, np.array([r]), 5)[0].tolist()]).mean() for r in range(400)
    )
    assert (found.low, found.high) == pytest.approx((100 * means[10], 100 * means[-11]), abs=1e-9)
    assert found.points == pytest.approx(100 * gained.mean()) and found.n == 100
    alone = compare(one, other, 400, 5)
    assert (alone.low, alone.high) != (found.low, found.high)
    assert (alone.points, alone.wins, alone.losses, alone.p) == (found.points, found.wins, found.losses, found.p)


@pytest.mark.parametrize("groups", [np.full(90, -1), np.arange(90), 3 * np.arange(90) + 1])
def test_groups_of_one_image_each_change_nothing(groups: np.ndarray):
    rng = np.random.default_rng(4)
    one, other = predictions(rng.random(90) < 0.8), predictions(rng.random(90) < 0.6)
    assert compare(replace(one, groups=groups.astype(np.int32)), other, 300, 0) == compare(one, other, 300, 0)


def test_groups_go_with_the_images_that_are_compared():
    rng = np.random.default_rng(5)
    one, other = grouped(rng, 20, 6)
    one = replace(one, labels=np.where(np.arange(120) % 7 == 0, -1, 0).astype(np.int32))
    some = rng.permutation(120)[:90]
    kept = np.array([row for row in range(120) if row in set(some.tolist()) and one.labels[row] == 0])
    found = compare(one, other.take(some), 300, 0)
    assert found.n == len(kept) and found == compare(one.take(kept), other.take(kept), 300, 0)


def test_correlated_groups_widen_the_interval_and_hold_the_truth():
    rng = np.random.default_rng(6)
    held = {"images": 0, "groups": 0}
    for seed in range(200):
        one, other = grouped(rng, 60, 8, better=0.1)
        over_groups, over_images = (
            compare(one, other, 200, seed),
            compare(replace(one, groups=None), replace(other, groups=None), 200, seed),
        )
        assert over_groups.high - over_groups.low > 1.7 * (over_images.high - over_images.low)
        held["groups"] += over_groups.low <= 10 <= over_groups.high
        held["images"] += over_images.low <= 10 <= over_images.high
    # Of 200 intervals of 93 %, fewer than 174 or all hold with a probability of 0.1 % at most.
    assert 174 <= held["groups"] < 200 and held["images"] < 140, held
