"""Confidence intervals by the bootstrap over images, or over groups of images (Efron, Annals of Statistics 1979)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.stats import beta, t

from fieldmark.core import randomness
from fieldmark.scoring import metrics

_DRAWS_AT_ONCE = 2_000_000


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def intervals(logits: np.ndarray, labels: np.ndarray, resamples: int, seed: int, groups: np.ndarray | None = None) -> dict[str, Interval]:
    """95 % intervals of every metric of `metrics.METRICS`; each holds its value.

    logits: float (n, C); labels: int (n,) in [0, C); groups: int (n,), alike for images that belong together, -1 for one that is alone
    Every resample draws as many images, or groups if there are any, as there are, with replacement, and computes every metric from them;
    resample r depends on (seed, r) alone.
    Means (top1, top5, balanced_accuracy, nll, brier) have percentile intervals. macro_f1 and the calibration errors are biased on few
    images, and resampling adds the same bias once more, so that percentile intervals miss them (196 classes with 6 images each: they hold
    the true macro F1 in 17 % of cases, not 95 %); theirs are reversed about the value ("basic", Davison and Hinkley 1997, section 5.2),
    which takes that bias off.
    Two limits of the method: a metric without a single miss has an interval of width 0, and the ECE of a perfectly calibrated model, which
    can only be estimated too high, is covered less often than stated.
    """
    samples = bootstrap(logits, labels, resamples, seed, groups)
    return {key: interval(value, samples[key], metrics.METRICS[key].biased) for key, value in metrics.figures(logits, labels).items()}


def interval(value: float, samples: np.ndarray, reverse: bool = False) -> Interval:
    """The value with the middle 95 % of its resamples, or, reversed about it and kept from 0 to 1, the basic interval."""
    # Order statistics, not interpolation, which would make NaN of infinite figures.
    outside = int(0.025 * len(samples))
    ordered = np.sort(samples)
    low, high = float(ordered[outside]), float(ordered[-1 - outside])
    if reverse:
        low, high = max(2 * value - high, 0.0), min(2 * value - low, 1.0)
    return Interval(value, min(low, value), max(high, value))


def drawn_units(n: int, resamples: np.ndarray, seed: int) -> np.ndarray:
    """The images, or groups, that make up the given resamples: int64 (len(resamples), n) in [0, n)."""
    return (randomness.uniform(randomness.key(seed, "bootstrap"), resamples, n) * n).astype(np.int64)


def resampled_sums(
    per_image: sparse.spmatrix | np.ndarray, resamples: int, seed: int, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """The column sums of `per_image` (n, k) over the images of every resample: float64 (some, k) at a time, as memory allows."""
    rows = sparse.csr_array(per_image)
    unit = units_of(groups, rows.shape[0])
    n = int(unit.max()) + 1
    of_units = sparse.csr_array((np.ones(len(unit)), (unit, np.arange(len(unit)))), shape=(n, len(unit))) @ rows
    some = max(1, _DRAWS_AT_ONCE // max(n, rows.shape[1]))
    for start in range(0, resamples, some):
        drawn = drawn_units(n, np.arange(start, min(start + some, resamples)), seed)
        cells = drawn + n * np.arange(len(drawn))[:, None]
        times = np.bincount(cells.ravel(), minlength=n * len(drawn)).reshape(len(drawn), n)
        yield np.asarray((of_units.T @ times.T.astype(np.float64)).T)


def bootstrap(logits: np.ndarray, labels: np.ndarray, resamples: int, seed: int, groups: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Each figure in each resample: float64 (resamples,). The bins of ece_adaptive are those of all images."""
    counted = metrics.contributions(logits, labels)
    parts = [metrics.figures_of(sums, logits.shape[1]) for sums in resampled_sums(counted, resamples, seed, groups)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def share_interval(hits: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """How many are true, in [0, 1], of bool (n,), n > 0, after Clopper and Pearson (Biometrika 1934).

    With groups it is the interval of as many images as would say as much if each were alone (Korn and Graubard, Survey Methodology 1998);
    where all are alike, of as many as there are groups.
    """
    share, n = float(hits.mean()), _independent(hits, groups)
    low = float(beta.ppf(0.025, share * n, n - share * n + 1)) if share > 0 else 0.0
    high = float(beta.ppf(0.975, share * n + 1, n - share * n)) if share < 1 else 1.0
    return Interval(share, low, high)


def _independent(hits: np.ndarray, groups: np.ndarray | None) -> float:
    """The number of images, each alone, that would say as much of a share as these."""
    n, share, units = len(hits), hits.mean(), int(units_of(groups, len(hits)).max()) + 1
    if units in (1, n) or share in (0, 1) or not (variance := variance_of_mean(hits, groups)):
        return units
    said = share * (1 - share) / (n - 1) / variance * n
    return float(min(said, n) * (t.ppf(0.975, n - 1) / t.ppf(0.975, units - 1)) ** 2)


def variance_of_mean(values: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Of the mean of `values`, float (n,), over images, or groups, drawn alike; NaN where there is one alone."""
    units = units_of(groups, len(values))
    sums = np.bincount(units, weights=values - values.mean())
    return float((sums**2).sum() / len(values) ** 2 * len(sums) / (len(sums) - 1)) if len(sums) > 1 else math.nan


def units_of(groups: np.ndarray | None, n: int) -> np.ndarray:
    """What is drawn as a whole, numbered from 0: int64 (n,)."""
    if groups is None or (groups < 0).all():
        return np.arange(n)
    alone = groups < 0
    return np.unique(np.where(alone, groups.max() + 1 + np.arange(n), groups), return_inverse=True)[1]
