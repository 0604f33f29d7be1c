"""Charts of studies, until they are drawn through `reports.charts`."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.core.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID, PAPER, INK = "#e5e5e5", "#ffffff", "#000000"
_ON_A_PAGE = {GRID: "var(--grid)", PAPER: "var(--paper)", INK: "currentColor"}

REFERENCE = "#555555"
# Told apart by colour-blind readers too (Okabe and Ito), and seen on white and on a dark page; those without a variable are in both.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b07d00", "#7a6fd0", INK)
LINES_ON_A_PAGE = dict(zip(LINES, LINES, strict=True)) | {
    "#0072b2": "var(--train)",
    "#d55e00": "var(--val)",
    "#56b4e9": "var(--refit)",
    REFERENCE: "var(--rate)",
    INK: "currentColor",
}
DASHES: tuple[Any, ...] = ("-", "-", "-", "-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)))


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the line of that number, from 0; the first 16 are all different."""
    turn, place = divmod(number, len(LINES))
    return {"color": LINES[place], "linestyle": DASHES[(place + 4 * turn) % len(DASHES)]}


@dataclass(frozen=True)
class Panel:
    """One chart of a page."""

    title: str
    svg: str


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


@contextmanager
def any_letters() -> Iterator[None]:
    """Without words about letters that the font does not have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def compact(svg: str) -> str:
    """The same image in a fraction of the text: paths to a hundredth of a point."""
    return re.sub(r'(<path [^>]*?\bd=")([^"]*)', lambda path: path[1] + _compact(path[2]), svg)


def _compact(path: str) -> str:
    parts, at = [], ["", ""]
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        to = [f"{float(number):.2f}".rstrip("0").rstrip(".") for number in numbers.split()]
        if command == "L" and to[1] == at[1]:
            parts.append(f"H{to[0]}")
        elif command == "L" and to[0] == at[0]:
            parts.append(f"V{to[1]}")
        else:
            parts.append(command + " ".join(to))
        at = to[-2:] or ["", ""]
    return "".join(parts)


def plain_text(texts: Sequence[Any]) -> None:
    """Dollar signs in names are no formulas."""
    for text in texts:
        text.set_parse_math(False)


def printable(name: str) -> str:
    """Without line breaks and letters that cannot be shown."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in name)
