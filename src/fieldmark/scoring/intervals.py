"""Confidence intervals by the bootstrap over images, or over groups of images (Efron, Annals of Statistics 1979)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import expit, logit
from scipy.stats import beta, norm, t

from fieldmark.core import randomness
from fieldmark.scoring import metrics

_DRAWS_AT_ONCE = 2_000_000
_FACTORS = 121
_FEW = 30
"""Images, or groups, below which the spread of a figure is uncertain itself."""


class Interval(NamedTuple):
    value: float
    low: float
    high: float


class Estimate(NamedTuple):
    """A figure of the images, and the 95 % interval for that of all images like them.

    corrected: of a figure that few images bias, the value without that bias, which is inside the interval where `value` need not be; None
        where there are too few to tell the bias.
    """

    value: float
    low: float
    high: float
    corrected: float | None = None


def intervals(logits: np.ndarray, labels: np.ndarray, resamples: int, seed: int, groups: np.ndarray | None = None) -> dict[str, Estimate]:
    """Every metric of `metrics.METRICS` with its 95 % interval.

    logits: float (n, C); labels: int (n,) in [0, C); groups: int (n,), alike for images that belong together, -1 for one that is alone
    Every resample draws as many images, or groups if there are any, as there are, with replacement, and computes every metric from them;
    resample r depends on (seed, r) alone.
    Shares have the interval of `share_estimate`; calibration errors that of `gap_estimate`, or that of `wide_gap_estimate`, uncorrected, of
    fewer than 30 images or groups and where all answers are right or all wrong; nll and brier the middle 95 % of the resamples. With few
    mistakes, 10 or fewer, these two are covered less often than that, because no resample knows of a worse mistake. The interval of
    macro_f1 is for as many images of each class as there are: with other numbers it would be another figure.
    """
    found = metrics.figures(logits, labels)
    samples, gaps = _resampled(logits, labels, resamples, seed, groups)
    own = metrics.Sums.of(np.asarray(metrics.contributions(logits, labels).sum(axis=0)), logits.shape[1])
    n = int(units_of(groups, len(labels)).max()) + 1
    hits = metrics.top_k_hits(logits, labels, 1)
    estimates = {}
    for key, metric in metrics.METRICS.items():
        if metric.gaps is not None and (n < _FEW or hits.all() or not hits.any()):
            estimates[key] = wide_gap_estimate(found[key], metrics.confidences(logits), hits, groups)
        elif metric.gaps is not None:
            estimates[key] = gap_estimate(metric.gaps(own) / own.images, gaps[key])
        elif metric.unit == "%":
            estimates[key] = share_estimate(found[key], float(samples[key].std()), n)
        else:
            estimates[key] = Estimate(*interval(found[key], samples[key]))
            if n < _FEW:
                possible = [metrics.figures(logits, chosen)[key] for chosen in (logits.argmax(axis=1), logits.argmin(axis=1))]
                estimates[key] = _widened(estimates[key], n, *possible)
    return {key: each._replace(value=found[key]) for key, each in estimates.items()}


def interval(value: float, samples: np.ndarray) -> Interval:
    """The value with the middle 95 % of its resamples."""
    # Order statistics, not interpolation, which would make NaN of infinite figures.
    outside = int(0.025 * len(samples))
    ordered = np.sort(samples)
    return Interval(value, min(float(ordered[outside]), value), max(float(ordered[-1 - outside]), value))


def _widened(each: Estimate, units: int, least: float, most: float) -> Estimate:
    """Of so few images or groups that their spread is uncertain, as Student's t has it, within what the mean loss of any labels could be.

    One alone, or several that are alike, say nothing of the spread, and the interval is all of that.
    """
    value, low, high = each[:3]
    if high - low > 1e-12:
        wider = _reach(units) / _reach(_FEW)
        low, high = max(value - wider * (value - low), least), min(value + wider * (high - value), most)
    else:
        low, high = least, most
    return each._replace(low=min(low, each.low), high=max(high, each.high))


def _reach(units: int) -> float:
    """How many standard deviations an interval reaches to each side."""
    return float(t.ppf(0.975, units - 1) if units < _FEW else norm.ppf(0.975))


def share_estimate(value: float, spread: float, units: int) -> Estimate:
    """Of a share in [0, 1] with so large a standard deviation, over so many images or groups, on the scale of its logit.

    On that scale it is 1.96 standard deviations, or as many more as Student's t has for fewer than 30 units, to both sides of the value, so
    that it stays within [0, 1] and is the longer the nearer it comes to an end. It goes to the end itself from a value less than half a
    unit away. Without spread, as without a single mistake, it is that of as many images by Clopper and Pearson.
    """
    if spread < 1e-12:  # the rounding of equal figures
        return Estimate(value, *clopper_pearson(value, units))
    least = 0.5 / units
    inside = float(np.clip(value, least, 1 - least))
    ends = expit(logit(inside) + np.array([-1.0, 1.0]) * _reach(units) * spread / (inside * (1 - inside)))
    return Estimate(value, 0.0 if value < least else float(ends[0]), 1.0 if value > 1 - least else float(ends[1]))


def gap_estimate(gaps: np.ndarray, samples: np.ndarray) -> Estimate:
    """Of a sum of distances from 0, of which chance alone makes more: `gaps` float64 (bins,), and those of the resamples, (r, bins).

    Were the true gaps `factor * gaps`, images would show them with the noise that resampling shows. The interval holds those factors with
    which the sum that was found is within the middle 95 % of what would be found, and the corrected value is where it is the median.
    So it begins at 0 where a calibrated network would show as much, and images that show less than that are taken for one.
    """
    value = float(np.abs(gaps).sum())
    noise = samples - gaps
    by_chance = float(np.quantile(np.abs(noise).sum(axis=1), 0.975))
    if value == 0 or by_chance == 0:
        return Estimate(value, value, min(value + by_chance, 1.0), value)
    farthest = 1 + by_chance / value
    factors = np.linspace(0, farthest, _FACTORS)
    shown = np.stack([np.abs(factor * gaps + noise).sum(axis=1) for factor in factors])
    least, middle, most = np.quantile(shown, [0.025, 0.5, 0.975], axis=1)
    held = factors[(least <= value) & (value <= most)]
    corrected = value * float(np.interp(value, np.maximum.accumulate(middle), factors)) if value > middle[0] else 0.0
    low, high = (value * held.min(), value * held.max()) if len(held) else (0.0, value)
    return Estimate(value, min(float(low), corrected), min(max(float(high), corrected), 1.0), corrected)


def wide_gap_estimate(value: float, confidence: np.ndarray, hits: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Of a calibration error, in [0, 1], of so few images or so few mistakes that resamples do not tell how much chance makes of it.

    It is at least as far as the mean confidence, float (n,), is from the accuracy. So the interval begins at the distance to that of the
    accuracy, which `share_interval` has, and goes as far beyond the value as that goes beyond the accuracy.
    """
    accuracy, low, high = share_interval(hits, groups)
    mean = float(confidence.mean())
    reach = max(accuracy - low, high - accuracy)
    return Estimate(value, min(max(low - mean, mean - high, 0.0), value), min(value + reach, 1.0))


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
    return _resampled(logits, labels, resamples, seed, groups)[0]


