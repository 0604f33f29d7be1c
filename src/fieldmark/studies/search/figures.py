"""The figure of a search: the best val figure over the trials, and the figure of each trial against each key searched over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.reports.charts.chart import Chart, save_png
from fieldmark.reports.charts.drawing import LINES, PAPER, REFERENCE, plain_axes
from fieldmark.reports.charts.lettering import shortened
from fieldmark.studies.search.proposals import Trial
from fieldmark.studies.search.results import SearchResult, figure_title
from fieldmark.studies.search.space import Choices, Dimension, Space, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FINISHED, _STOPPED, _BEST = LINES[0], REFERENCE, LINES[1]
_COLUMNS = 3
_WIDTH = 3.6


def write_search_figure(result: SearchResult, space: Space, path: Path) -> None:
    """Write a PNG: val figures over the numbers of trials with the best so far, then a chart for each dimension.

    Finished trials are dots, the chosen one a star, those stopped early rings at their last figure. The axes cover the finished trials;
    those far worse are drawn at the edge.
    """
    charts = [_dimension_chart(dimension, result) for dimension in space.dimensions]
    rows = [charts[first : first + _COLUMNS] for first in range(0, len(charts), _COLUMNS)]
    save_png([[_course_chart(result)], *rows], path)


def _course_chart(result: SearchResult) -> Chart:
    described = f"{figure_title(result.monitor)} of {len(_drawn(result))} trials, and the best so far"
    return Chart("", described, _WIDTH * _COLUMNS, 3.4, partial(draw_course, result=result))


def _dimension_chart(dimension: Dimension, result: SearchResult) -> Chart:
    described = f"{figure_title(result.monitor)} against {dimension.name}"
    return Chart("", described, _WIDTH, 3.0, partial(draw_dimension, dimension=dimension, result=result))


def draw_course(axes: Axes, result: SearchResult) -> None:
    from matplotlib.ticker import MaxNLocator

    trials = _drawn(result)
    _scatter(axes, [trial.number for trial in trials], trials, result)
    finished = [trial for trial in trials if trial.value is not None]
    if finished:
        best = (np.maximum if result.maximise else np.minimum).accumulate(_figures(finished))
        numbers = [*(trial.number for trial in finished), len(result.trials)]
        axes.step(numbers, [*best, best[-1]], where="post", color=_BEST, linewidth=1.6, label="best so far", zorder=1)
    axes.set_xlabel("trial")
    axes.set_ylabel(figure_title(result.monitor))
    axes.set_xlim(0.5, len(result.trials) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    plain_axes(axes)
    if trials:
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def draw_dimension(axes: Axes, dimension: Dimension, result: SearchResult) -> None:
    mine = [trial for trial in _drawn(result) if dimension.key in trial.settings and dimension.applies(trial.settings)]
    values = [trial.settings[dimension.key] for trial in mine]
    if isinstance(dimension.domain, Choices):
        labels = dimension.domain.labels
        _scatter(axes, [labels.index(label(value)) + _aside(trial.number) for trial, value in zip(mine, values, strict=True)], mine, result)
        axes.set_xticks(range(len(labels)), [shortened(text, 18, 0) for text in labels])
        axes.set_xlim(-0.5, len(labels) - 0.5)
        if sum(map(len, labels)) > 30:
            axes.tick_params(axis="x", labelrotation=25)
    else:
        _scatter(axes, values, mine, result)
        axes.set_xscale("log" if dimension.domain.log else "linear")
    axes.set_xlabel(dimension.name)
    axes.set_ylabel(figure_title(result.monitor))
    if dimension.name in result.importances:
        axes.set_title(f"importance {result.importances[dimension.name]:.0%}", fontsize=9, loc="right")
    plain_axes(axes)


def _scatter(axes: Axes, x: Sequence[float], trials: Sequence[Trial], result: SearchResult) -> None:
    """The trials at their figures, in the style of their state."""
    low, high = _limits(result)
    axes.set_ylim(low, high)
    chosen = result.best.number if result.best is not None else None
    groups = ["chosen" if trial.number == chosen else trial.state for trial in trials]
    styles: dict[str, tuple[str, dict[str, Any]]] = {
        "stopped": ("stopped early", {"facecolors": "none", "edgecolors": _STOPPED, "s": 22}),
        "finished": ("finished", {"color": _FINISHED, "s": 22, "edgecolors": PAPER, "linewidths": 0.5}),
        "chosen": ("chosen", {"color": _BEST, "marker": "*", "s": 150, "edgecolors": PAPER, "zorder": 5}),
    }
    for group, (name, style) in styles.items():
        members = [index for index, each in enumerate(groups) if each == group]
        if members:
            figures = np.clip(_figures([trials[index] for index in members]), low, high)
            axes.scatter([x[index] for index in members], figures, label=name, clip_on=False, **style)


def _drawn(result: SearchResult) -> list[Trial]:
    """The trials that are over and have a finite figure."""
    over = [trial for trial in result.trials if trial.state in ("finished", "stopped")]
    return [trial for trial in over if trial.figure is not None and math.isfinite(trial.figure)]


def _figures(trials: Sequence[Trial]) -> np.ndarray:
    return np.array([trial.figure for trial in trials], dtype=float)


def _limits(result: SearchResult) -> tuple[float, float]:
    """The span of the finished trials, or of all if few have finished, without those far worse than most."""
    trials = _drawn(result)
    finished = [trial for trial in trials if trial.state == "finished"]
    figures = _figures(finished if len(finished) >= 3 else trials)
    if len(figures) == 0:
        return 0.0, 1.0
    low, high = float(figures.min()), float(figures.max())
    quarter, half, three = np.quantile(figures, [0.25, 0.5, 0.75])
    reach = 4 * max(three - quarter, (high - low) * 0.1)
    low, high = (max(low, half - reach), high) if result.maximise else (low, min(high, half + reach))
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _aside(number: int) -> float:
    """What separates trials with equal choices: an offset between -0.15 and 0.15, always the same for a trial."""
    return (number * 0.618034 % 1 - 0.5) * 0.3
