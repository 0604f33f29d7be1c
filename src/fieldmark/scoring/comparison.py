"""Two models on the same images: which is right more often, and whether the difference is significant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from fieldmark.core.errors import InputError
from fieldmark.scoring.intervals import interval, resampled_sums
from fieldmark.scoring.metrics import top_k_hits
from fieldmark.scoring.predictions import Predictions


@dataclass(frozen=True)
class Difference:
    """Top-1 of one model minus that of another, in points, with its 95 % interval by a paired bootstrap over `n` images, or
    over their groups.

    wins, losses: images that only the one, or only the other, classifies correctly.
    p: of McNemar's exact test (Psychometrika 1947), two-sided: how often chance alone would make a difference this large.
    """

    points: float
    low: float
    high: float
    n: int
    wins: int
    losses: int
    p: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero and p is below 0.05."""
        return not self.low <= 0 <= self.high and self.p < 0.05

    def __str__(self) -> str:
        text = f"{self.points:+.1f} points [{self.low:.1f}, {self.high:.1f}], p = {self.p:.2g} (McNemar)"
        return text if self.significant else f"{text}: not significant"


def compare(one: Predictions, other: Predictions, resamples: int, seed: int) -> Difference:
    """Raises InputError if they share no labelled images, and ValueError if their classes or labels differ."""
    if one.class_names != other.class_names:
        raise ValueError("predictions over other classes cannot be compared")
    places = {each: row for row, each in enumerate(other.ids.tolist())}
    rows = np.array([row for row, each in enumerate(one.ids.tolist()) if one.labels[row] >= 0 and each in places], np.int64)
    if not len(rows):
        raise InputError("the two models have no labelled images in common")
    others = np.array([places[each] for each in one.ids[rows].tolist()], np.int64)
    if (one.labels[rows] != other.labels[others]).any():
        raise ValueError("the two models have other labels for the same images")
    hits = (top_k_hits(each.logits[chosen], each.labels[chosen], 1) for each, chosen in ((one, rows), (other, others)))
    gained = np.subtract(*(each.astype(np.int8) for each in hits), dtype=np.int8)
    wins, losses, n = int((gained > 0).sum()), int((gained < 0).sum()), len(rows)
    counted = np.stack([gained, np.ones(n)], axis=1)
    groups = None if one.groups is None else one.groups[rows]
    sums = np.concatenate(list(resampled_sums(counted, resamples, seed, groups)))
    means = sums[:, 0] / sums[:, 1]
    points, low, high = (100 * each for each in interval((wins - losses) / n, means))
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Difference(points, low, high, n, wins, losses, p)


def paired_interval(lost: int, gained: int, n: int) -> tuple[float, float]:
    """The 95 % interval of (lost - gained) / n, in points, where each of n images may be lost, gained or neither.

    Bonett and Price's adjusted Wald interval (Journal of Educational and Behavioral Statistics 2012): it has a width even if nothing was
    lost or gained.
    """
    first, second = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    middle, half = first - second, norm.ppf(0.975) * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    return 100 * max(middle - half, -1), 100 * min(middle + half, 1)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several comparisons, adjusted so that one below 0.05 arises by chance in at most one of twenty such sets.

    After Holm (Scandinavian Journal of Statistics 1979), however the comparisons depend on one another.
    """
    adjusted, reached = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda each: p[each])):
        reached = max(reached, min((len(p) - rank) * p[place], 1.0))
        adjusted[place] = reached
    return adjusted
