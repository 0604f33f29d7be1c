from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics

from fieldmark.evaluation import intervals as module
from fieldmark.evaluation import metrics
from fieldmark.evaluation.intervals import bootstrap, drawn_units, intervals


def simulated(rng: np.random.Generator, n: int, classes: int, scale: float, overconfidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and a model that says overconfidence * z."""
    z = scale * rng.normal(size=(n, classes))
    cumulative = np.exp(z).cumsum(axis=1)
    labels = (cumulative > cumulative[:, -1:] * rng.random((n, 1))).argmax(axis=1)
    return (overconfidence * z).astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("n, classes", [(1, 2), (40, 7), (90, 30)])
def test_every_resample_equals_a_naive_loop(n: int, classes: int) -> None:
    logits, labels = simulated(np.random.default_rng(0), n, classes, 2, 1.3)
    samples = bootstrap(logits, labels, 120, seed=3)
    for r in range(120):
        rows = drawn_units(n, np.array([r]), 3)[0]
        expected = metrics.figures(logits[rows], labels[rows])
        confidence = metrics.confidences(logits)
        gaps = (confidence - metrics.top_k_hits(logits, labels, 1))[rows]
        bins = metrics.adaptive_bins(confidence)[rows]  # those of all images
        expected["ece_adaptive"] = sum(abs(gaps[bins == each].sum()) for each in set(bins.tolist())) / n
        assert {name: sample[r] for name, sample in samples.items()} == pytest.approx(expected, abs=1e-12)


def test_intervals_agree_with_an_independent_bootstrap() -> None:
    logits, labels = simulated(np.random.default_rng(1), 250, 8, 2, 1.5)
    ours = intervals(logits, labels, 4000, seed=0)
    rng = np.random.default_rng(99)
    top1, macro_f1 = [], []
    for _ in range(1500):
        rows = rng.integers(0, 250, 250)
        top1.append(sklearn.metrics.accuracy_score(labels[rows], logits[rows].argmax(axis=1)))
        macro_f1.append(sklearn.metrics.f1_score(labels[rows], logits[rows].argmax(axis=1), average="macro"))
    assert ours["top1"][1:] == pytest.approx(np.percentile(top1, [2.5, 97.5]), abs=0.008)
    assert ours["macro_f1"][1:] == pytest.approx(2 * ours["macro_f1"].value - np.percentile(macro_f1, [97.5, 2.5]), abs=0.008)
    error = math.sqrt(ours["top1"].value * (1 - ours["top1"].value) / 250)
    assert ours["top1"].high - ours["top1"].low == pytest.approx(2 * 1.96 * error, rel=0.07)


def test_every_image_is_drawn_equally_often() -> None:
    counts = np.bincount(drawn_units(20, np.arange(5000), 0).ravel(), minlength=20)
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi-squared with 19 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    "n, classes, scale, overconfidence",
    [(300, 8, 2.0, 1.5), (1200, 196, 5.0, 1.2)],  # the second as small as fine-grained test sets are: 6 images a class
)
def test_intervals_hold_the_truth_as_often_as_they_say(n: int, classes: int, scale: float, overconfidence: float) -> None:
    rng = np.random.default_rng(7)
    truth = metrics.figures(*simulated(rng, 60_000, classes, scale, overconfidence))
    repeats = 60
    held = dict.fromkeys(truth, 0)
    for seed in range(repeats):
        for name, interval in intervals(*simulated(rng, n, classes, scale, overconfidence), 200, seed).items():
            held[name] += interval.low <= truth[name] <= interval.high
    # Of 60 intervals of 93 %, fewer than 49 hold with a probability of 0.1 %.
    assert min(held.values()) >= 49, held


def test_the_seed_decides_and_the_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = simulated(np.random.default_rng(2), 50, 6, 2, 1)
    first = intervals(logits, labels, 150, seed=5)
    monkeypatch.setattr(module, "_DRAWS_AT_ONCE", 170)
    assert intervals(logits, labels, 150, seed=5) == first
    assert intervals(logits, labels, 150, seed=6) != first


def test_values_are_inside_and_shares_stay_shares() -> None:
    rng = np.random.default_rng(4)
    for n in (1, 2, 5, 30):
        for _ in range(10):
            logits, labels = simulated(rng, n, 5, 6, 1)
            result = intervals(logits, labels, 100, seed=0)
            assert {name: interval.value for name, interval in result.items()} == metrics.figures(logits, labels)
            for name, interval in result.items():
                assert 0 <= interval.low <= interval.value <= interval.high
                assert name in ("nll", "brier") or interval.high <= 1


def test_an_infinite_loss_stays_infinite_and_makes_no_nan() -> None:
    logits, labels = simulated(np.random.default_rng(5), 30, 4, 2, 1)
    logits[3, 1] = np.nan
    result = intervals(logits, labels, 200, seed=0)
    assert result["nll"].value == result["nll"].high == math.inf
    assert math.isfinite(result["nll"].low)
    assert all(math.isfinite(end) for name, interval in result.items() if name != "nll" for end in interval)
