from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_fonts import have_fonts, make_font

from fieldmark.reports.charts import fonts
from fieldmark.reports.charts.fonts import fallback_families


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What other tests find on this machine is not what was faked here."""
    yield
    fonts._families.cache_clear()


def test_the_usual_font_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    have_fonts(monkeypatch)
    for name in ("Finch", "Éclair Ñandú", "Воробей", "Σπουργίτι", "שלום", "عصفور", "گ\u200cل", "a ❤\ufe0f"):
        assert fallback_families(name) == (), name


def test_each_letter_is_looked_for_in_the_fonts_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chinese, thai = make_font(tmp_path / "a.ttf", "Some Serif", "鳥雀"), make_font(tmp_path / "b.ttf", "Zz Thai", "นก")
    have_fonts(monkeypatch, [chinese, thai])
    assert fallback_families("鳥") == ("Some Serif",)
    assert set(fallback_families("Finch 雀 น") or ()) == {"Some Serif", "Zz Thai"}
    assert fallback_families("鳥 ก한") is None, "no font has the last letter"


def test_fonts_of_wide_coverage_come_first_and_those_of_boxes_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = make_font(tmp_path / "a.ttf", "WenQuanYi Zen Hei", "鳥雀")
    other = make_font(tmp_path / "b.ttf", "A Calligraphy", "鳥雀")
    boxes = make_font(tmp_path / "c.ttf", "Adobe Blank", "鳥雀한")
    have_fonts(monkeypatch, [other, boxes, wide])
    assert fallback_families("鳥") == ("WenQuanYi Zen Hei",)
    assert fallback_families("한") is None


def test_a_font_installed_after_matplotlib_had_listed_them_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"not a font")
    have_fonts(monkeypatch, unlisted=[damaged, make_font(tmp_path / "new.ttf", "Newly Installed", "鳥")])
    assert fallback_families("鳥") == ("Newly Installed",)
