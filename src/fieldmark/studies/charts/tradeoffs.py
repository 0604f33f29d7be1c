"""Accuracy on test against each cost in which rungs differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import INK, plain_axes
from fieldmark.studies.charts.colours import Palette, page_colours, rung_style
from fieldmark.studies.charts.numbers import number_points
from fieldmark.studies.table import Cost, DatasetTable, Measured, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY = 14
"""With more rungs than this, points are smaller, and only those on the front are numbered."""


_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TIME = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class CostAxis:
    """A cost that accuracy is drawn against: its name, how it is read from the costs of a rung, and its units, the largest first."""

    name: str
    of: Callable[[Cost], float]
    units: Sequence[tuple[float, str]]

    def unit(self, values: Sequence[float]) -> tuple[float, str]:
        """The one of an axis of these values, so that its numbers are short: the largest that the highest value holds twice."""
        return next((unit for unit in self.units if 2 * unit[0] <= max(values)), self.units[-1])


_TRAINABLE = CostAxis("trainable parameters", lambda cost: cost.trainable, _LARGE)
COSTS = (
    CostAxis("parameters", lambda cost: cost.parameters, _LARGE),
    _TRAINABLE,
    CostAxis("multiply-adds per image", lambda cost: cost.macs, _LARGE),
    CostAxis("training time", lambda cost: cost.seconds, _TIME),
)

_Point = tuple[Row, Measured]


def tradeoff_charts(dataset: DatasetTable, colours: Palette) -> list[Chart]:
    return [
        Chart(
            f"test top-1 (%) against {cost.name}",
            f"test top-1 against {cost.name}; unbeaten at their cost: {', '.join(row.name for row, _ in front(cost, dataset.rows))}",
            4.4,
            3.5,
            partial(_draw, cost=cost, rows=dataset.rows, colours=colours),
            page_colours(colours),
            dataset.name,
        )
        for cost in costs(dataset)
    ]


def costs(dataset: DatasetTable) -> list[CostAxis]:
    """Those in which rungs differ."""
    return [cost for cost in _known(dataset) if not _is_shared(cost, dataset)]


def shared_costs(dataset: DatasetTable) -> list[str]:
    """The names of those that are the same for all rungs."""
    return [cost.name for cost in _known(dataset) if _is_shared(cost, dataset)]


def _known(dataset: DatasetTable) -> list[CostAxis]:
    """None before a run has finished; without the trainable parameters if every rung trains all of its parameters."""
    known = [measured.cost for _, measured in _points(dataset.rows)]
    all_trained = all(cost.trainable == cost.parameters for cost in known)
    return [cost for cost in COSTS if known and not (cost is _TRAINABLE and all_trained)]


def _is_shared(cost: CostAxis, dataset: DatasetTable) -> bool:
    return len({cost.of(measured.cost) for _, measured in _points(dataset.rows)}) == 1


def _points(rows: Sequence[Row]) -> list[_Point]:
    return [(row, row.measured) for row in rows if row.measured is not None]


def front(cost: CostAxis, rows: Sequence[Row]) -> list[_Point]:
    """The rungs that no other beats at the same cost or less, the cheapest first."""
    found: list[_Point] = []
    for row, measured in sorted(_points(rows), key=lambda point: (cost.of(point[1].cost), -point[1].test.mean)):
        if not found or measured.test.mean > found[-1][1].test.mean:
            found.append((row, measured))
    return found


def _draw(axes: Axes, cost: CostAxis, rows: Sequence[Row], colours: Palette) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    plain_axes(axes)
    known = _points(rows)
    size, unit = cost.unit([cost.of(measured.cost) for _, measured in known])
    values = [cost.of(measured.cost) / size for _, measured in known]
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5) if max(values) < 100 * min(values) else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="x", useOffset=False)
    unbeaten = front(cost, rows)
    steps = [cost.of(measured.cost) / size for _, measured in unbeaten], [measured.test.mean for _, measured in unbeaten]
    axes.step(*steps, color=INK, linewidth=0.9, linestyle="--", where="post", zorder=1)
    numbered = {}
    for point, value in zip(known, values, strict=True):
        row, measured = point
        style = rung_style(colours, row.number)
        if measured.low is not None and measured.high is not None:
            axes.plot([value, value], [measured.low, measured.high], linewidth=1, alpha=0.55, **style)
        axes.plot([value], [measured.test.mean], "o", markersize=6 if len(known) <= _MANY else 4.5, zorder=3, **style)
        if len(known) <= _MANY or point in unbeaten:
            numbered[row.number] = (value, measured.test.mean)
    axes.margins(x=0.1)
    axes.set_xlabel(f"{cost.name} ({unit})" if unit else cost.name)
    number_points(axes, numbered, {number: rung_style(colours, number) for number in numbered})
