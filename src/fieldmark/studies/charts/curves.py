"""Learning curves of all rungs: accuracy on val and loss on train over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import plain_axes
from fieldmark.studies.charts.colours import Palette, page_colours, rung_style
from fieldmark.studies.results import Curve, Results
from fieldmark.studies.table import DatasetTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY = 14
"""With more rungs than this, lines are thinner."""

_Measure = Literal["val_top1", "train_loss"]
_TITLES: dict[_Measure, str] = {"val_top1": "val top-1 accuracy (%)", "train_loss": "train loss (nats)"}
_Curves = Mapping[int, Sequence[Curve]]
"""By number of the rung, those of its seeds."""


def curve_charts(dataset: DatasetTable, results: Results, colours: Palette) -> list[Chart]:
    """None before a run has recorded an epoch."""
    found = {row.number: [outcome.curve for outcome in results.of(dataset.dataset, row.rung)] for row in dataset.rows}
    found = {number: [curve for curve in curves if len(curve.epochs)] for number, curves in found.items()}
    curves = {number: of_seeds for number, of_seeds in found.items() if of_seeds}
    return [
        Chart(
            title,
            f"{title} over the epochs, as means over the seeds: {_ends(dataset, curves, measure)}",
            5.2,
            3.6,
            partial(_draw, measure=measure, curves=curves, colours=colours),
            page_colours(colours),
            dataset.name,
        )
        for measure, title in _TITLES.items()
        if curves
    ]


def _ends(dataset: DatasetTable, curves: _Curves, measure: _Measure) -> str:
    ends = {number: _mean(of_seeds, measure)[1] for number, of_seeds in curves.items()}
    return ", ".join(f"{dataset.rows[number].name} ends at {values[-1]:.4g}" for number, values in ends.items() if len(values))


def _values(curve: Curve, measure: _Measure) -> np.ndarray:
    return curve.val_top1 if measure == "val_top1" else curve.train_loss


def _mean(curves: Sequence[Curve], measure: _Measure) -> tuple[np.ndarray, np.ndarray]:
    """Over the seeds that measured an epoch; epochs that none measured are left out."""
    epochs = np.concatenate([curve.epochs for curve in curves])
    values = np.concatenate([_values(curve, measure) for curve in curves])
    epochs, values = epochs[~np.isnan(values)], values[~np.isnan(values)]
    distinct, places = np.unique(epochs, return_inverse=True)
    return distinct, np.bincount(places, values) / np.bincount(places) if len(distinct) else values


def _draw(axes: Axes, measure: _Measure, curves: _Curves, colours: Palette) -> None:
    from matplotlib.ticker import MaxNLocator

    plain_axes(axes)
    many = len(curves) > _MANY
    ends = {}
    for number, of_seeds in curves.items():
        style = rung_style(colours, number)
        for curve in of_seeds if len(of_seeds) > 1 else ():
            axes.plot(curve.epochs, _values(curve, measure), linewidth=0.5 if many else 0.8, alpha=0.45, **style)
        epochs, values = _mean(of_seeds, measure)
        if len(epochs):
            marker = "o" if len(epochs) == 1 else ""
            axes.plot(epochs, values, linewidth=1.3 if many else 2, marker=marker, markersize=4, zorder=3, **style)
            ends[number] = (float(epochs[-1]), float(values[-1]))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.locator_params(axis="y", nbins=6)
    _number_ends(axes, ends, colours)


def _number_ends(axes: Axes, ends: Mapping[int, tuple[float, float]], colours: Palette) -> None:
    """Each rung's number to the right of all curves, as near to the height of its end as the others allow; in columns if there are many."""
    if not ends:
        return
    low, high = axes.get_ylim()
    columns = math.ceil(len(ends) / 16)
    apart = (high - low) * 0.055
    right = max(epoch for epoch, _ in ends.values())
    ordered = sorted(ends, key=lambda number: ends[number][1])
    for column in range(columns):
        members = ordered[column::columns]
        heights = spread_out([ends[number][1] for number in members], apart, low, high)
        for number, height in zip(members, heights, strict=True):
            epoch, value = ends[number]
            style = rung_style(colours, number)
            leader: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0, **style}
            axes.annotate(
                str(number),
                (epoch, value),
                (1.03 + 0.055 * column, height),
                textcoords=axes.get_yaxis_transform(),
                fontsize="small",
                va="center",
                arrowprops=leader if columns == 1 or epoch < right else None,
                annotation_clip=False,
                **style,
            )


def spread_out(heights: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Rising heights, moved as little as needed to lie `apart` from one another, and within the bounds if all of them fit."""
    groups: list[list[float]] = []  # of heights that touch: their sum and number
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1 and _middle(groups[-1]) - _middle(groups[-2]) < apart * (groups[-1][1] + groups[-2][1]) / 2:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    placed = [_middle(group) + apart * (k - (group[1] - 1) / 2) for group in groups for k in range(int(group[1]))]
    lowest, highest = low, high
    for k in range(len(placed)):
        placed[k] = max(placed[k], lowest)
        lowest = placed[k] + apart
    for k in reversed(range(len(placed))):
        placed[k] = min(placed[k], highest)
        highest = placed[k] - apart
    return placed


def _middle(group: Sequence[float]) -> float:
    return group[0] / group[1]
