"""A machine with other fonts than this one: Matplotlib's own and those that a test makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from fieldmark.reports.charts import fonts


def make_font(path: Path, family: str, letters: str) -> Path:
    """A font in which each of the letters is a diamond."""
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    pen = TTGlyphPen(None)
    pen.moveTo((500, 0))
    for corner in ((900, 400), (500, 800), (100, 400)):
        pen.lineTo(corner)
    pen.closePath()
    diamond = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    font.setupGlyf(dict.fromkeys(names, diamond))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    font.save(path)
    return path


def have_fonts(monkeypatch: pytest.MonkeyPatch, known: Sequence[Path] = (), unlisted: Sequence[Path] = ()) -> None:
    """Let the machine have only Matplotlib's own fonts and these; `unlisted` are not in Matplotlib's list yet."""
    manager = font_manager.fontManager
    own = [entry for entry in manager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(manager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path) for path in unlisted])
    for path in known:
        manager.addfont(path)
    manager._findfont_cached.cache_clear()
    fonts._families.cache_clear()
