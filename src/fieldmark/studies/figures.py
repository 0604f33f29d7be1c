"""Images of a study: its gains, learning curves and trade-offs, as PNG files and as SVG for its page. A rung keeps its colour."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.console import duration
from fieldmark.reports.drawing import INK, PAPER, Panel, house_style, page_svg, plain_axes, write_png
from fieldmark.studies.formats import gain_text, large
from fieldmark.studies.plan import QUICK, StudyPlan
from fieldmark.studies.results import Curve, Results
from fieldmark.studies.statistics import Gain
from fieldmark.studies.table import Cost, DatasetTable, Measured, Row, StudyTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_BASE = ("#555b64", "#aab0ba")
_FEW = (
    ("#0072b2", "#4fb0e6"),
    ("#d55e00", "#f08c4a"),
    ("#00805f", "#2fc79a"),
    ("#b5508a", "#e69ac4"),
    ("#8a6d00", "#e0c04a"),
    ("#5b4fc0", "#a79df2"),
    ("#7a4b2a", "#c99a74"),
)
_ROW = 0.3
_LONGEST_NAME = 26
_MANY = 14
"""Above this number of rungs, only those on the front of a trade-off are numbered, and lines are thinner."""


@dataclass(frozen=True)
class _Map:
    """A colour map of matplotlib, and the parts of it that can be told from white and from a dark page."""

    name: str
    light: tuple[float, float]
    dark: tuple[float, float]


_STEPS = _Map("plasma", (0.0, 0.62), (0.42, 0.97))
_ASIDE = _Map("BuGn", (0.78, 1.0), (0.3, 0.7))


def palette(table: StudyTable) -> list[tuple[str, str]]:
    """For each rung its colour on a light and on a dark page (#rrggbb): the base grey, a ladder or many rungs in the order of a colour map.

    The side branches of a ladder have a colour map of their own. All kinds can be told apart by colour-blind readers; the images number
    the rungs as well.
    """
    changed = table.datasets[0].rows[1:] if table.datasets else ()
    if table.arrangement != "ladder" and len(changed) <= len(_FEW):
        return [_BASE, *_FEW[: len(changed)]]
    branches = sum(row.rung.branch for row in changed)
    steps, aside = iter(_shades(_STEPS, len(changed) - branches)), iter(_shades(_ASIDE, branches))
    return [_BASE, *(next(aside if row.rung.branch else steps) for row in changed)]


def _shades(colours: _Map, count: int) -> list[tuple[str, str]]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    places = np.linspace(0, 1, count) if count > 1 else np.array([0.5])[:count]
    ends = (colours.light, colours.dark)
    shades = [[to_hex(colormaps[colours.name](low + place * (high - low))) for low, high in ends] for place in places]
    return [(light, dark) for light, dark in shades]


@dataclass(frozen=True)
class Charts:
    """Of one dataset, for its page. `alike` says which costs are left out of the trade-offs, since all rungs have the same."""

    gains: list[Panel]
    curves: list[Panel]
    tradeoffs: list[Panel]
    alike: list[str]


@dataclass(frozen=True)
class _Chart:
    """One pair of axes: `height` and `width` in inches; `described` is the chart in words."""

    title: str
    width: float
    height: float
    draw: Callable[[Axes], None]
    described: str


@dataclass(frozen=True)
class _Forest:
    """Gains one below the other: what each is called, the gain, and the number of the rung whose colour it has."""

    title: str
    marks: list[tuple[str, Gain | None, int]]


@dataclass(frozen=True)
class _Cost:
    """A cost that accuracy is drawn against: the name of its axis, how it is read from the costs of a rung, and how it is written."""

    axis: str
    of: Callable[[Cost], float]
    text: Callable[[float], str]


_TRAINABLE = _Cost("trainable parameters", lambda cost: cost.trainable, large)
_COSTS = (
    _Cost("parameters", lambda cost: cost.parameters, large),
    _TRAINABLE,
    _Cost("multiply-adds per image", lambda cost: cost.macs, large),
    _Cost("training time", lambda cost: cost.seconds, duration),
)


def write_figures(plan: StudyPlan, table: StudyTable, results: Results) -> None:
    """Write gains.png, curves.png and tradeoff.png into the study's folder of figures, one dataset below the other.

    An image of which nothing is known yet is not there.
    """
    folder = plan.folder / "figures"
    folder.mkdir(exist_ok=True)
    colours = [light for light, _ in palette(table)]
    drawn = [(dataset, _charts(table, dataset, results, colours)) for dataset in table.datasets]
    for name in ("gains", "curves", "tradeoff"):
        kept = [(dataset, charts[name]) for dataset, charts in drawn if charts[name]]
        if kept:
            with _style({"font.size": 9.5}):
                write_png(_figure(kept, colours, _titles(table), legend=name != "gains"), folder / f"{name}.png")
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)


def dataset_charts(table: StudyTable, dataset: DatasetTable, results: Results) -> Charts:
    """The same charts one by one, in the page's variables --rung-0, --rung-1 … Elements of a rung have its class, such as `rung-1`."""
    colours = [light for light, _ in palette(table)]
    variables = {colour: f"var(--rung-{number})" for number, colour in enumerate(colours)}
    charts = _charts(table, dataset, results, colours)

    def panel(chart: _Chart) -> Panel:
        def draw(figure: Figure) -> None:
            axes = figure.subplots()
            axes.set_facecolor("none")
            chart.draw(axes)

        with _style({}):
            svg = page_svg(draw, (chart.width, chart.height), f"{dataset.name} {chart.title}", variables, chart.described)
        return Panel(chart.title, re.sub(r' id="(rung-\d+)"', r' class="\1"', svg))

    alike = [f"All rungs have the same {cost.axis}." for cost in _known_costs(dataset) if cost not in _costs(dataset)]
    return Charts(list(map(panel, charts["gains"])), list(map(panel, charts["curves"])), list(map(panel, charts["tradeoff"])), alike)


def _charts(table: StudyTable, dataset: DatasetTable, results: Results, colours: Sequence[str]) -> dict[str, list[_Chart]]:
    curves = _curves(dataset, results)
    return {
        "gains": [
            _Chart(
                forest.title,
                5.2,
                0.75 + _ROW * len(forest.marks),
                partial(_draw_forest, forest=forest, colours=colours),
                f"{forest.title}, in points: {_said(forest)}",
            )
            for forest in _forests(table, dataset)
        ],
        "curves": [
            _Chart(
                title,
                5.2,
                3.6,
                partial(_draw_curves, measure=measure, curves=curves, colours=colours),
                f"{title} over the epochs, as means over the seeds: {_ends(dataset, curves, measure)}",
            )
            for title, measure in _MEASURES
            if curves
        ],
        "tradeoff": [
            _Chart(
                f"test top-1 (%) against {cost.axis}",
                4.4,
                3.5,
                partial(_draw_tradeoff, cost=cost, rows=dataset.rows, colours=colours),
                f"test top-1 against {cost.axis}; unbeaten at their cost: {', '.join(row.name for row, _ in _front(cost, dataset.rows))}",
            )
            for cost in _costs(dataset)
        ],
    }


def _style(settings: dict[str, Any]) -> AbstractContextManager[Any]:
    """Without words about letters that the font does not have."""
    stack = ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
    stack.enter_context(house_style(settings))
    return stack


def _titles(table: StudyTable) -> dict[str, str]:
    """Of the parts of an image, by dataset: its name where there are several, and the warning that a quick form needs anywhere."""
    names = {dataset.name: _short(dataset.name, 80) if len(table.datasets) > 1 else "" for dataset in table.datasets}
    return {name: ". ".join(part for part in (title, QUICK.rstrip(".") * table.quick) if part) for name, title in names.items()}


def _figure(parts: Sequence[tuple[DatasetTable, list[_Chart]]], colours: Sequence[str], titles: Mapping[str, str], legend: bool) -> Figure:
    """The charts of a dataset side by side, the datasets one below the other, with their titles where they have some."""
    from matplotlib.figure import Figure

    heights = []
    for dataset, charts in parts:
        keys = math.ceil(len(dataset.rows) / _legend_columns(dataset.rows)) if legend else 0
        heights.append(max(chart.height for chart in charts) + 0.35 + 0.2 * keys + 0.3 * bool(titles[dataset.name]))
    width = max(max(sum(chart.width for chart in charts) for _, charts in parts), 8)
    figure = Figure(figsize=(width, sum(heights)), dpi=150, layout="constrained")
    subfigures = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for subfigure, (dataset, charts) in zip(subfigures, parts, strict=True):
        if titles[dataset.name]:
            subfigure.suptitle(titles[dataset.name], fontweight="bold", parse_math=False)
        for axes, chart in zip(subfigure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
            chart.draw(axes)
            axes.set_title(chart.title, loc="left", fontsize="medium")
        if legend:
            _legend(subfigure, dataset.rows, colours)
    return figure


def _legend(part: SubFigure, rows: Sequence[Row], colours: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=colour, linewidth=2.5) for colour in colours]
    names = [_short(f"{row.number}  {row.name}", 32) for row in rows]
    shown = part.legend(keys, names, loc="outside lower left", ncols=_legend_columns(rows), frameon=False, fontsize="small")
    for text in shown.get_texts():
        text.set_parse_math(False)


def _legend_columns(rows: Sequence[Row]) -> int:
    return 4 if max(len(row.name) for row in rows) > 16 else 6


# ---- gains ------------------------------------------------------------------------------------------------------------------------


def _forests(table: StudyTable, dataset: DatasetTable) -> list[_Forest]:
    changed = dataset.rows[1:]
    forests = []
    if dataset.effects:
        marks: list[tuple[str, Gain | None, int]] = [
            (f"{effect.factor}: {effect.option} over {effect.against}", effect.gain, 0) for effect in dataset.effects
        ]
        forests.append(_Forest("gain of an option, averaged over the other factors", marks))
    if table.arrangement == "ladder":
        numbers = {row.rung.name: row.number for row in dataset.rows}
        branch = {row.number: f" (on {numbers.get(str(row.rung.before), '?')})" for row in changed if row.rung.branch}
        marks = [(_called(row) + branch.get(row.number, ""), row.over_before, row.number) for row in changed]
        title = "gain over the rung before" + (", or the one named" if branch else "")
        forests.append(_Forest(title, marks))
    forests.append(_Forest("gain over the base", [(_called(row), row.over_base, row.number) for row in changed]))
    return [forest for forest in forests if any(gain is not None for _, gain, _ in forest.marks)]


def _called(row: Row) -> str:
    return f"{row.number}  {row.name}"


def _said(forest: _Forest) -> str:
    return "; ".join(f"{' '.join(name.split())} {'not compared' if gain is None else gain_text(gain)}" for name, gain, _ in forest.marks)


def _draw_forest(axes: Axes, forest: _Forest, colours: Sequence[str]) -> None:
    """From the top: significant gains solid, the others hollow."""
    plain_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1.6)
    for place, (_, gain, number) in enumerate(forest.marks):
        said = "not compared" if gain is None else str(gain)
        weight = "bold" if gain is not None and gain.significant else "normal"
        axes.text(1.03, place, said, transform=axes.get_yaxis_transform(), va="center", fontsize="small", fontweight=weight)
        if gain is None:
            continue
        colour = colours[number]
        if gain.low is not None and gain.high is not None:
            width = 2.6 if gain.significant else 1.3
            axes.plot([gain.low, gain.high], [place, place], color=colour, linewidth=width, solid_capstyle="butt", gid=_class(number))
        face = colour if gain.significant else PAPER
        mark: dict[str, Any] = {"markerfacecolor": face, "markeredgewidth": 1.4, "markersize": 6, "zorder": 3}
        axes.plot([gain.value], [place], "o", color=colour, gid=_class(number), **mark)
    axes.set_ylim(len(forest.marks) - 0.4, -0.6)
    names = [_short(name, _LONGEST_NAME) for name, _, _ in forest.marks]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set_xlabel("points")


