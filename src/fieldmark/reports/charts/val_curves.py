"""Top-1 on val over the epochs of several runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import line_style, plain_axes, plain_text, small_legend
from fieldmark.reports.charts.lettering import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.2
"""Height of a line of the legend, in inches."""

Curves = Mapping[str, Sequence[tuple[int, float]]]


def val_curves_chart(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> Chart | None:
    """From the rows of metrics.jsonl by the name of the run: epoch and val_top1 (per cent), before any refit.

    A run without such values leaves its colour unused, so that colours are those of other charts of the same runs. None if no run has any.
    """
    curves = {name: _curve(rows) for name, rows in metrics.items()}
    measured = {name: curve for name, curve in curves.items() if curve}
    if not measured:
        return None
    return Chart("top-1 on val by epoch (%)", _description(measured), 4.6, 3.5 + _ROW * len(measured), partial(_draw, curves=curves))


def _curve(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    measured = [(row["epoch"], row.get("val_top1")) for row in rows if row["phase"] == "fit"]
    return [(epoch, float(value)) for epoch, value in measured if value is not None and math.isfinite(value)]


def _draw(axes: Axes, curves: Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    plain_axes(axes)
    for number, (name, curve) in enumerate(curves.items()):
        if curve:
            epochs, values = zip(*curve, strict=True)
            marker = "o" if len(curve) == 1 else ""
            axes.plot(epochs, values, **line_style(number), linewidth=1.8, marker=marker, markersize=3.5, label=_label(name, curve))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel="top-1 on val (%)")
    legend = axes.figure.legend(**small_legend("highest"), loc="outside lower left", borderaxespad=0)
    plain_text(legend.get_texts())


def _label(name: str, curve: Sequence[tuple[int, float]]) -> str:
    epoch, value = _highest(curve)
    return f"{shortened(printable(name), 50, 24)}: {value:.1f} %, epoch {epoch}"


def _highest(curve: Sequence[tuple[int, float]]) -> tuple[int, float]:
    return max(curve, key=lambda point: point[1])


def _description(curves: Curves) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for name, curve in curves.items():
        epoch, value = _highest(curve)
        parts.append(f"{printable(name)} from {curve[0][1]:.1f} to {curve[-1][1]:.1f}, {value:.1f} in epoch {epoch} at the highest")
    return f"top-1 on val by epoch, in per cent: {'; '.join(parts)}"
