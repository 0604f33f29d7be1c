"""How often answers are wrong, by how many images are answered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import REFERENCE, line_style, plain_axes, plain_text, small_legend
from fieldmark.reports.charts.lettering import printable, shortened
from fieldmark.scoring.selective import RiskCoverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS, _ROWS = 600, 500
"""What can be seen of a curve: further points, across or up, are left out."""
_WIDTH = 4.6
_ROW = 0.2
"""Height of a line of the legend, in inches."""
_REFERENCES = 2
"""Lines that a single curve is compared with."""
_UNSTEADY = 0.05
"""The share of images from which a curve decides the height of its chart; below it, one image is a large share."""


def risk_coverage_chart(curves: Mapping[str, RiskCoverage]) -> Chart:
    """The share of answers that are wrong against the share of images answered, by name.

    A single curve comes with the best possible order of its images, and with none. Raises InputError if there are no curves.
    """
    if not curves:
        raise InputError("there are no curves to draw", hint="Give a run whose evaluation has finished.")
    height = 3.5 + _ROW * (len(curves) + _REFERENCES * (len(curves) == 1))
    return Chart("wrong answers against images answered", _description(curves), _WIDTH, height, partial(_draw, curves=curves))


def _draw(axes: Axes, curves: Mapping[str, RiskCoverage]) -> None:
    plain_axes(axes)
    highest = 1.15 * max(float(curve.risk[(curve.coverage >= _UNSTEADY) | (curve.coverage == 1)].max()) for curve in curves.values())
    top = 100 * min(highest, 1.02) or 1.0
    if len(curves) == 1:
        (curve,) = curves.values()
        end = float(curve.risk[-1])
        coverage = np.linspace(1 - end, 1, 200) if end < 1 else np.array([0.0, 1.0])
        best = 1 - (1 - end) / coverage if end < 1 else np.ones(2)
        line: dict[str, Any] = {"color": REFERENCE, "linewidth": 1.1}
        axes.plot([0, 100], [100 * end, 100 * end], **line, linestyle=(0, (4, 3)), label=f"no order: {_percent(end)} %")
        axes.plot(
            [0, *(100 * coverage)],
            [100 * best[0], *(100 * best)],
            **line,
            linestyle=":",
            label=f"best order: {_percent(curve.best_aurc)} %",
        )
    for number, (name, curve) in enumerate(curves.items()):
        coverage, risk = _thinned(curve, top / 100)
        axes.plot(
            [0, *(100 * coverage)],
            [100 * risk[0], *(100 * risk)],
            drawstyle="steps-pre",
            **line_style(number),
            linewidth=1.8,
            label=f"{shortened(printable(name), 60, 24)}: {_percent(curve.aurc)} %",
            zorder=3,
        )
    axes.set(
        xlim=(0, 100), ylim=(-0.012 * top, top), xlabel="images answered, most confident first (%)", ylabel="answers that are wrong (%)"
    )
    legend = axes.figure.legend(**small_legend("mean over the curve (AURC)"), loc="outside lower left", borderaxespad=0)
    plain_text(legend.get_texts())


def _thinned(curve: RiskCoverage, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk without the points that cannot be distinguished if the axis ends at `top`."""
    coverage, risk = curve.coverage, curve.risk
    if len(coverage) <= _COLUMNS:
        return coverage, risk
    column = np.minimum((coverage * _COLUMNS).astype(int), _COLUMNS - 1)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    by_risk = np.lexsort((risk, column))
    ends = np.append(starts[1:], len(column)) - 1
    kept = np.unique(np.concatenate([starts, by_risk[starts], by_risk[ends], ends]))
    seen: list[int] = []
    last = 0.0
    for place in kept.tolist():
        if not seen or abs(risk[place] - last) > top / _ROWS:
            seen.append(place)
            last = float(risk[place])
        else:
            seen[-1] = place  # a step goes on as far as it stays level
    seen.append(len(risk) - 1)
    places = np.unique(seen)
    return coverage[places], risk[places]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share < 0.1 else f"{100 * share:.1f}"


def _description(curves: Mapping[str, RiskCoverage]) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for name, curve in curves.items():
        places = [int(np.searchsorted(curve.coverage, share)) for share in (0.5, 0.8, 1)]
        said = ", ".join(f"{_percent(float(curve.risk[k]))} % at {100 * curve.coverage[k]:.1f} %" for k in dict.fromkeys(places))
        parts.append(f"{printable(name)}: {said}, AURC {_percent(curve.aurc)} %")
    return f"share of answers that are wrong at a share of images answered: {'; '.join(parts)}"
