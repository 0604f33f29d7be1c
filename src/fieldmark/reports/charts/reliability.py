"""How often answers of a stated confidence are right, before and after calibration."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import LINES, PAPER, REFERENCE, plain_axes
from fieldmark.scoring.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINT, _LINE = LINES[0], REFERENCE
_NORMAL = 1.959964
_SMALLEST, _LARGEST = 25.0, 130.0
"""Of marks: the squares of their widths, in points."""


def reliability_charts(before: Reliability, after: Reliability) -> list[Chart]:
    """Accuracy by confidence, with 95 % intervals, and how often a confidence occurs, before and after calibration on the same axes.

    One chart if calibration changed nothing.
    """
    draw = partial(_draw, highest=_highest(before, after))
    return [Chart(title, _description(title, bins), 4.6, 4.6, partial(draw, bins=bins)) for title, bins in _titled(before, after)]


def _titled(before: Reliability, after: Reliability) -> list[tuple[str, Reliability]]:
    if all(np.array_equal(one, other) for one, other in zip(astuple(before), astuple(after), strict=True)):
        return [(f"confidence and accuracy: ECE {100 * _ece(before):.1f} % as computed", before)]
    return [
        (f"{when} calibration: ECE {100 * _ece(bins):.1f} % as computed", bins) for when, bins in (("before", before), ("after", after))
    ]


def _ece(bins: Reliability) -> float:
    return float((_shares(bins) * np.abs(bins.accuracy - bins.confidence)).sum())


def _shares(bins: Reliability) -> np.ndarray:
    return bins.counts / max(int(bins.counts.sum()), 1)


def _highest(*both: Reliability) -> float:
    """The largest share of images that one bin has."""
    return max(max(_shares(bins).max(initial=0) for bins in both), 0.01)


def _wilson(bins: Reliability) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % intervals of the accuracies (Wilson, 1927)."""
    n, square = bins.counts, _NORMAL**2
    centre = (bins.accuracy + square / (2 * n)) / (1 + square / n)
    half = _NORMAL / (1 + square / n) * np.sqrt(bins.accuracy * (1 - bins.accuracy) / n + square / (4 * n**2))
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def _draw(axes: Axes, bins: Reliability, highest: float) -> None:
    place = axes.get_subplotspec()
    assert place is not None
    grid = place.subgridspec(2, 1, height_ratios=(3, 1))
    axes.set_subplotspec(grid[0])
    below = axes.figure.add_subplot(grid[1], sharex=axes)
    axes.tick_params(labelbottom=False)
    confidence, accuracy = 100 * bins.confidence, 100 * bins.accuracy
    low, high = _wilson(bins)
    ticks = range(0, 101, 20)
    plain_axes(axes)
    axes.plot([0, 100], [0, 100], color=_LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    axes.vlines(confidence, 100 * low, 100 * high, color=_POINT, linewidth=1.4, zorder=2)
    sizes = np.sqrt(_SMALLEST + (_LARGEST - _SMALLEST) * _shares(bins) / highest)
    for x, y, size in zip(confidence, accuracy, sizes, strict=True):
        axes.plot([x], [y], "o", color=_POINT, markersize=size, markeredgecolor=PAPER, markeredgewidth=0.8, zorder=3, clip_on=False)
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=ticks, yticks=ticks, ylabel="accuracy (%)")
    plain_axes(below)
    below.bar(
        100 * bins.lows,
        100 * _shares(bins),
        100 * (bins.highs - bins.lows),
        align="edge",
        color=_POINT,
        edgecolor=PAPER,
        linewidth=0.8,
        zorder=2,
    )
    below.set(ylim=(0, 105 * highest), xlabel="confidence (%)", ylabel="images (%)")
    below.locator_params(axis="y", nbins=3)


def _description(title: str, bins: Reliability) -> str:
    """The chart in words, for those who do not see it."""
    rows = zip(bins.confidence, bins.accuracy, bins.counts.tolist(), strict=True)
    said = [f"{100 * confidence:.1f} % sure, {100 * accuracy:.1f} % right, {count:,} images" for confidence, accuracy, count in rows]
    return f"accuracy by confidence {title}: {'; '.join(said) or 'there are no images'}"
