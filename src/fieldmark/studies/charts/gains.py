"""Gains with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import INK, PAPER, plain_axes
from fieldmark.reports.charts.lettering import printable, shortened
from fieldmark.studies.charts.colours import Palette, page_colours, rung_style
from fieldmark.studies.columns import gain_text
from fieldmark.studies.statistics import Gain
from fieldmark.studies.table import DatasetTable, Row, StudyTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = 0.3
"""Height of a gain, in inches."""


class _Mark(NamedTuple):
    """A gain with its name and the number of the rung whose colour it has."""

    name: str
    gain: Gain | None
    number: int


def gain_charts(table: StudyTable, dataset: DatasetTable, colours: Palette) -> list[Chart]:
    """Those of the options of a grid, over the rung before, and over the base; only those with a gain."""
    changed = dataset.rows[1:]
    listed: dict[str, list[_Mark]] = {}
    if dataset.effects:
        effects = [_Mark(f"{effect.factor}: {effect.option} over {effect.against}", effect.gain, 0) for effect in dataset.effects]
        listed["gain of an option, averaged over the other factors"] = effects
    if table.arrangement == "ladder":
        numbers = {row.rung.name: row.number for row in dataset.rows}
        branch = {row.number: f" (on {numbers.get(str(row.rung.before), '?')})" for row in changed if row.rung.branch}
        title = "gain over the rung before" + (", or the one named" if branch else "")
        listed[title] = [_Mark(_name(row) + branch.get(row.number, ""), row.over_before, row.number) for row in changed]
    listed["gain over the base"] = [_Mark(_name(row), row.over_base, row.number) for row in changed]
    return [
        Chart(
            title,
            f"{title}, in points: {_in_words(marks)}",
            5.2,
            0.75 + _LINE * len(marks),
            partial(_draw, marks=marks, colours=colours),
            page_colours(colours),
            dataset.name,
        )
        for title, marks in listed.items()
        if any(mark.gain is not None for mark in marks)
    ]


def _name(row: Row) -> str:
    return f"{row.number}  {printable(row.name)}"


def _in_words(marks: Sequence[_Mark]) -> str:
    return "; ".join(f"{' '.join(name.split())} {'not compared' if gain is None else gain_text(gain)}" for name, gain, _ in marks)


def _draw(axes: Axes, marks: Sequence[_Mark], colours: Palette) -> None:
    """From the top: significant gains solid, the others hollow."""
    plain_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1.6)
    for place, (_, gain, number) in enumerate(marks):
        text = "not compared" if gain is None else str(gain)
        weight = "bold" if gain is not None and gain.significant else "normal"
        axes.text(1.03, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize="small", fontweight=weight)
        if gain is None:
            continue
        style = rung_style(colours, number)
        if gain.low is not None and gain.high is not None:
            width = 2.6 if gain.significant else 1.3
            axes.plot([gain.low, gain.high], [place, place], linewidth=width, solid_capstyle="butt", **style)
        face = style["color"] if gain.significant else PAPER
        mark: dict[str, Any] = {"markerfacecolor": face, "markeredgewidth": 1.4, "markersize": 6, "zorder": 3}
        axes.plot([gain.value], [place], "o", **mark, **style)
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.set_yticks(range(len(marks)), [shortened(mark.name, 26, 8) for mark in marks], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set_xlabel("points")
