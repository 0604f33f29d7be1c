"""Gains of one recipe over another, with intervals that hold for new seeds and new images alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
POWER = 0.8
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Gain:
    """A difference of accuracies in points (per cent), its simultaneous 95 % interval, and its p-value adjusted for multiple comparisons.

    These three are None if one of the recipes compared has a single seed. Then `images` is the 95 % interval for new test images alone:
    it says nothing of other seeds, and nothing is significant by it.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    images: tuple[float, float] | None = None

    @property
    def significant(self) -> bool | None:
        """Whether the interval excludes zero; None without an interval."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """`+1.3 [0.4, 2.2]`, `+0.3 (-0.8, 1.4)` for new images alone, or `+0.3` without an interval.

        A significant one has enough decimals for an end not to read as zero.
        """
        if self.low is None or self.high is None:
            ends = "" if self.images is None else f" ({', '.join(f'{_rounded(end, 1):.1f}' for end in self.images)})"
            return f"{_rounded(self.value, 1):+.1f}{ends}"
        decimals = 1
        while self.significant and decimals < 6 and _rounded(min(abs(self.low), abs(self.high)), decimals) == 0:
            decimals += 1
        value, low, high = (_rounded(each, decimals) for each in (self.value, self.low, self.high))
        return f"{value:+.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"

    def words(self) -> str:
        """`+1.3 [0.4, 2.2]`; `+0.3 [-0.8, 1.4], no significant difference`; `+0.3 (-0.8, 1.4), one seed: no verdict`."""
        if self.significant is None:
            return f"{self}, one seed: no verdict"
        return str(self) if self.significant else f"{self}, no significant difference"


def _rounded(value: float, decimals: int) -> float:
    return round(value, decimals) + 0.0  # not -0.0


def gains(hits: Sequence[np.ndarray], weights: np.ndarray) -> list[Gain]:
    """The gains of contrasts between rungs, one for each row of `weights`; they hold for new seeds and for new images.

    hits: for each rung a bool array (its seeds, n): whether a run classifies a test image correctly; all have the same n images in the
        same order
    weights: float (m, rungs): each row is a contrast of the rungs' accuracies, such as +1 for a rung and -1 for the one it is compared
        with. Intervals and p-values are corrected for m comparisons, so a row that repeats another should be left out. A row with weight
        on a rung with one seed counts too, although it gets neither: the other rungs cannot tell how much that rung varies. It has an
        interval for new images alone, which is not corrected

    A gain varies with the images drawn and with the seeds drawn (a crossed layout: Owen, Annals of Applied Statistics 2007). The first
    variance is that of each image's own gain over the images. The second is that of the runs' accuracies over the seeds, less what n
    images vary by chance, which is part of the first already; for each rung it is its own or the mean of all rungs, whichever is larger.
    It has the degrees of freedom of a study in which every rung has as many seeds as the rung with the fewest in the comparison. Those of
    the sum are Satterthwaite's (Biometrics Bulletin 1946); the correction for several comparisons is Šidák's (JASA 1967). Each sum of
    squares over images includes one more image, as far off as any can be, so that a handful of images on which all runs agree is not
    significant (as Agresti and Min, Statistics in Medicine 2005, add to pairs).
    The seeds of different rungs count as independent: if a seed number helps or harms several rungs alike, the intervals are too wide. If
    one rung varies three times as much as the others, they can be too narrow: of studies in which nothing helps, up to 8 % find a
    significant gain when all rungs have two seeds, and 11 % when that rung has two and the others eight (benchmarks/study_statistics.py).
    Fix the number of seeds beforehand: adding seeds until a gain is significant finds too many.
    """
    import scipy.stats

    values, errors, freedom = _estimates(hits, weights)
    m = len(weights)
    reach = scipy.stats.t.isf(_tail(m), freedom) * errors
    lowest, highest = _bounds(weights)
    low, high = np.maximum(values - reach, lowest), np.minimum(values + reach, highest)
    with np.errstate(divide="ignore"):
        p = -np.expm1(m * np.log1p(-2 * scipy.stats.t.sf(np.abs(values) / errors, freedom)))
    return [
        Gain(100 * float(v), None, None, None, _over_images(hits, contrast))
        if math.isnan(a)
        else Gain(100 * float(v), 100 * float(a), 100 * float(b), float(q))
        for v, a, b, q, contrast in zip(values, low, high, p, weights, strict=True)
    ]


def _over_images(hits: Sequence[np.ndarray], contrast: np.ndarray) -> tuple[float, float]:
    """The 95 % interval, in points, of a contrast of the runs that there are: a paired bootstrap over the images (percentiles).

    Images on which the contrast is the same are alike to it, so that a resample is how many of each kind are drawn.
    """
    own = np.sum([weight * each.mean(axis=0) for weight, each in zip(contrast, hits, strict=True)], axis=0)
    kinds, counts = np.unique(own, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(own), counts / len(own), size=_RESAMPLES)
    low, high = np.quantile(drawn @ kinds / len(own), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return 100 * float(low), 100 * float(high)


def smallest_gain(hits: Sequence[np.ndarray], weights: np.ndarray) -> float | None:
    """The true gain, in points, that 80 % of such studies would find significant; None without intervals, or if it cannot be estimated.

    It cannot where all seeds of each rung are equally accurate, or where it would be larger than any gain can be. "Such" means with the
    same seeds, images and comparisons. It is an average over the comparisons that have intervals, which differ in width. With two seeds it
    is itself uncertain, by a factor of up to two.
    """
    import scipy.optimize
    import scipy.stats

    _, errors, freedom = _estimates(hits, weights)
    known = ~np.isnan(errors)
    if not known.any() or not any(len({int(run.sum()) for run in each}) > 1 for each in hits):
        return None
    errors, freedom = errors[known], freedom[known]
    reach = scipy.stats.t.isf(_tail(len(weights)), freedom) * errors

    def found(gain: float) -> float:
        return float(scipy.stats.t.cdf((gain - reach) / errors, freedom).mean())

    largest = float(_bounds(weights)[1].max())
    if found(largest) < POWER:
        return None
    return 100 * float(scipy.optimize.brentq(lambda gain: found(gain) - POWER, 0, largest))


def _tail(comparisons: int) -> float:
    """The probability with which each side of one interval may miss, so that all intervals together hold with LEVEL."""
    return -math.expm1(math.log(LEVEL) / comparisons) / 2


def _bounds(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value that each contrast of accuracies can have."""
    return np.minimum(weights, 0).sum(axis=1), np.maximum(weights, 0).sum(axis=1)


