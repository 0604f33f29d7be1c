"""The colours of rungs, on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fieldmark.studies.table import StudyTable

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

Palette = Sequence[tuple[str, str]]
"""For each rung, by its number, its colour (#rrggbb) on a light page, in which charts are drawn, and on a dark one."""


@dataclass(frozen=True)
class _Map:
    """A colour map of matplotlib, and the parts of it that contrast with white and with a dark page."""

    name: str
    light: tuple[float, float]
    dark: tuple[float, float]


_STEPS = _Map("plasma", (0.0, 0.62), (0.42, 0.97))
_ASIDE = _Map("BuGn", (0.78, 1.0), (0.3, 0.7))


def palette(table: StudyTable) -> list[tuple[str, str]]:
    """Grey for the base; the rungs of a ladder, or of a study with many, in the order of a colour map.

    The side branches of a ladder have a colour map of their own. Colour-blind readers can distinguish all of these; the charts number
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


def rung_style(colours: Palette, number: int) -> dict[str, Any]:
    """The style of what is drawn for a rung: its colour, and on a page the class `rung-NUMBER`."""
    return {"color": colours[number][0], "gid": f"rung-{number}"}


def page_colours(colours: Palette) -> dict[str, str]:
    """The variables --rung-0, --rung-1 … that a page draws the rungs in."""
    return {light: f"var(--rung-{number})" for number, (light, _) in enumerate(colours)}
