"""What all charts share: their colours, which a page exchanges for its own, the styles of lines, and plain axes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID, PAPER, INK, COUNT = "#e5e5e5", "#ffffff", "#000000", "#1c1e21"
REFERENCE, STAGE, WRONG = "#555555", "#8c8c8c", "#ab4400"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b07d00", "#7a6fd0", INK)
"""Distinguishable for colour-blind readers too (Okabe and Ito), and visible on white and on a dark page."""

PALETTE = {line: line for line in LINES} | {
    LINES[0]: "var(--train)",
    LINES[1]: "var(--val)",
    LINES[4]: "var(--refit)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    INK: "currentColor",
    COUNT: "var(--ink)",
    REFERENCE: "var(--rate)",
    STAGE: "var(--rate)",
    WRONG: "var(--wrong)",
}
"""Every colour of a chart, and what a page draws it in, whether it is light or dark."""

LEAST = 9.5
"""Points of the smallest letters; with them a chart of 4.6 inches fits a telephone without scrolling (`svg.page_element`)."""

_DASHES: tuple[Any, ...] = ("-", "-", "-", "-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)))


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the line of that number, from 0; the first 16 are all different."""
    turn, place = divmod(number, len(LINES))
    return {"color": LINES[place], "linestyle": _DASHES[(place + 4 * turn) % len(_DASHES)]}


@contextmanager
def chart_style(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """The style of all charts with further settings, whatever the user's own are.

    Matplotlib does not complain of letters that its font lacks, which a page's browser finds elsewhere, nor of the weights of fonts.
    """
    from matplotlib import style

    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), style.context(["default", {"font.size": 10.5, "axes.linewidth": 0.6, **(settings or {})}]):
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            yield
    finally:
        fonts.setLevel(level)


def plain_axes(axes: Axes) -> None:
    """A light grid, and no frame except the two axes."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def small_legend(title: str) -> dict[str, Any]:
    """The settings of a small legend without a frame."""
    return {"title": title, "frameon": False, "fontsize": LEAST, "title_fontsize": LEAST, "alignment": "left"}


def plain_text(texts: Sequence[Any]) -> None:
    """Keep dollar signs in names from being read as formulas."""
    for text in texts:
        text.set_parse_math(False)