def _resampled(
    logits: np.ndarray, labels: np.ndarray, resamples: int, seed: int, groups: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The figures of each resample, float64 (resamples,), and the gaps of those that are made of gaps, float64 (resamples, bins)."""
    counted, classes = metrics.contributions(logits, labels), logits.shape[1]
    figures: dict[str, list[np.ndarray]] = {key: [] for key in metrics.METRICS}
    gaps: dict[str, list[np.ndarray]] = {key: [] for key, metric in metrics.METRICS.items() if metric.gaps is not None}
    for some in resampled_sums(counted, resamples, seed, groups):
        sums = metrics.Sums.of(some, classes)
        for key, metric in metrics.METRICS.items():
            figures[key].append(metric.of(sums))
            if metric.gaps is not None:
                gaps[key].append(metric.gaps(sums) / sums.images)
    together = [{key: np.concatenate(parts) for key, parts in each.items()} for each in (figures, gaps)]
    return together[0], together[1]


def share_interval(hits: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """How many are true, in [0, 1], of bool (n,), n > 0, after Clopper and Pearson (Biometrika 1934).

    With groups it is the interval of as many images as would say as much if each were alone (Korn and Graubard, Survey Methodology 1998);
    where all are alike, of as many as there are groups.
    """
    share = float(hits.mean())
    return Interval(share, *clopper_pearson(share, _independent(hits, groups)))


def clopper_pearson(share: float, n: float) -> tuple[float, float]:
    """The ends of the 95 % interval of a share of n > 0 images, each alone, in [0, 1] (Biometrika 1934); n need not be whole."""
    low = float(beta.ppf(0.025, share * n, n - share * n + 1)) if share > 0 else 0.0
    high = float(beta.ppf(0.975, share * n + 1, n - share * n)) if share < 1 else 1.0
    return low, high


def allowed_by_chance(place: int, n: int, units: int | None) -> tuple[float, float]:
    """The middle 95 % of the shares of all images that lie below the place-th smallest of n values, in [0, 1] (Vovk, ACML 2012).

    Images of one group say no more than one of them may: the range is that of as many images as there are `units`, n if that is None.
    """
    total = (n if units is None else units) + 1
    below = place / (n + 1) * total
    low, high = beta.ppf([0.025, 0.975], below, total - below)
    return float(low), float(high)


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
