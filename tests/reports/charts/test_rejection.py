from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from fieldmark.core.errors import InputError
from fieldmark.reports.charts.chart import save_png
from fieldmark.reports.charts.rejection import rejection_charts
from fieldmark.scoring.rejection import auroc
from fieldmark.scoring.rejection_scores import SCORES


def scores(known: int = 600, unknown: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(1.5, 1, known), rng.normal(0, 1, unknown)


def outlines(axes: Axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = [(str(patch.get_label()), patch.get_data()) for patch in axes.patches]
    return {label.split(":")[0]: (data.values, data.edges) for label, data in found if ":" in label}


def curve(axes: Axes, name: str) -> Any:
    return next(line for line in axes.lines if str(line.get_label()).startswith(f"{name}: "))


def test_the_histograms_hold_all_images_in_common_bins(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    known, unknown = scores()
    known[:30], unknown[:6], unknown[6] = -np.inf, np.nan, 1e9
    save_png([rejection_charts(known, unknown, 0.25, "energy")], tmp_path / "a.png")
    save_png([rejection_charts(known, unknown, 0.25, "energy")], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    axes = drawn[0][0]
    (of_known, edges), (of_unknown, others) = outlines(axes)["known"], outlines(axes)["unknown"]
    assert np.array_equal(edges, others) and edges[-1] < 100 and edges[0] < 0.25 < edges[-1]
    assert of_known.sum() == pytest.approx(100) and of_unknown.sum() == pytest.approx(100)
    assert of_known[0] >= 100 * 30 / 600 and of_unknown[0] >= 100 * 6 / 300 and of_unknown[-1] >= 100 / 300
    assert "outer bins" in axes.get_xlabel()
    line = next(line for line in axes.lines if str(line.get_label()).startswith("threshold"))
    assert list(line.get_xdata()) == [0.25, 0.25]


def test_the_curves_are_the_roc_of_each_score_with_its_auroc(drawn: list[tuple[Axes, ...]]) -> None:
    curves = {name: scores(seed=seed) for seed, name in enumerate(SCORES)}
    assert rejection_charts(*curves["vim"], 0.5, "vim", curves)[1].svg
    (axes,) = drawn[0]
    for name, (known, unknown) in curves.items():
        line = curve(axes, name)
        x, y = np.array(line.get_xdata()) / 100, np.array(line.get_ydata()) / 100
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(y, x) == pytest.approx(auroc(known, unknown), abs=2e-3)
        assert line.get_label() == f"{name}: {100 * auroc(known, unknown):.1f} %"
    widths = {name: curve(axes, name).get_linewidth() for name in SCORES}
    assert all(widths["vim"] > widths[name] for name in SCORES if name != "vim")
    mark = next(line for line in axes.lines if line.get_marker() == "o")
    known, unknown = curves["vim"]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (100 * (unknown >= 0.5).mean(), 100 * (known >= 0.5).mean())


def test_many_images_make_no_large_elements() -> None:
    curves = {name: scores(50_000, 20_000, seed) for seed, name in enumerate(SCORES)}
    charts = rejection_charts(*curves["msp"], 0.5, "msp", curves)
    assert all(len(chart.svg) < 60_000 for chart in charts)


def test_pages_take_the_colours_of_the_page_and_are_said_in_words() -> None:
    known, unknown = np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 2, 0])
    charts = rejection_charts(known, unknown, 2, "knn", {"msp": (known, known)})
    again = rejection_charts(known, unknown, 2, "knn", {"msp": (known, known)})
    assert [chart.svg for chart in charts] == [chart.svg for chart in again]
    assert [chart.title for chart in charts] == ["scores of known and unknown images (knn)", "known against unknown images accepted"]
    assert "4 known images, of which 75.0 % are accepted" in charts[0].svg and "of which 25.0 % are accepted" in charts[0].svg
    assert "(AUROC): knn (chosen) 87.5 %, msp 50.0 %" in charts[1].svg
    for chart in charts:
        assert "var(--train)" in chart.svg and "var(--val)" in chart.svg
        assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata|https?:", chart.svg)
        assert ElementTree.fromstring(chart.svg).tag == "svg"
    named = [set(re.findall(r' id="([^"]+)"', chart.svg)) for chart in charts]
    assert not named[0] & named[1]


@pytest.mark.parametrize(
    ("known", "unknown", "threshold"),
    [
        ([1.0], [1.0], 1.0),
        ([2.0] * 5, [2.0] * 4, -math.inf),
        ([-math.inf, math.nan, 0.3], [-math.inf], 0.2),
        ([-math.inf], [math.nan], -math.inf),
        ([0.0, 1.0], [0.0, 0.0], math.inf),
        ([1e-9, 1e9], [-1e9], 0.0),
    ],
)
def test_few_tied_and_infinite_scores_are_drawn_without_warnings(
    known: list[float], unknown: list[float], threshold: float, tmp_path: Path, drawn: list[tuple[Axes, ...]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_png([rejection_charts(np.array(known), np.array(unknown), threshold, "msp")], tmp_path / "rejection.png")
        assert all(chart.svg for chart in rejection_charts(np.array(known), np.array(unknown), threshold, "msp"))
    assert outlines(drawn[0][0])["known"][0].sum() == pytest.approx(100)
    assert any("no threshold" in str(line.get_label()) for line in drawn[0][0].lines) == math.isinf(threshold)


def test_no_images_of_a_kind_are_an_error(tmp_path: Path) -> None:
    for known, unknown in (([], [1.0]), ([1.0], [])):
        with pytest.raises(InputError, match="no known or no unknown"):
            save_png([rejection_charts(np.array(known), np.array(unknown), 0.0, "msp")], tmp_path / "rejection.png")
    assert not list(tmp_path.iterdir())
