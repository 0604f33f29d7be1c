"""The image of a search: the best val figure over the trials, and the figure of each trial against each key that was searched over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.reports.drawing import PAPER, plain_axes, write_png
from fieldmark.studies.search.proposals import Trial
from fieldmark.studies.search.results import SearchResult, figure_title
from fieldmark.studies.search.space import Choices, Dimension, Space, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FINISHED, _STOPPED, _BEST = "#0072b2", "#999999", "#d55e00"  # told apart by colour-blind readers too (Okabe and Ito)
_COLUMNS = 3
_LONGEST_LABEL = 18


def write_search_figure(result: SearchResult, space: Space, path: Path) -> None:
    """Draw into a PNG: val figures over the numbers of trials with the best so far, then a panel for each dimension.

    Finished trials are dots, the chosen one a star, those stopped early rings at the figure that they had by then. The axes show what
    finished; what is worse than that stands at their edge.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(space.dimensions) / _COLUMNS)
    figure = Figure(figsize=(3.6 * _COLUMNS, 3.4 + 3.0 * rows), dpi=150, layout="constrained")
    grid = figure.add_gridspec(rows + 1, _COLUMNS)
    trials = [trial for trial in result.trials if _finite(trial)]
    first = figure.add_subplot(grid[0, :])
    _draw_course(first, result, trials)
    for index, dimension in enumerate(space.dimensions):
        axes = figure.add_subplot(grid[1 + index // _COLUMNS, index % _COLUMNS], sharey=first)
        _draw_dimension(axes, dimension, result, trials)
        if index % _COLUMNS == 0:
            axes.set_ylabel(figure_title(result.monitor))
    write_png(figure, path)


def _draw_course(axes: Axes, result: SearchResult, trials: Sequence[Trial]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(_limits(trials, result.maximise))
    _scatter(axes, [trial.number for trial in trials], trials, result)
    finished = [trial for trial in trials if trial.value is not None]
    if finished:
        best = (np.maximum if result.maximise else np.minimum).accumulate(_figures(finished))
        numbers = [trial.number for trial in finished]
        axes.step(
            [*numbers, len(result.trials)], [*best, best[-1]], where="post", color=_BEST, linewidth=1.6, label="best so far", zorder=1
        )
    axes.set_xlabel("trial")
    axes.set_ylabel(figure_title(result.monitor))
    axes.set_xlim(0.5, len(result.trials) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    plain_axes(axes)
    if trials:
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def _draw_dimension(axes: Axes, dimension: Dimension, result: SearchResult, trials: Sequence[Trial]) -> None:
    mine = [trial for trial in trials if dimension.key in trial.settings and dimension.applies(trial.settings)]
    values = [trial.settings[dimension.key] for trial in mine]
    if isinstance(dimension.domain, Choices):
        labels = dimension.domain.labels
        _scatter(axes, [labels.index(label(value)) + _aside(trial.number) for trial, value in zip(mine, values, strict=True)], mine, result)
        axes.set_xticks(range(len(labels)), [text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…" for text in labels])
        axes.set_xlim(-0.5, len(labels) - 0.5)
        if sum(map(len, labels)) > 30:
            axes.tick_params(axis="x", labelrotation=25)
    else:
        _scatter(axes, values, mine, result)
        axes.set_xscale("log" if dimension.domain.log else "linear")
    axes.set_xlabel(dimension.name)
    if dimension.name in result.importances:
        axes.set_title(f"importance {result.importances[dimension.name]:.0%}", fontsize=9, loc="right")
    plain_axes(axes)


def _scatter(axes: Axes, x: Sequence[float], trials: Sequence[Trial], result: SearchResult) -> None:
    """The trials at their figures, told apart by what became of them."""
    low, high = axes.get_ylim()
    chosen = result.best.number if result.best is not None else None
    groups = ["chosen" if trial.number == chosen else trial.state for trial in trials]
    styles: dict[str, tuple[str, dict[str, Any]]] = {
        "stopped": ("stopped early", {"facecolors": "none", "edgecolors": _STOPPED, "s": 22}),
        "finished": ("finished", {"color": _FINISHED, "s": 22, "edgecolors": PAPER, "linewidths": 0.5}),
        "chosen": ("chosen", {"color": _BEST, "marker": "*", "s": 150, "edgecolors": PAPER, "zorder": 5}),
    }
    for group, (name, style) in styles.items():
        shown = [index for index, each in enumerate(groups) if each == group]
        if shown:
            figures = np.clip(_figures([trials[index] for index in shown]), low, high)
            axes.scatter([x[index] for index in shown], figures, label=name, clip_on=False, **style)


def _figures(trials: Sequence[Trial]) -> np.ndarray:
    return np.array([trial.figure for trial in trials], dtype=float)


def _limits(trials: Sequence[Trial], maximise: bool) -> tuple[float, float]:
    """The span of the finished trials, or of all where few have finished; without those that are far worse than most."""
    finished = [trial for trial in trials if trial.state == "finished"]
    figures = _figures(finished if len(finished) >= 3 else trials)
    if len(figures) == 0:
        return 0.0, 1.0
    low, high = float(figures.min()), float(figures.max())
    quarter, half, three = np.quantile(figures, [0.25, 0.5, 0.75])
    reach = 4 * max(three - quarter, (high - low) * 0.1)
    low, high = (max(low, half - reach), high) if maximise else (low, min(high, half + reach))
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _aside(number: int) -> float:
    """Equal choices side by side: a place between -0.15 and 0.15, always the same for a trial."""
    return (number * 0.618034 % 1 - 0.5) * 0.3


def _finite(trial: Trial) -> bool:
    return trial.state in ("finished", "stopped") and trial.figure is not None and math.isfinite(trial.figure)