# ---- curves -----------------------------------------------------------------------------------------------------------------------

_Curves = dict[int, list[Curve]]
_MEASURES: tuple[tuple[str, str], ...] = (("val top-1 accuracy (%)", "val_top1"), ("train loss (nats)", "train_loss"))


def _curves(dataset: DatasetTable, results: Results) -> _Curves:
    """By number of the rung, those of its seeds; rungs without any are left out."""
    found = {row.number: [outcome.curve for outcome in results.of(dataset.dataset, row.rung)] for row in dataset.rows}
    found = {number: [curve for curve in curves if len(curve.epochs)] for number, curves in found.items()}
    return {number: curves for number, curves in found.items() if curves}


def _mean(curves: Sequence[Curve], measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Over the seeds that measured an epoch; epochs that none measured are left out."""
    epochs = np.concatenate([curve.epochs for curve in curves])
    values = np.concatenate([getattr(curve, measure) for curve in curves])
    epochs, values = epochs[~np.isnan(values)], values[~np.isnan(values)]
    distinct, places = np.unique(epochs, return_inverse=True)
    return distinct, np.bincount(places, values) / np.bincount(places) if len(distinct) else values


def _draw_curves(axes: Axes, measure: str, curves: _Curves, colours: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    plain_axes(axes)
    many = len(curves) > _MANY
    ends = {}
    for number, of_seeds in curves.items():
        for curve in of_seeds if len(of_seeds) > 1 else ():
            style: dict[str, Any] = {"color": colours[number], "linewidth": 0.5 if many else 0.8, "alpha": 0.45, "gid": _class(number)}
            axes.plot(curve.epochs, getattr(curve, measure), **style)
        epochs, values = _mean(of_seeds, measure)
        if len(epochs):
            style = {"color": colours[number], "linewidth": 1.3 if many else 2, "marker": "o" if len(epochs) == 1 else ""}
            axes.plot(epochs, values, **style, markersize=4, zorder=3, gid=_class(number))
            ends[number] = (float(epochs[-1]), float(values[-1]))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.locator_params(axis="y", nbins=6)
    _number_ends(axes, ends, colours)


def _number_ends(axes: Axes, ends: dict[int, tuple[float, float]], colours: Sequence[str]) -> None:
    """Each rung's number to the right of all curves, as near to the height of its end as the others allow; many stand in columns."""
    if not ends:
        return
    low, high = axes.get_ylim()
    columns = math.ceil(len(ends) / 16)
    apart = (high - low) * 0.055
    right = max(epoch for epoch, _ in ends.values())
    ordered = sorted(ends, key=lambda number: ends[number][1])
    for column in range(columns):
        members = ordered[column::columns]
        heights = _spread_out([ends[number][1] for number in members], apart, low, high)
        for number, height in zip(members, heights, strict=True):
            epoch, value = ends[number]
            place = (1.03 + 0.055 * column, height)
            style: dict[str, Any] = {"color": colours[number], "gid": _class(number)}
            leader = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0, **style}
            axes.annotate(
                str(number),
                (epoch, value),
                place,
                textcoords=axes.get_yaxis_transform(),
                fontsize="small",
                va="center",
                arrowprops=leader if columns == 1 or epoch < right else None,
                annotation_clip=False,
                **style,
            )


