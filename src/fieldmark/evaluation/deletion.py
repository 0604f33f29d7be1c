"""Whether a heat map means anything: what the network loses when the places that the map marks are taken out of the image.

The deletion metric of RISE (Petsiuk et al., BMVC 2018), held against the same map laid elsewhere: taking out anything costs probability,
and only what the marked places cost beyond that speaks for the map. It cannot tell a map of this image from one that always marks the
middle, where objects mostly are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import sem
from scipy.stats import t as student

from fieldmark.core.randomness import key, permutation, uniform
from fieldmark.runtime.opencv import opencv

MOVED = 19
"""By chance none of them does as much harm once in twenty times."""
_STEPS = 12
_GRID = 14
_SMALLEST_PATCH = 4
_BLUR = 1 / 8
"""Standard deviation as a share of the image's side: nothing but broad patches of colour is left."""
_FEWEST = 6
"""With fewer images, all gains have one sign by chance more often than once in twenty times."""


@dataclass(frozen=True, eq=False)
class Deletion:
    """The check of one image's map.

    score: mean probability of the class, in [0, 1], while the image is taken out patch by patch, the hottest first.
    moved: float64 (k,), the same of the map laid elsewhere.
    """

    score: float
    moved: np.ndarray

    @property
    def gain(self) -> float:
        """Probability that the map's places cost beyond as many elsewhere, in [-1, 1]; above 0 where the map marks what matters."""
        return float(self.moved.mean() - self.score)

    @property
    def p(self) -> float:
        """How often a map laid anywhere would do as much harm, by rank among the moved ones; at least 1 / (k + 1)."""
        return float(1 + (self.moved <= self.score).sum()) / (len(self.moved) + 1)


@dataclass(frozen=True)
class DeletionSummary:
    """Mean gain in points of probability over `n` images with its 95 % interval by Student's t, whose ends are NaN for one image."""

    points: float
    low: float
    high: float
    n: int

    @property
    def significant(self) -> bool:
        """Whether the maps mark what matters: the interval is above zero, and there are images enough for one."""
        return self.low > 0 and self.n >= _FEWEST

    @property
    def cost(self) -> str:
        """What stands before "than deleting as much elsewhere"."""
        return f"{abs(self.points):.1f} points of probability {_more(self.points)}"

    @property
    def interval(self) -> str:
        """Of the cost, in the same words; nothing for one image."""
        low, high = (f"{abs(end):.1f} {_more(end)}" for end in (self.low, self.high))
        return f"95 % interval {low} to {high}" if self.n > 1 else ""

    def __str__(self) -> str:
        interval = f" [{self.low:.1f}, {self.high:.1f}]" if self.n > 1 else ""
        text = f"{self.points:+.1f} points{interval} over {self.n} image{'s' * (self.n != 1)}"
        return text if self.significant else f"{text}: no significant evidence that the maps mark what matters"


def _more(points: float) -> str:
    return "more" if points >= 0 else "less"


def deletion_check(probability: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, heat: np.ndarray, seed: int) -> Deletion:
    """Take patches out of one image, those that its map marks first, and follow the probability of the class.

    Args:
        probability: of the class, for uint8 (m, 3, S, S): float (m,) in [0, 1]; called once, with at most 222 images. NaN counts as 0.
        pixels: uint8 (3, S, S).
        heat: float (S, S), the map of that class.
        seed: with another for each image, their moved maps are drawn independently.

    There are 14 x 14 patches, or as many of at least 4 pixels as there is room for. Their pixels give way to those of a strongly blurred
    copy, in 12 steps of as many patches as can be alike; the score is the area under the curve by trapezoids. The MOVED other maps are the
    patches' heat shifted cyclically and mirrored at random, never left in place. Patches of equal heat go in a random order that is the
    same for all maps, so that a flat map, or a network that sees nothing, has a gain of exactly 0 and p = 1.
    """
    size = pixels.shape[-1]
    grid = max(1, min(_GRID, size // _SMALLEST_PATCH))
    rows = np.arange(size) * grid // size
    patches = rows[:, None] * grid + rows
    hot = (np.bincount(patches.ravel(), heat.ravel()) / np.bincount(patches.ravel())).reshape(grid, grid)
    ties = permutation(key(seed, "ties"), grid * grid)
    ranks = np.array([_ranks(each.ravel(), ties) for each in (hot, *_moved(hot, seed))])
    # Equal orders are followed once: the same images elsewhere in a batch need not give the same bits.
    orders, which = np.unique(ranks, axis=0, return_inverse=True)
    taken = np.round(np.arange(1, _STEPS) * grid * grid / _STEPS)
    gone = orders[:, patches][:, None] < taken[:, None, None]
    blurred = opencv().GaussianBlur(pixels.transpose(1, 2, 0), (0, 0), size * _BLUR).transpose(2, 0, 1)
    steps = np.where(gone[:, :, None], blurred, pixels).reshape(-1, *pixels.shape)
    first, last, *between = np.nan_to_num(np.asarray(probability(np.concatenate([[pixels, blurred], steps])), np.float64))
    areas = ((first + last) / 2 + np.reshape(between, (len(orders), -1)).sum(axis=1)) / _STEPS
    score, *moved = areas[which.ravel()]
    return Deletion(float(score), np.array(moved))


def deletion_summary(checks: Sequence[Deletion]) -> DeletionSummary:
    """Raises ValueError where there are no checks."""
    if not checks:
        raise ValueError("there are no deletion checks to sum up")
    gains = 100 * np.array([check.gain for check in checks])
    points = float(gains.mean())
    reach = float(student.isf(0.025, len(gains) - 1) * sem(gains)) if len(gains) > 1 else math.nan
    return DeletionSummary(points, points - reach, points + reach, len(gains))


def _ranks(heat: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The place of each patch in the order in which they are taken out: int64 (patches,); `ties` is the order of equal ones."""
    ranks = np.empty(len(heat), np.int64)
    ranks[ties[np.argsort(-heat[ties], kind="stable")]] = np.arange(len(heat))
    return ranks


def _moved(heat: np.ndarray, seed: int) -> list[np.ndarray]:
    """Heat of patches (g, g), shifted by at least one patch and mirrored in either direction, or not, at random."""
    grid = len(heat)
    draws = uniform(key(seed, "moved"), np.arange(MOVED), 3)
    shifts = 1 + (draws[:, 0] * (grid * grid - 1)).astype(np.int64)
    return [
        np.roll(heat[:: 1 if down < 0.5 else -1, :: 1 if across < 0.5 else -1], divmod(shift, grid), axis=(0, 1))
        for shift, (down, across) in zip(shifts.tolist(), draws[:, 1:], strict=True)
    ]
