from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from fieldmark.reports.charts.chart import save_png
from fieldmark.reports.charts.confusion import confusion_charts
from fieldmark.scoring.confusion import blocks, cluster_order

CARS = (
    "Chevrolet Silverado 1500 Hybrid Crew Cab 2012",
    "Chevrolet Silverado 1500 Regular Cab 2012",
    "Chevrolet Silverado 1500 Extended Cab 2012",
)


def empty(classes: int, right: int = 9) -> np.ndarray:
    return np.pad(right * np.eye(classes, dtype=np.int64), ((0, 0), (0, 1)))


def names(classes: int) -> list[str]:
    return [f"class {label}" for label in range(classes)]


def noisy(classes: int, images: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    matrix = empty(classes, 0)
    labels = rng.integers(0, classes, images)
    np.add.at(matrix, (labels, np.where(rng.random(images) < 0.6, labels, rng.integers(0, classes + 1, images))), 1)
    return matrix


def write_confusion(matrix: np.ndarray, names: Sequence[str], path: Path) -> None:
    save_png([[chart] for chart in confusion_charts(matrix, names)], path)


def said(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter("text")]


def test_few_classes_are_one_matrix_with_names_on_both_sides_and_counts(drawn: list[tuple[Axes, ...]]) -> None:
    matrix = empty(4)
    matrix[1, 3], matrix[2, 4] = 5, 7
    (chart,) = confusion_charts(matrix, names(4))
    order = cluster_order(matrix).tolist()
    svg, matrix_axes = chart.svg, drawn[0][0].child_axes[0]
    texts = {(round(x, 1), y): text.get_text() for text in matrix_axes.texts for x, y in [text.get_position()]}
    assert texts[order.index(3), order.index(1)] == "5"
    assert texts[4.3, order.index(2)] == "7"
    assert [texts[place, place] for place in range(4)] == ["9"] * 4
    assert all(said(svg).count(name) == 2 for name in names(4)) and said(svg).count("no answer") == 1
    assert "36 of 48 images are classified correctly; 7 got no answer; most often confused: class 1 and class 3, 5" in svg


def test_without_a_missing_answer_there_is_no_column_for_it() -> None:
    assert "no answer" not in said(confusion_charts(empty(3), names(3))[0].svg)


def test_the_diagonal_and_mistakes_have_colours_of_the_page_and_counts_can_be_read_on_both() -> None:
    matrix = empty(3, 2)
    matrix[0, 1] = 8
    (chart,) = confusion_charts(matrix, names(3))
    assert "fill: var(--train)" in chart.svg and "fill: var(--wrong)" in chart.svg
    assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata|https?:", chart.svg)
    colour_of = {text.text: text.get("style", "") for text in ElementTree.fromstring(chart.svg).iter("text")}
    assert "var(--paper)" in colour_of["8"] and "var(--ink)" in colour_of["2"]


def test_many_classes_are_an_overview_and_close_ups_of_their_blocks() -> None:
    matrix = empty(200)
    matrix[10, 150] = matrix[150, 10] = 4
    matrix[3, 70] = 1
    overview, *close = confusion_charts(matrix, names(200))
    assert overview.title == "confusion matrix of 200 classes"
    assert [chart.title for chart in close] == ["block 1: 8 mistakes among 2 classes", "block 2: 1 mistake among 2 classes"]
    assert {"1", "2"} <= set(said(overview.svg)) and "class 10" not in said(overview.svg)
    assert said(close[0].svg).count("class 150") == 2 and said(close[1].svg).count("class 3") == 2
    assert "class 3 predicted as class 70 1" in close[1].svg


def test_one_mistake_among_many_can_be_seen(tmp_path: Path) -> None:
    write_confusion(empty(200), names(200), tmp_path / "none.png")
    matrix = empty(200, 100)
    matrix[3, 190] = 1
    write_confusion(matrix, names(200), tmp_path / "one.png")
    side = 6 * 220
    before, after = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)[:side] for name in ("none", "one"))

    def mistakes(image: np.ndarray) -> int:
        return int((image[..., 0] - image[..., 2] > 60).sum())

    assert mistakes(before) == 0 and mistakes(after) >= 9


def test_marks_that_touch_are_one_line() -> None:
    matrix = empty(200)
    matrix[:] = 1
    overview = confusion_charts(matrix, names(200))[0]
    assert len(overview.svg) < 60_000


@pytest.mark.parametrize("images", [5_000, 100_000])
def test_an_overview_is_small(images: int) -> None:
    charts = confusion_charts(noisy(200, images), names(200))
    assert len(charts) == 1 + len(blocks(noisy(200, images)))
    assert all(len(chart.svg) < 300_000 for chart in charts)


def test_long_names_are_parted_or_lose_their_middle_and_stay_distinct() -> None:
    very = [f"very {'long ' * 30}name {number} of{' some' * 9}" for number in (1, 2)]
    (chart,) = confusion_charts(empty(5), [*CARS, *very])
    texts = said(chart.svg)
    assert texts.count("1500 Hybrid Crew Cab 2012") == texts.count("1500 Extended Cab 2012") == 2
    assert max(map(len, texts)) <= 32
    ends = [text for text in texts if re.search(r"\(\d\)", text)]
    assert len(ends) == 4 and len(set(ends)) == 2


def test_names_are_text_and_their_control_characters_are_not() -> None:
    (chart,) = confusion_charts(empty(3), ["$x^2$ <b>", "line\nbreak\x00", "\u202ertl \U0001f426 日本"])
    assert {"$x^2$ <b>", "line break\ufffd", "\ufffdrtl \U0001f426 日本"} <= set(said(chart.svg))


@pytest.mark.parametrize("classes", [1, 2, 20, 21])
def test_all_sizes_are_drawn_without_warnings_and_repeatably(classes: int, tmp_path: Path) -> None:
    bare = empty(classes)
    bare[0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, matrix in enumerate((empty(classes), noisy(classes, 30), bare)):
            write_confusion(matrix, ["鳥 " * label for label in range(classes)], tmp_path / f"{number}-a.png")
            write_confusion(matrix, ["鳥 " * label for label in range(classes)], tmp_path / f"{number}-b.png")
            assert (tmp_path / f"{number}-a.png").read_bytes() == (tmp_path / f"{number}-b.png").read_bytes()
            one, other = ([chart.svg for chart in confusion_charts(matrix, names(classes))] for _ in range(2))
            assert one == other


def test_charts_share_no_identifiers() -> None:
    charts = confusion_charts(noisy(40, 400), names(40))
    named = [name for chart in charts for name in set(re.findall(r' id="([^"]+)"', chart.svg))]
    assert len(named) == len(set(named))
