from __future__ import annotations

import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from fieldmark.core.errors import InputError
from fieldmark.reports.charts.chart import save_png
from fieldmark.reports.charts.selective import risk_coverage_chart
from fieldmark.scoring.selective import RiskCoverage, risk_coverage


def curve(n: int, seed: int = 0) -> RiskCoverage:
    rng = np.random.default_rng(seed)
    sure = rng.normal(size=n)
    return risk_coverage(sure, rng.random(n) < 1 / (1 + np.exp(-2 * sure - 1)))


def lines(axes: Axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {str(line.get_label()).split(":")[0]: (np.array(line.get_xdata()), np.array(line.get_ydata())) for line in axes.lines}


def area(x: np.ndarray, y: np.ndarray) -> float:
    """Under steps that reach back to the point before, as a share."""
    return float((np.diff(x) * y[1:]).sum() / 1e4)


def test_what_is_drawn_is_the_curve_with_the_best_order_and_none(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    one = curve(300)
    save_png([[risk_coverage_chart({"run": one})]], tmp_path / "a.png")
    save_png([[risk_coverage_chart({"run": one})]], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    found = lines(drawn[0][0])
    assert set(found) == {"run", "best order", "no order"}
    assert np.allclose(found["run"][0][1:], 100 * one.coverage) and np.allclose(found["run"][1][1:], 100 * one.risk)
    assert area(*found["run"]) == pytest.approx(one.aurc)
    assert area(*found["best order"]) == pytest.approx(one.best_aurc, abs=0.005)
    assert np.allclose(found["no order"][1], 100 * one.risk[-1])


def test_the_legend_stands_beside_the_lines_and_not_on_them(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    save_png([[risk_coverage_chart({"run": curve(300)})]], tmp_path / "a.png")
    (axes,) = drawn[0]
    (legend,) = axes.figure.legends
    assert axes.get_legend() is None and len(legend.get_texts()) == 3
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_several_runs_are_told_apart_and_have_no_references(drawn: list[tuple[Axes, ...]]) -> None:
    assert risk_coverage_chart({f"run {k}": curve(100, k) for k in range(9)}).svg
    (axes,) = drawn[0]
    assert list(lines(axes)) == [f"run {k}" for k in range(9)]
    assert len({line.get_color() for line in axes.lines}) == 8


def test_long_curves_are_thinned_without_visible_change(drawn: list[tuple[Axes, ...]]) -> None:
    long = curve(50_000)
    svg = risk_coverage_chart({"run": long}).svg
    (axes,) = drawn[0]
    x, y = lines(axes)["run"]
    assert len(x) < 2000 and len(svg) < 60_000
    assert area(x, y) == pytest.approx(long.aurc, abs=1e-3)
    top = axes.get_ylim()[1]
    at = np.searchsorted(x, 100 * long.coverage)
    beside = np.stack([y[np.clip(at + shift, 0, len(y) - 1)] for shift in (-2, -1, 0, 1, 2)])
    steady = long.coverage > 0.05
    assert (np.abs(beside - 100 * long.risk).min(axis=0)[steady] < top / 150).all()
    assert x[-1] == 100 and y[-1] == pytest.approx(100 * long.risk[-1])
    assert len(risk_coverage_chart({f"run {k}": curve(50_000, k) for k in range(8)}).svg) < 60_000


def test_the_first_images_do_not_set_the_scale(drawn: list[tuple[Axes, ...]]) -> None:
    assert risk_coverage_chart({"run": risk_coverage(np.arange(100.0), np.arange(100) < 99)}).svg
    assert drawn[0][0].get_ylim()[1] < 30


def test_the_page_element_takes_the_colours_of_the_page_and_says_the_figures() -> None:
    one = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, False]))
    svg = risk_coverage_chart({'a "run"': one}).svg
    assert svg == risk_coverage_chart({'a "run"': one}).svg
    assert "var(--train)" in svg and "var(--rate)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata|https?:", svg)
    label = ElementTree.fromstring(svg).get("aria-label")
    assert label is not None and 'a "run": 0.00 % at 50.0 %, 25.0 % at 100.0 %, AURC 6.25 %' in label


def test_names_are_text() -> None:
    chart = risk_coverage_chart({"$x^2$ <b>\n鳥": curve(10), "other" * 30: curve(10)})
    texts = [text.text or "" for text in ElementTree.fromstring(chart.svg).iter("text")]
    assert any(text.startswith("$x^2$ <b> 鳥: ") for text in texts) and max(map(len, texts)) < 80


@pytest.mark.parametrize(
    ("confidence", "correct"),
    [([0.5], [True]), ([0.5], [False]), ([0.3] * 9, [True] * 5 + [False] * 4), ([np.nan, -np.inf, 0.3], [True, False, True])],
)
def test_short_and_tied_curves_are_drawn_without_warnings(confidence: list[float], correct: list[bool], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = risk_coverage(np.array(confidence), np.array(correct))
        save_png([[risk_coverage_chart({"run": one})]], tmp_path / "curve.png")
        assert f"{100 * one.risk[-1]:.1f} % at 100.0 %" in risk_coverage_chart({"run": one}).svg.replace("0.00 %", "0.0 %")


def test_no_curve_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no curves"):
        risk_coverage_chart({})
    with pytest.raises(InputError, match="no curves"):
        save_png([[risk_coverage_chart({})]], tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())
