"""Which classes are mistaken for one another. Many classes are drawn as an overview with close-ups."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import COUNT, GRID, INK, LINES, PAPER, REFERENCE, WRONG
from fieldmark.reports.charts.lettering import beginning, ending, mark_part, printable, width_of
from fieldmark.scoring.confusion import blocks, cluster_order, worst_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RIGHT, _BLOCK = LINES[0], REFERENCE
_SHARES = (0.05, 0.1, 0.2, 0.5)
_SHARES_RIGHT = (0.2, 0.4, 0.6, 0.8)
_SHARES_SAID = ("≤ 5", "≤ 10", "≤ 20", "≤ 50", "> 50")
_CALM = (0.07, 0.12, 0.18, 0.26, 0.36)
_LOUD = (0.14, 0.28, 0.44, 0.86, 1.0)
"""How opaque a cell is by its share of the row; counts are written in the colour of the paper on the last two."""
_MARKS = ((0.5, 2.0), (0.62, 2.3), (0.76, 2.7), (0.9, 3.2), (1.0, 3.8))
_CALM_MARKS = ((0.14, 2.0), (0.24, 2.0), (0.36, 2.0), (0.52, 2.0), (0.72, 2.0))
"""The same if all classes are drawn, with the least size of a mark in points."""
_NAMED = 20
"""Up to this number of classes, one matrix names them all."""
_LONGEST, _LINE = 56, 24
"""Characters of a name, and of one line of it."""

# In inches. The close-ups of a page have the same width, so that their letters have the same size.
_CELL, _NAMES, _LETTER, _MARGIN = 0.34, 2.25, 0.068, 0.1
_CLOSE_UP = _NAMES + 10 * _CELL + _MARGIN
_SIDE, _LABEL, _KEY, _NUMBER = 6.6, 0.3, 0.4, 0.35
_SLANT = 60


def confusion_charts(matrix: np.ndarray, names: Sequence[str]) -> list[Chart]:
    """A confusion matrix, int64 (C, C + 1) as confusion.confusion_matrix returns it.

    Above 20 classes the first chart shows all of them without names, and the others, as wide as one another, those most confused with one
    another close up.
    """
    names = list(map(printable, names))
    order = cluster_order(matrix)
    unanswered = bool(matrix[:, -1].any())
    if len(matrix) <= _NAMED:
        return [_named("confusion matrix", _described(matrix, names), matrix, order, names, unanswered)]
    found = blocks(matrix)
    charts = [_overview(matrix, names, order, found, unanswered)]
    for number, block in enumerate(found, start=1):
        inside = matrix[np.ix_(block, block)]
        wrong = int(inside.sum() - np.trace(inside))
        title = f"block {number}: {wrong:,} mistake{'s' * (wrong != 1)} among {len(block)} classes"
        said = "; ".join(
            f"{names[other]} predicted as {names[one]} {matrix[other, one]:,}"
            for other in block
            for one in block
            if one != other and matrix[other, one]
        )
        charts.append(_named(title, f"{title}; {said}", matrix, block, names, unanswered=False))
    return charts


# ---- placing in inches ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Axes without a frame that fill a chart; places on it are in inches from its upper left corner."""

    whole: Axes
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Bare ones."""
        axes = self.whole.inset_axes((left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height))
        axes.set_axis_off()
        return axes

    def write(self, text: str, left: float, top: float, **style: Any) -> None:
        placed: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "transform": self.whole.transAxes} | style
        self.whole.text(left / self.width, 1 - top / self.height, text, **placed)


def _chart(title: str, description: str, width: float, height: float, draw: Callable[[_Sheet], None]) -> Chart:
    def draw_sheet(axes: Axes) -> None:
        axes.set_position((0, 0, 1, 1))
        axes.set_box_aspect(height / width)
        axes.set_axis_off()
        draw(_Sheet(axes, width, height))

    return Chart(title, description, width, height, draw_sheet)


# ---- a matrix with names ----------------------------------------------------------------------------------------------------------


def _named(title: str, described: str, matrix: np.ndarray, chosen: np.ndarray, names: Sequence[str], unanswered: bool) -> Chart:
    """Of the chosen classes, in their order; shares are of all images of a row."""
    shown = _shortened(names)
    places = np.arange(len(chosen), dtype=np.float64)
    columns, across = (np.append(chosen, len(matrix)), np.append(places, len(chosen) + 0.3)) if unanswered else (chosen, places)
    wide = float(across[-1]) + 1
    width = max(_NAMES + wide * _CELL + _MARGIN, _CLOSE_UP)
    down = len(chosen) * _CELL
    written = ["no answer" if column == len(matrix) else shown[column] for column in columns]
    slanted = 0.3 + max(width_of(line) for name in written for line in _lines(name)) * _LETTER * math.sin(math.radians(_SLANT))

    def draw(sheet: _Sheet) -> None:
        axes = sheet.axes(_NAMES, _MARGIN, wide * _CELL, down)
        axes.set(xlim=(-0.5, wide - 0.5), ylim=(len(chosen) - 0.5, -0.5))
        counts = matrix[np.ix_(chosen, columns)]
        right = chosen[:, None] == columns
        steps = _steps(counts / np.maximum(matrix[chosen].sum(axis=1, keepdims=True), 1), right)
        x, y = np.meshgrid(across, places)
        axes.add_patch(_squares(x.ravel(), y.ravel(), color=GRID, alpha=0.45))
        for step in range(len(_LOUD)):
            for cells, colour, strength in ((right, _RIGHT, _CALM[step]), (~right, WRONG, _LOUD[step])):
                there = cells & (counts > 0) & (steps == step)
                if there.any():
                    axes.add_patch(_squares(x[there], y[there], color=colour, alpha=strength))
        for row, column in zip(*np.nonzero(counts), strict=True):
            strong = not right[row, column] and steps[row, column] >= 3
            style: dict[str, Any] = {"color": PAPER if strong else COUNT, "fontsize": 8.5, "ha": "center", "va": "center"}
            cell = f"cell-{chosen[row]}-{columns[column]}"
            axes.text(across[column], row, _short_count(int(counts[row, column])), gid=cell, **style)
        for place, label in enumerate(chosen):
            _write_name(axes, shown[label], (-0.68, place), slanted=False)
        for place, name in zip(across, written, strict=True):
            _write_name(axes, name, (float(place), len(chosen) - 0.22), slanted=True)
        sheet.write("true class", 0.12, _MARGIN + max(down / 2, 0.35), rotation=90)
        sheet.write("predicted class", _NAMES + wide * _CELL / 2, _MARGIN + down + slanted)
        _draw_key(sheet, _MARGIN, _MARGIN + down + slanted + 0.3, _CALM, _LOUD)

    return _chart(title, described, width, _MARGIN + down + slanted + 0.15 + _KEY, draw)


def _squares(x: np.ndarray, y: np.ndarray, **style: Any) -> Any:
    """One patch of all cells at these places."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    half = 0.47
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half], [-half, -half]])
    points = (np.stack([x, y], axis=1)[:, None] + corners).reshape(-1, 2)
    codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(x))
    return PathPatch(Outline(points, codes), linewidth=0, clip_on=False, **style)


