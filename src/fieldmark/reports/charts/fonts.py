"""Fonts for letters that the usual font of charts lacks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

USUAL = "DejaVu Sans"
_PREFERRED = (
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Segoe UI",
    "Nirmala UI",
    "Arial Unicode MS",
    "Arial",
    "Droid Sans Fallback",
    "FreeSans",
    "Noto Emoji",
    "Segoe UI Emoji",
    "Segoe UI Symbol",
)
"""Families that look well next to the usual one; others follow by name."""
_UNSUITABLE = ("last resort", "lastresort", "adobe blank", "adobeblank", "color emoji")
"""In the names of fonts that have a box or nothing for every letter, or coloured pictures that cannot be drawn."""


def fallback_families(text: str) -> Sequence[str] | None:
    """The families that a text needs besides the usual one; None if no font of this machine has some of its letters."""
    return _families(frozenset(letter for letter in text if _is_drawn(letter)))


def with_boxes(text: str) -> str:
    """The text with □ for each symbol, such as an emoji, that no font of this machine has; what letters lack is not changed."""
    return "".join("□" if unicodedata.category(each)[0] == "S" and fallback_families(each) is None else each for each in text)


def _is_drawn(letter: str) -> bool:
    """Whether a font needs a shape for it: joiners, marks of direction and selectors of variants have none."""
    return not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf") and not "\ufe00" <= letter <= "\ufe0f"


@cache
def _families(letters: frozenset[str]) -> Sequence[str] | None:
    missing = set(letters)
    chosen: list[str] = []
    for family in _candidates():
        if found := _covered(family, missing):
            chosen.append(family)
            missing -= found
        if not missing:
            return tuple(each for each in chosen if each != USUAL)
    return None if missing else ()


def _candidates() -> Iterator[str]:
    """Families in the order in which they are tried. Those installed after Matplotlib had listed the fonts come last."""
    from matplotlib.font_manager import fontManager

    rank = {family: place for place, family in enumerate((USUAL, *_PREFERRED))}

    def order(family: str) -> tuple[int, bool, str]:
        return rank.get(family, len(rank)), "serif" in family.lower() or "mono" in family.lower(), family

    tried: set[str] = set()
    for listed in (fontManager.ttflist, _unlisted()):
        new = {entry.name for entry in listed} - tried
        yield from (each for each in sorted(new, key=order) if not any(part in each.lower() for part in _UNSUITABLE))
        tried |= new


def _unlisted() -> Iterator[FontEntry]:
    """Fonts installed since Matplotlib wrote its list, which it keeps for good; the list has them now."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    listed = len(fontManager.ttflist)
    for file in sorted(set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}):
        with suppress(OSError, RuntimeError, KeyError, ValueError):  # whatever is no font
            fontManager.addfont(file)
    yield from fontManager.ttflist[listed:]


def _covered(family: str, letters: set[str]) -> set[str]:
    """The letters that a family has in the weight in which text is written."""
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    try:
        font = get_font(fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))} if font.scalable else set()
