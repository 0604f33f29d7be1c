"""Numbers next to the points of a chart, none on another or on a point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, float]
_DIGIT, _HEIGHT, _POINT = 6.0, 9.0, 7.0
"""Width and height of a small digit, and the width of a point, in points."""
_NEAR = 11.5
"""How far from its point a number is recognised without a line."""
_DIRECTIONS = tuple((math.cos(angle), math.sin(angle)) for angle in (math.pi / 4 * k for k in (1, 7, 3, 5, 0, 4, 2, 6)))


def number_points(axes: Axes, points: Mapping[int, Place], style: Mapping[int, Mapping[str, Any]]) -> None:
    """Write each number as near to its place as the others allow, with a line to it if that is not near.

    style: of text, by number. The axes have their scales, and all points are drawn.
    """
    axes.autoscale_view()
    scale = 72 / axes.figure.dpi
    places = {number: tuple(scale * axes.transData.transform(place)) for number, place in points.items()}
    for number, (x, y) in free_places(places).items():
        away = (x - places[number][0], y - places[number][1])
        far = math.hypot(*away) > 1.5 * _NEAR
        line = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3, **style[number]} if far else None
        axes.annotate(
            str(number),
            points[number],
            away,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize="small",
            zorder=4,
            arrowprops=line,
            **style[number],
        )


def free_places(points: Mapping[int, Place]) -> dict[int, Place]:
    """The middle of each number, in the units of `points` (1/72 inch)."""
    taken = [(x, y, _POINT, _POINT) for x, y in points.values()]
    found: dict[int, Place] = {}
    for number, (x, y) in points.items():
        width = _DIGIT * len(str(number)) + 2
        candidates = [(x + r * dx, y + r * dy) for r in (_NEAR, 2 * _NEAR, 3 * _NEAR, 4 * _NEAR, 6 * _NEAR) for dx, dy in _DIRECTIONS]
        found[number] = next((each for each in candidates if not _touches((*each, width, _HEIGHT), taken)), candidates[0])
        taken.append((*found[number], width, _HEIGHT))
    return found


def _touches(box: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> bool:
    """Whether a box, by its middle, width and height, touches any of the others."""
    x, y, width, height = box
    return any(abs(x - ox) < (width + w) / 2 and abs(y - oy) < (height + h) / 2 for ox, oy, w, h in others)
