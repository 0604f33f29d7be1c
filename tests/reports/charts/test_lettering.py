from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_fonts import have_fonts, make_font
from matplotlib.axes import Axes
from matplotlib.text import Text

from fieldmark.reports.charts import fonts
from fieldmark.reports.charts.chart import Chart, save_png
from fieldmark.reports.charts.confusion import confusion_charts
from fieldmark.reports.charts.lettering import beginning, ending, printable, shortened, width_of

NAMES = ("日本鳥", "Finch", "雀の大きな群れと小さな群れ 庭の中の木の上にいる 冬の朝")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    fonts._families.cache_clear()


def confusion(path: Path) -> Path | None:
    matrix = np.pad(5 * np.eye(3, dtype=np.int64), ((0, 0), (0, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return save_png([[chart] for chart in confusion_charts(matrix, NAMES)], path)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.figure.findobj(Text) if isinstance(text, Text)]


def test_a_font_that_has_the_letters_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[Axes, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    font = make_font(tmp_path / "font.ttf", "Some Font", "".join(sorted(set("".join(NAMES)) - set("Finch "))))
    have_fonts(monkeypatch, [font])
    with caplog.at_level(logging.WARNING):
        assert confusion(tmp_path / "confusion.png") is None
    assert caplog.records == [] and not (tmp_path / "confusion.names.txt").exists()
    written = texts(drawn[0][0])
    assert written.count("日本鳥") == 2 and not any("name 1" in each for each in written)
    (one,) = {tuple(text.get_fontfamily()) for text in drawn[0][0].figure.findobj(Text) if text.get_text() == "日本鳥"}
    assert one == ("DejaVu Sans", "Some Font")


def test_names_that_no_font_has_are_numbered_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[Axes, ...]]
) -> None:
    have_fonts(monkeypatch)
    listed = confusion(tmp_path / "confusion.png")
    assert listed == tmp_path / "confusion.names.txt"
    numbers = dict(line.split("\t") for line in listed.read_text(encoding="utf-8").splitlines())
    assert sorted(numbers.values()) == sorted([NAMES[0], NAMES[2]]) and sorted(numbers) == ["1", "2"]
    written = texts(drawn[0][0])
    assert written.count("Finch") == 2 and all(written.count(f"name {number}") == 2 for number in numbers)
    assert not set("".join(written)) & set("日本鳥雀"), "also not the second line of a long name"
    have_fonts(monkeypatch, [make_font(tmp_path / "font.ttf", "Some Font", "".join(sorted(set("".join(NAMES)))))])
    assert confusion(tmp_path / "confusion.png") is None and not listed.exists(), "the list goes with its reason"


def test_labels_of_axes_and_titles_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[Axes, ...]]) -> None:
    def draw(axes: Axes, name: str) -> None:
        axes.set_yticks([0, 1], ["plain", name])
        axes.plot([0, 1], [0, 1], label=name)

    have_fonts(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed = save_png([[Chart("雀", "", 3, 2, partial(draw, name="鳥"))]], tmp_path / "chart.png", legend=True)
    assert listed is not None and listed.read_text(encoding="utf-8") == "1\t鳥\n2\t雀\n"
    assert [label.get_text() for label in drawn[0][0].get_yticklabels()] == ["plain", "name 1"]


def test_of_a_name_with_an_emoji_the_letters_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[Axes, ...]]) -> None:
    def draw(axes: Axes) -> None:
        axes.set_yticks([0, 1, 2], ["Größe Ammer 🦉", "Finch", "Größe Ammer 🦆"])

    have_fonts(monkeypatch)
    listed = save_png([[Chart("", "", 3, 2, draw)]], tmp_path / "chart.png")
    assert [label.get_text() for label in drawn[0][0].get_yticklabels()] == ["Größe Ammer □", "Finch", "name 1"]
    assert listed is not None and listed.read_text(encoding="utf-8") == "1\tGröße Ammer 🦆\n"


def test_joiners_are_letters_and_other_invisible_characters_are_not() -> None:
    assert printable("می\u200cخواهم\u202e\n\x00") == "می\u200cخواهم\ufffd \ufffd"


@given(st.text(alphabet="aé日한\u0301\u0e31 ", max_size=80), st.integers(12, 40), st.integers(0, 10))
def test_shortened_names_are_as_wide_as_allowed_and_keep_their_ends(name: str, longest: int, end: int) -> None:
    short = shortened(name, longest, end)
    assert width_of(short) <= longest
    if width_of(name) <= longest:
        assert short == name
        return
    head, _, tail = short.rpartition("…")
    assert name.startswith(head) and name.endswith(tail) and width_of(tail) <= end
    assert not tail or not unicodedata.category(tail[0]).startswith("M")
    assert head == beginning(name, longest - end - 1) and tail == ending(name, end)