def _write_name(axes: Axes, name: str, end: tuple[float, float], slanted: bool) -> None:
    """In one line or two that end at a place; each is a text of its own, so that this holds in any font."""
    lines = _lines(name)
    apart = 0.2 if len(lines) > 1 else 0
    sine, cosine = math.sin(math.radians(_SLANT)), math.cos(math.radians(_SLANT))
    for line, shift, first in zip(lines, (-apart, apart), (True, False), strict=False):
        x, y = (end[0] + shift * sine, end[1] + shift * cosine) if slanted else (end[0], end[1] + shift)
        style: dict[str, Any] = {"rotation": _SLANT, "rotation_mode": "anchor"} if slanted else {}
        mark_part(axes.text(x, y, line, ha="right", va="center", fontsize=8, parse_math=False, **style), name, first)


def _lines(name: str) -> list[str]:
    """In two if it is long, split between words as near to its middle as possible."""
    if width_of(name) <= _LINE:
        return [name]
    middle = len(beginning(name, width_of(name) // 2))
    ends = [gap.end() for gap in re.finditer(r"[\s_/-]+", name)] or [middle]
    place = min(ends, key=lambda end: abs(2 * width_of(name[:end]) - width_of(name)))
    if max(width_of(name[:place]), width_of(name[place:])) > _LINE + 8:
        place = middle
    return [name[:place].rstrip(), name[place:]]


def _shortened(names: Sequence[str]) -> list[str]:
    """A name that is too long loses its middle; names that are then equal get the numbers of their classes."""
    half = _LONGEST // 2
    short = [
        name if width_of(name) <= _LONGEST else f"{beginning(name, half).rstrip()}…{ending(name, half - 1).lstrip()}" for name in names
    ]
    times = Counter(short)
    return [name if times[name] == 1 else f"{beginning(name, _LONGEST - 8)} ({number})" for number, name in enumerate(short, start=1)]


def _short_count(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"


# ---- all classes ------------------------------------------------------------------------------------------------------------------


def _overview(matrix: np.ndarray, names: Sequence[str], order: np.ndarray, found: Sequence[np.ndarray], unanswered: bool) -> Chart:
    classes = len(matrix)
    wide = classes * 1.03 + 1 if unanswered else classes
    cell = _SIDE / classes
    rows, columns = np.nonzero(matrix)
    right = rows == columns
    steps = _steps(matrix[rows, columns] / matrix.sum(axis=1)[rows], right)

    def draw(sheet: _Sheet) -> None:
        axes = sheet.axes(_LABEL, _LABEL, cell * wide, _SIDE)
        axes.set(xlim=(-0.5, wide - 0.5), ylim=(classes - 0.5, -0.5))
        axes.plot(
            [-0.5, classes - 0.5, classes - 0.5, -0.5, -0.5],
            [-0.5, -0.5, classes - 0.5, classes - 0.5, -0.5],
            color=GRID,
            linewidth=0.8,
            gid="all-cells",
        )
        places = np.append(np.argsort(order), wide - 1)
        for cells, colour, strengths in ((right, _RIGHT, _CALM_MARKS), (~right, WRONG, _MARKS)):
            for step, (strength, least) in enumerate(strengths):
                there = cells & (steps == step)
                if there.any():
                    size = max(0.92 * 72 * cell, least)
                    axes.add_patch(_marks(places[columns[there]], places[rows[there]], size, 72 * cell, color=colour, alpha=strength))
        _outline(axes, order, found, 72 * cell)
        if unanswered:
            sheet.write("no answer", _LABEL + cell * wide, _LABEL + _SIDE + 0.14, ha="right")
        sheet.write("true class", 0.14, _LABEL + _SIDE / 2, rotation=90)
        sheet.write("predicted class", _LABEL + _SIDE / 2, _LABEL + _SIDE + 0.14)
        calm, loud = [strength for strength, _ in _CALM_MARKS], [strength for strength, _ in _MARKS]
        _draw_key(sheet, _LABEL, _LABEL + _SIDE + _LABEL + 0.15, calm, loud)

    title = f"confusion matrix of {classes:,} classes"
    return _chart(title, _described(matrix, names), _LABEL + cell * wide + _NUMBER, _LABEL + _SIDE + _LABEL + _KEY, draw)


def _marks(x: np.ndarray, y: np.ndarray, size: float, cell: float, **style: Any) -> Any:
    """One patch of short level lines that look like squares; `size` and `cell` are in points. Marks that touch become one."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    sort = np.lexsort((x, y))
    x, y = x[sort], y[sort]
    apart = (np.diff(y) != 0) | (np.diff(x) * cell > size + 0.5)
    half = size / cell / 2
    first, last = np.append(True, apart), np.append(apart, True)
    ends = np.stack([np.stack([x[first] - half, y[first]], axis=1), np.stack([x[last] + half, y[last]], axis=1)], axis=1).reshape(-1, 2)
    path = Outline(ends, np.tile([Outline.MOVETO, Outline.LINETO], int(first.sum())))
    path.should_simplify = False
    return PathPatch(path, fill=False, linewidth=size, capstyle="butt", clip_on=False, **style)


def _outline(axes: Axes, order: np.ndarray, found: Sequence[np.ndarray], cell: float) -> None:
    """Frame the blocks, and number them next to the diagonal without overlaps. `cell` is in points."""
    from matplotlib.patches import Rectangle

    places = np.argsort(order)
    ends = sorted((int(places[block].min()), int(places[block].max()), number) for number, block in enumerate(found, start=1))
    free, pad = -np.inf, 2.5 / cell
    for low, high, number in ends:
        low_end, side = low - 0.5 - pad, high - low + 1 + 2 * pad
        axes.add_patch(Rectangle((low_end, low_end), side, side, fill=False, edgecolor=_BLOCK, linewidth=1, clip_on=False, zorder=3))
        corner = (low_end + side, low_end)
        place = max((corner[0] + corner[1]) / 2, free)
        free = place + 11 / cell
        away = side / 2 + 9 / cell
        axes.annotate(
            str(number),
            corner,
            (place + away, place - away),
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=COUNT,
            arrowprops={"arrowstyle": "-", "color": _BLOCK, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0},
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
            annotation_clip=False,
            zorder=4,
        )


# ---- both -------------------------------------------------------------------------------------------------------------------------


def _draw_key(sheet: _Sheet, left: float, top: float, calm: Sequence[float], loud: Sequence[float]) -> None:
    """What colours mean, in one line: inches from the upper left corner."""
    axes = sheet.axes(left, top - 0.1, 5.3, 5.3 / 30)
    axes.set(xlim=(0, 30), ylim=(0.5, -0.5))
    style: dict[str, Any] = {"va": "center", "fontsize": 8.5, "color": INK}
    axes.add_patch(_squares(np.array([0.5]), np.array([0.0]), color=_RIGHT, alpha=calm[-1]))
    axes.text(1.3, 0, "right", **style)
    axes.text(4, 0, "wrong, % of the row:", **style)
    for place, (strength, said) in enumerate(zip(loud, _SHARES_SAID, strict=True)):
        at = 12.6 + 3.3 * place
        axes.add_patch(_squares(np.array([at]), np.array([0.0]), color=WRONG, alpha=strength))
        axes.text(at + 0.8, 0, said, **style)


def _steps(shares: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How strong the colours of cells are, by their shares of the row and whether they are on the diagonal."""
    return np.where(right, np.digitize(shares, _SHARES_RIGHT, right=True), np.digitize(shares, _SHARES, right=True))


def _described(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The matrix in words, for those who do not see it."""
    total, right = int(matrix.sum()), int(np.trace(matrix))
    pairs = [f"{names[pair.one]} and {names[pair.other]}, {pair.total:,}" for pair in worst_pairs(matrix, 5)]
    none = int(matrix[:, -1].sum())
    unanswered = f"; {none:,} got no answer" if none else ""
    confused = f"; most often confused: {'; '.join(pairs)}" if pairs else "; no two classes are confused"
    return f"confusion matrix of {len(matrix):,} classes: {right:,} of {total:,} images are classified correctly{unanswered}{confused}"