def _spread_out(heights: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Rising heights moved as little as needed to lie `apart` from one another, and within the bounds where all of them fit."""
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


def _ends(dataset: DatasetTable, curves: _Curves, measure: str) -> str:
    ends = {number: _mean(of_seeds, measure)[1] for number, of_seeds in curves.items()}
    return ", ".join(f"{dataset.rows[number].name} ends at {values[-1]:.4g}" for number, values in ends.items() if len(values))


# ---- trade-offs -------------------------------------------------------------------------------------------------------------------


_Point = tuple[Row, Measured]


def _points(rows: Sequence[Row]) -> list[_Point]:
    return [(row, row.measured) for row in rows if row.measured is not None]


def _known_costs(dataset: DatasetTable) -> list[_Cost]:
    """None before a run has finished; without the trainable parameters if every rung trains all of its parameters."""
    known = [measured.cost for _, measured in _points(dataset.rows)]
    all_trained = all(cost.trainable == cost.parameters for cost in known)
    return [cost for cost in _COSTS if known and not (cost is _TRAINABLE and all_trained)]


def _costs(dataset: DatasetTable) -> list[_Cost]:
    """Those in which rungs differ."""
    return [cost for cost in _known_costs(dataset) if len({cost.of(measured.cost) for _, measured in _points(dataset.rows)}) > 1]


def _front(cost: _Cost, rows: Sequence[Row]) -> list[_Point]:
    """The rungs that no other beats at the same cost or less, the cheapest first."""
    front: list[_Point] = []
    for row, measured in sorted(_points(rows), key=lambda point: (cost.of(point[1].cost), -point[1].test.mean)):
        if not front or measured.test.mean > front[-1][1].test.mean:
            front.append((row, measured))
    return front


def _draw_tradeoff(axes: Axes, cost: _Cost, rows: Sequence[Row], colours: Sequence[str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    plain_axes(axes)
    known = _points(rows)
    costs = [cost.of(measured.cost) for _, measured in known]
    if min(costs) > 0 and max(costs) > 5 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: cost.text(value)))
    front = _front(cost, rows)
    axes.step(
        [cost.of(measured.cost) for _, measured in front],
        [measured.test.mean for _, measured in front],
        color=INK,
        linewidth=0.9,
        linestyle="--",
        where="post",
        zorder=1,
    )
    for point, at in zip(known, costs, strict=True):
        row, measured = point
        style: dict[str, Any] = {"color": colours[row.number], "gid": _class(row.number)}
        if measured.low is not None and measured.high is not None:
            axes.plot([at, at], [measured.low, measured.high], linewidth=1, alpha=0.55, **style)
        axes.plot([at], [measured.test.mean], "o", markersize=6 if len(known) <= _MANY else 4.5, zorder=3, **style)
        if len(known) <= _MANY or point in front:
            place = (at, measured.test.mean)
            axes.annotate(str(row.number), place, (4, 4), textcoords="offset points", fontsize="small", zorder=4, **style)
    axes.margins(x=0.1)
    axes.set_xlabel(cost.axis)


# ---- names ------------------------------------------------------------------------------------------------------------------------


def _class(number: int) -> str:
    return f"rung-{number}"


def _short(text: str, longest: int) -> str:
    """The beginning and the end of what is too long."""
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]}…{text[-(longest - longest * 2 // 3 - 1) :]}"
