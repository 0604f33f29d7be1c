"""A chart: what it shows, and how it becomes a part of a page or of a PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fieldmark.core.files import whole_file, write_text
from fieldmark.reports.charts.drawing import PALETTE, PAPER, chart_style
from fieldmark.reports.charts.lettering import Lettering
from fieldmark.reports.charts.svg import page_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 220
"""Of PNGs."""
_TITLE = 0.3
"""Height of a title in a PNG, in inches."""


@dataclass(frozen=True, eq=False)
class Chart:
    """One chart, of `width` x `height` inches, the same on a page and in a PNG.

    title: what stands above it; a PNG has no room for an empty one
    description: the chart in words, for those who do not see it
    draw: puts it on empty axes, in colours of `drawing.PALETTE` or of `colours`
    colours: what a page draws further colours (#rrggbb) in, such as var(--rung-1)
    page_key: tells it from charts of the same title on its page
    """

    title: str
    description: str
    width: float
    height: float
    draw: Callable[[Axes], None]
    colours: Mapping[str, str] = field(default_factory=dict)
    page_key: str = ""

    @cached_property
    def svg(self) -> str:
        """An <svg> element for a page, in the page's colours. Equal charts give equal text; no two of a page share an identifier."""
        transparent = {"axes.facecolor": "none", "figure.facecolor": "none"}
        with chart_style({"svg.fonttype": "none", "svg.hashsalt": f"{self.page_key} {self.title}"} | transparent):
            drawn = io.StringIO()
            self._figure()[0].savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        return page_element(drawn.getvalue(), {**PALETTE, **self.colours}, self.description)

    def image(self, lettering: Lettering, legend: bool = False) -> Image.Image:
        """The chart below its title, in RGB. `legend` adds one of the lines that have names, for charts whose page has one of its own."""
        with chart_style():
            figure, axes = self._figure()
            if legend and axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize="small")
            chart = _pixels(figure, lettering)
            return _stacked([_title(self.title, self.width, lettering), chart]) if self.title else chart

    def _figure(self) -> tuple[Figure, Axes]:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width, self.height), dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        self.draw(axes)
        return figure, axes


def save_png(rows: Sequence[Sequence[Chart]], path: Path, legend: bool = False) -> Path | None:
    """Write rows of charts, each below its title, to a PNG, whole or not at all. Equal charts give equal bytes.

    Names with letters that no font of this machine has are numbered in it, and listed by number in the text file whose path is returned,
    next to the PNG; None if there are none.

    legend: as in Chart.image
    """
    lettering, names = Lettering(), path.with_suffix(".names.txt")
    images = [_beside([chart.image(lettering, legend) for chart in row]) for row in rows]
    if lettering.numbers:
        images.append(_note(f"{names.name} lists the numbered names: no font of the machine has their letters", lettering))
    with whole_file(path) as temporary:
        _stacked(images).save(temporary, format="png", dpi=(_DPI, _DPI))
    if not lettering.numbers:
        names.unlink(missing_ok=True)
        return None
    write_text(names, "".join(f"{number}\t{name}\n" for name, number in lettering.numbers.items()))
    return names


def _title(text: str, width: float, lettering: Lettering) -> Image.Image:
    return _line(text[:1].upper() + text[1:], width, lettering, fontweight="bold")


def _note(text: str, lettering: Lettering) -> Image.Image:
    return _line(text, 0.1 + 0.07 * len(text), lettering, fontsize="small")


def _line(text: str, width: float, lettering: Lettering, **style: Any) -> Image.Image:
    from matplotlib.figure import Figure

    with chart_style():
        figure = Figure(figsize=(width, _TITLE), dpi=_DPI)
        figure.text(0.1 / width, 0.4, text, va="center", parse_math=False, **style)
        return _pixels(figure, lettering)


def _pixels(figure: Figure, lettering: Lettering) -> Image.Image:
    lettering.apply(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return Image.open(drawn).convert("RGB")


def _beside(images: Sequence[Image.Image]) -> Image.Image:
    """From left to right on white, level at the top."""
    whole = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)), PAPER)
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width
    return whole


def _stacked(images: Sequence[Image.Image]) -> Image.Image:
    """One below the other on white."""
    whole = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), PAPER)
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    return whole
