"""Names in any script on charts: room for wide letters, fonts that have them, and numbers for names that no font here can draw."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len

from fieldmark.reports.charts.fonts import USUAL, fallback_families, with_boxes

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_FIRST_OF, _REST_OF = "first line of ", "rest of "
_JOINERS = "\u200c\u200d"
"""They have no shape, but Persian and the scripts of India are misspelt without them."""


def printable(name: str) -> str:
    """Without line breaks and characters that cannot be displayed."""
    return "".join(each if each.isprintable() or each in _JOINERS else " " if each.isspace() else "\ufffd" for each in name)


def width_of(text: str) -> int:
    """In columns of a terminal: two for each letter of Chinese, Japanese and Korean, none for a mark on another letter."""
    return cell_len(text)


def shortened(text: str, longest: int, end: int) -> str:
    """At most `longest` columns wide: of a longer text its beginning and its last `end` columns."""
    return text if width_of(text) <= longest else f"{beginning(text, longest - end - 1)}…{ending(text, end)}"


def beginning(text: str, columns: int) -> str:
    kept = text[:columns]
    while width_of(kept) > columns:
        kept = kept[:-1]
    return kept


def ending(text: str, columns: int) -> str:
    kept = text[-columns:] if columns else ""
    while width_of(kept) > columns or (kept and unicodedata.category(kept[0]).startswith("M")):  # a mark needs its letter
        kept = kept[1:]
    return kept


def mark_part(text: Text, name: str, first: bool) -> None:
    """Let a text be known to be the first, or a later, line of a name."""
    text.set_label((_FIRST_OF if first else _REST_OF) + name)


@dataclass(frozen=True)
class Lettering:
    """What the charts of one PNG are written with. `numbers`: of the names that cannot be drawn, in the order of their appearance.

    A page needs none of it: its browser finds the fonts.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    _boxed: dict[str, str] = field(default_factory=dict)  # by what is written, the name that is written so

    def apply(self, figure: Figure) -> None:
        """Use further fonts for texts that need them, write □ for symbols that no font has, and `name 3` where it lacks letters."""
        from matplotlib.axes import Axes
        from matplotlib.text import Text

        for axes in figure.findobj(Axes):
            assert isinstance(axes, Axes)
            for axis in (axes.xaxis, axes.yaxis):
                self._apply_to_ticks(axis)
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            label, written = str(text.get_label()), text.get_text()
            name = label.removeprefix(_FIRST_OF).removeprefix(_REST_OF) if label.startswith((_FIRST_OF, _REST_OF)) else written
            if (boxed := self._with_boxes(name)) is None:
                text.set_text("" if label.startswith(_REST_OF) else self._number(name))
                continue
            if boxed != name:
                text.set_text(with_boxes(written))
            if families := fallback_families(boxed):
                text.set(fontfamily=[USUAL, *families], fontweight="normal")

    def _apply_to_ticks(self, axis: Axis) -> None:
        """An axis writes its labels anew whenever it is drawn."""
        names = [label.get_text() for label in axis.get_ticklabels()]
        written = [boxed if (boxed := self._with_boxes(name)) is not None else self._number(name) for name in names]
        if written != names:
            axis.set_ticks(axis.get_ticklocs(), written)

    def _with_boxes(self, name: str) -> str | None:
        """What can be written of a name; None if letters are missing, or another name is written so."""
        boxed = with_boxes(name)
        if fallback_families(boxed) is None or (boxed != name and self._boxed.setdefault(boxed, name) != name):
            return None
        return boxed

    def _number(self, name: str) -> str:
        return f"name {self.numbers.setdefault(name, len(self.numbers) + 1)}"
