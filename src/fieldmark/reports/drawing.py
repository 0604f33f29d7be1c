"""Charts in the house look: PNG files, and SVG that takes its colours from the page that it stands in, light or dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.core.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID, PAPER, INK = "#e5e5e5", "#ffffff", "#000000"
_ON_A_PAGE = {GRID: "var(--grid)", PAPER: "var(--paper)", INK: "currentColor"}


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all; equal figures give equal bytes."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def house_style(settings: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Matplotlib's own defaults with some settings, whatever the user's style is."""
    from matplotlib import style

    return style.context(["default", dict(settings)])


def page_svg(
    draw: Callable[[Figure], None],
    size: tuple[float, float],
    salt: str,
    colours: Mapping[str, str],
    description: str,
) -> str:
    """What `draw` puts on an empty figure of `size` inches, as an <svg> element for a page. Equal figures give equal text.

    salt: another for each chart of a page, so that their identifiers differ
    colours: what stands on the page for each colour drawn (#rrggbb), such as var(--train); GRID, PAPER and INK are known
    description: the chart in words, for those who do not see it
    """
    from matplotlib.figure import Figure

    with house_style({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 10.5, "axes.linewidth": 0.6}):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        draw(figure)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = drawn.getvalue()
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    text = text[text.index(">", text.index("<svg")) + 1 :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # names that nothing refers to, alike in all charts
    known = _ON_A_PAGE | dict(colours)
    coloured = re.compile("(?<=: )#[0-9a-f]{6}")
    text = re.sub("<[^>]*>", lambda tag: coloured.sub(lambda colour: known[colour[0]], tag[0]), text.replace("xlink:href", "href"))
    return f'<svg {view[0]} role="img" aria-label="{html.escape(description)}">{text}'


def plain_axes(axes: Axes) -> None:
    """A light grid, and no more of a frame than the two axes."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