class _Estimates(NamedTuple):
    """Of the contrasts, as shares of 1, each float64 (m,): values, standard errors, degrees of freedom.

    The last two are NaN if a rung has one seed.
    """

    values: np.ndarray
    errors: np.ndarray
    freedom: np.ndarray


def _estimates(hits: Sequence[np.ndarray], weights: np.ndarray) -> _Estimates:
    n = hits[0].shape[1]
    assert all(each.shape[1] == n for each in hits) and n > 0 and weights.shape[1] == len(hits) and weights.any(axis=1).all()
    seeds = np.array([len(each) for each in hits])
    values = weights @ np.array([each.mean() for each in hits])
    errors, freedom = np.full((2, len(weights)), np.nan)
    several = seeds > 1
    known = ~weights[:, ~several].any(axis=1)
    if not known.any():
        return _Estimates(values, errors, freedom)

    contrasts = weights[known]
    own = contrasts @ np.stack([each.mean(axis=0) for each in hits])
    against = np.max(np.abs(_bounds(contrasts)), axis=0)
    of_images = (((own - values[known, None]) ** 2).sum(axis=1) + against**2) / n**2

    used, seeds = contrasts[:, several], seeds[several]
    repeated = [each for each in hits if len(each) > 1]
    chance = np.array([_unexplained(each) / n for each in repeated])
    beyond = np.array([each.mean(axis=1).var(ddof=1) for each in repeated]) - chance
    share = used**2 / seeds
    of_seeds = share @ np.maximum(beyond, max(float(beyond.mean()), 0.0))

    # What varies is the variance observed over the seeds, chance included.
    fewest = np.where(used != 0, seeds, seeds.max()).min(axis=1)
    free = np.minimum(len(seeds) * (fewest - 1), (seeds - 1).sum())
    doubt = of_images**2 / max(n - 1, 1) + (of_seeds + share @ chance) ** 2 / free
    total = of_images + of_seeds
    # The sum has no fewer than the least of its parts, which leaving chance out of it would hide where seeds vary less than by chance.
    errors[known], freedom[known] = np.sqrt(total), np.maximum(total**2 / doubt, np.minimum(free, max(n - 1, 1)))
    return _Estimates(values, errors, freedom)


def _unexplained(hits: np.ndarray) -> float:
    """The variance of hits (seeds, n) that neither run nor image explains: the mean square of the residual of a two-way layout."""
    seeds, n = hits.shape
    if n == 1:
        return 0.0
    mean = hits.mean()
    squares = hits.size * mean * (1 - mean) - n * ((hits.mean(axis=1) - mean) ** 2).sum() - seeds * ((hits.mean(axis=0) - mean) ** 2).sum()
    return max(float(squares), 0.0) / ((seeds - 1) * (n - 1))


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over seeds, with the 95 % interval of the deviation; all but the mean None for one value."""

    mean: float
    sd: float | None
    sd_low: float | None
    sd_high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Of normally distributed values; `sd_low` and `sd_high` are from the chi-squared distribution."""
    import scipy.stats

    if len(values) == 1:
        return Spread(float(values[0]), None, None, None)
    sd, free = float(np.std(values, ddof=1)), len(values) - 1
    low, high = (sd * math.sqrt(free / scipy.stats.chi2.isf(tail, free)) for tail in (0.025, 0.975))
    return Spread(float(np.mean(values)), sd, low, high)
