from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from fieldmark.reports.charts.chart import Chart, save_png
from fieldmark.reports.charts.drawing import LINES
from fieldmark.reports.charts.lettering import Lettering


def draw(axes: Axes, colour: str) -> None:
    axes.plot([1, 2], [3, 4], color=colour, label="a line", gid="rung-3")


def chart(title: str = "title", width: float = 3, colour: str = LINES[0]) -> Chart:
    return Chart(title, "in words", width, 2, partial(draw, colour=colour))


def test_one_function_draws_the_page_and_the_png(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    one = chart()
    assert 'class="rung-3"' in one.svg and "var(--train)" in one.svg and 'aria-label="in words"' in one.svg
    save_png([[one]], tmp_path / "chart.png")
    on_page, in_png = ((axes.lines[0].get_xydata().tolist(), axes.lines[0].get_color()) for (axes,) in drawn)
    assert on_page == in_png == ([[1, 3], [2, 4]], LINES[0])


def test_further_colours_are_what_the_chart_says() -> None:
    further = Chart("", "", 3, 2, partial(draw, colour="#123456"), colours={"#123456": "var(--rung-3)"})
    assert "stroke: var(--rung-3)" in further.svg and "#123456" not in further.svg
    with pytest.raises(KeyError, match="#123456"):
        _ = chart(colour="#123456").svg


def test_a_png_has_rows_of_charts_in_their_sizes_with_titles_above(tmp_path: Path) -> None:
    save_png([[chart(width=3), chart("", width=1.5)], [chart("", colour=LINES[1])]], tmp_path / "charts.png")
    image = Image.open(tmp_path / "charts.png")
    assert image.size == (round(4.5 * 220), 66 + 440 + 440)
    dark = np.asarray(image.convert("L")) < 250
    assert dark[:66, :660].any() and dark[:440, 660:].any() and not dark[440:506, 660:].any() and not dark[506:, 660:].any()
    whole = chart("", colour=LINES[1]).image(Lettering())
    assert np.array_equal(np.asarray(image)[506:, :660], np.asarray(whole))


def test_legends_are_added_on_demand(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    save_png([[chart()]], tmp_path / "without.png")
    save_png([[chart()]], tmp_path / "with.png", legend=True)
    assert [axes.get_legend() is None for (axes,) in drawn] == [True, False]
