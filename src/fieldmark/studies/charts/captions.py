"""The heading above the charts of a dataset in a PNG, and the legend below them: which rung has which number and colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import plain_text
from fieldmark.reports.charts.lettering import printable, shortened, width_of
from fieldmark.studies.charts.colours import Palette
from fieldmark.studies.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST = 32
_CHARACTER, _KEY = 0.085, 0.5
"""Width of a character and of a line's sample in a legend, in inches."""


def heading(text: str, width: float) -> Chart:
    return Chart("", text, width, 0.35, partial(_draw_heading, text=text))


def _draw_heading(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0, 0.4, shortened(printable(text), 110, 30), fontsize="large", fontweight="bold", va="center", parse_math=False)


def legend(rows: Sequence[Row], colours: Palette, width: float) -> Chart:
    names = [shortened(f"{row.number}  {printable(row.name)}", _LONGEST, 10) for row in rows]
    columns = max(1, int(width / (_KEY + _CHARACTER * max(map(width_of, names)))))
    height = 0.15 + 0.2 * math.ceil(len(names) / columns)
    return Chart("", ", ".join(names), width, height, partial(_draw_legend, names=names, colours=colours, columns=columns))


def _draw_legend(axes: Axes, names: Sequence[str], colours: Palette, columns: int) -> None:
    from matplotlib.lines import Line2D

    axes.set_axis_off()
    keys = [Line2D([], [], color=light, linewidth=2.5) for light, _ in colours[: len(names)]]
    drawn = axes.legend(keys, names, loc="upper left", ncols=columns, frameon=False, fontsize="small", borderaxespad=0)
    plain_text(drawn.get_texts())
