from __future__ import annotations

import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import binomtest

from fieldmark.reports.charts.chart import save_png
from fieldmark.reports.charts.reliability import reliability_charts
from fieldmark.scoring import metrics
from fieldmark.scoring.calibration import Reliability, reliability

NONE = Reliability(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
ONE = Reliability(np.array([14 / 15]), np.array([1.0]), np.array([1]), np.array([1.0]), np.array([1.0]))


def predictions(heat: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    return (heat * (rng.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels])).astype(np.float32), labels


def points(axes: Axes) -> np.ndarray:
    return np.array([[line.get_xdata()[0], line.get_ydata()[0]] for line in axes.lines if line.get_marker() == "o"]).reshape(-1, 2)


def test_what_is_drawn_is_what_was_measured(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    before, after = reliability(*predictions(4)), reliability(*predictions(1))
    save_png([reliability_charts(before, after)], tmp_path / "reliability.png")
    for column, bins in enumerate((before, after)):
        axes, below = drawn[column]
        assert np.allclose(points(axes), 100 * np.stack([bins.confidence, bins.accuracy], axis=1))
        hits = np.round(bins.accuracy * bins.counts).astype(int).tolist()
        intervals = [binomtest(k, n).proportion_ci(method="wilson") for k, n in zip(hits, bins.counts.tolist(), strict=True)]
        ends = np.array([segment[:, 1] for segment in axes.collections[0].get_segments()])
        assert np.allclose(ends, 100 * np.array(intervals))
        bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in below.patches]
        assert np.allclose(bars, 100 * np.stack([bins.lows, bins.highs, bins.counts / bins.counts.sum()], axis=1))
        assert axes.get_xlim() == axes.get_ylim() == (0, 100)
    assert drawn[0][1].get_ylim() == drawn[1][1].get_ylim()


def test_areas_grow_with_counts(drawn: list[tuple[Axes, ...]]) -> None:
    bins = reliability(*predictions(1))
    assert reliability_charts(bins, bins)[0].svg
    sizes = [line.get_markersize() for line in drawn[0][0].lines if line.get_marker() == "o"]
    assert np.array_equal(np.argsort(sizes, kind="stable"), np.argsort(bins.counts, kind="stable"))
    assert np.ptp(np.diff(np.square(sizes)) - np.diff(bins.counts) * (np.ptp(np.square(sizes)) / np.ptp(bins.counts))) < 1e-6


def test_titles_state_the_ece_that_metrics_computes() -> None:
    charts = reliability_charts(*(reliability(*predictions(heat)) for heat in (4, 1)))
    eces = [100 * metrics.figures(*predictions(heat))["ece"] for heat in (4, 1)]
    titles = [f"{when} calibration: ECE {ece:.1f} % as computed" for when, ece in zip(("before", "after"), eces, strict=True)]
    assert [chart.title for chart in charts] == titles


def test_calibration_that_changes_nothing_has_one_chart() -> None:
    bins = reliability(*predictions(1))
    (chart,) = reliability_charts(bins, reliability(*predictions(1)))
    ece = 100 * metrics.figures(*predictions(1))["ece"]
    assert chart.title == f"confidence and accuracy: ECE {ece:.1f} % as computed"


def test_pages_take_the_colours_of_the_page_and_are_said_in_words() -> None:
    before, after = reliability(*predictions(4)), reliability(*predictions(1))
    charts = reliability_charts(before, after)
    assert [chart.svg for chart in charts] == [chart.svg for chart in reliability_charts(before, after)]
    for chart in charts:
        assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata|https?:", chart.svg)
        assert ElementTree.fromstring(chart.svg).tag == "svg" and len(chart.svg) < 60_000
    last = f"{100 * before.confidence[-1]:.1f} % sure, {100 * before.accuracy[-1]:.1f} % right, {before.counts[-1]} images"
    assert last in charts[0].svg and charts[0].title in charts[0].svg
    named = [set(re.findall(r' id="([^"]+)"', chart.svg)) for chart in charts]
    assert not named[0] & named[1]


def test_one_image_and_none_are_drawn_without_warnings(tmp_path: Path) -> None:
    broken = reliability(np.array([[np.nan, 1.0], [0.0, 0.0]], np.float32), np.array([0, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, pair in enumerate(((ONE, NONE), (broken, ONE), (NONE, NONE))):
            save_png([reliability_charts(*pair)], tmp_path / f"{number}-a.png")
            save_png([reliability_charts(*pair)], tmp_path / f"{number}-b.png")
            assert (tmp_path / f"{number}-a.png").read_bytes() == (tmp_path / f"{number}-b.png").read_bytes()
            assert len([chart.svg for chart in reliability_charts(*pair)]) == 2 - (pair == (NONE, NONE))
    assert "there are no images" in reliability_charts(NONE, ONE)[0].svg
