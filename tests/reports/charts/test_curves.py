from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.reports.charts.chart import save_png
from fieldmark.reports.charts.curves import curve_charts


def rows(epochs: int, phase: str = "fit") -> list[dict[str, Any]]:
    return [
        {
            "phase": phase,
            "epoch": epoch,
            "train_loss": 5 / epoch,
            "train_top1": 90 - 80 / epoch,
            "val_nll": 6 / epoch if phase == "fit" else None,
            "val_top1": 70 - abs(epoch - 3) if phase == "fit" else None,
            "lr": 0.1 / epoch,
            "images_per_second": 80.0,
            "seconds": 60.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def write_curves(metrics: list[dict[str, Any]], path: Path, best_epoch: int | None = None) -> None:
    save_png([[chart] for chart in curve_charts(metrics, best_epoch)], path, legend=True)


def curves(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_what_is_drawn_is_what_was_measured(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    write_curves(rows(6) + rows(3, "refit"), tmp_path / "curves.png")
    (loss,), (accuracy,), (rate,) = drawn
    epochs = [1, 2, 3, 4, 5, 6]
    assert curves(loss)["train"] == (epochs, [5 / e for e in epochs])
    assert curves(loss)["val"] == (epochs, [6 / e for e in epochs])
    assert curves(loss)["refit on train and val"] == ([1, 2, 3], [5, 2.5, 5 / 3])
    assert curves(accuracy)["val"] == (epochs, [70 - abs(e - 3) for e in epochs])
    assert curves(accuracy)["best epoch, 3: val 70.0 %"] == ([3], [70])
    assert curves(loss)["best epoch, 3: val 2.000"] == ([3], [2])
    assert [0.1 / e for e in epochs] in [list(line.get_ydata()) for line in rate.lines]


def test_stages_are_marked_where_they_begin(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    staged = [row | {"stage": 1 + (row["epoch"] > 2) + (row["epoch"] > 5)} for row in rows(6)]
    write_curves(staged, tmp_path / "curves.png")
    for (axes,) in drawn:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [2.5, 5.5]
    assert "a stage begins with epoch 3, 6" in curve_charts(staged)[0].svg and "stage" not in curve_charts(rows(6))[0].svg


def test_the_given_best_epoch_is_marked(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    write_curves(rows(6), tmp_path / "curves.png", best_epoch=6)
    assert curves(drawn[0][0])["best epoch, 6: val 1.000"] == ([6], [1])


def test_the_image_is_large_enough_not_blank_and_repeatable(tmp_path: Path) -> None:
    write_curves(rows(6), tmp_path / "a.png")
    write_curves(rows(6), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert min(image.shape[:2]) >= 1000
    assert 0.01 < (image != 255).any(axis=2).mean() < 0.3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_gaps_and_short_runs_are_drawn_without_warnings(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    broken = rows(4)
    broken[1] |= {"val_nll": math.inf, "val_top1": math.nan, "train_loss": None}
    del broken[2]["train_top1"]
    without_val = [row | {"val_nll": None, "val_top1": None} for row in rows(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index, case in enumerate((broken, rows(1), rows(2, "refit"), without_val, rows(200))):
            write_curves(case, tmp_path / f"{index}.png")
    assert [math.isnan(value) for value in curves(drawn[0][0])["val"][1]] == [False, True, False, False]
    assert "val" not in curves(drawn[9][0])


def test_pages_show_the_same_in_their_own_colours(drawn: list[tuple[Axes, ...]]) -> None:
    loss, accuracy, rate = curve_charts(rows(6) + rows(3, "refit"))
    _ = [chart.svg for chart in (loss, accuracy, rate)]
    assert [chart.title for chart in (loss, accuracy, rate)] == ["loss (nats)", "top-1 accuracy (%)", "learning rate"]
    assert curves(drawn[0][0])["val"] == ([1, 2, 3, 4, 5, 6], [6 / e for e in range(1, 7)])
    assert curves(drawn[1][0])["best epoch, 3: val 70.0 %"] == ([3], [70])
    assert [0.1 / e for e in range(1, 7)] in [list(line.get_ydata()) for line in drawn[2][0].lines]
    for name in ("train", "val", "refit", "grid", "paper"):
        assert f"var(--{name})" in loss.svg and f"var(--{name})" in accuracy.svg
    assert "var(--rate)" in rate.svg and "var(--train)" not in rate.svg
    for chart in (loss, accuracy, rate):
        assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata|https?:", chart.svg)
        assert ElementTree.fromstring(chart.svg).tag == "svg"
    assert 'aria-label="loss (nats) by epoch: train from 5 to 0.8333, val from 6 to 1, refit on train and val from 5 to 1.667"' in loss.svg


def test_charts_are_repeatable_whatever_the_users_style_and_share_no_identifiers() -> None:
    drawn = [chart.svg for chart in curve_charts(rows(6))]
    with mpl.rc_context(
        {"axes.edgecolor": "red", "figure.facecolor": "blue", "svg.fonttype": "path", "axes.prop_cycle": "cycler('color', ['g'])"}
    ):
        assert [chart.svg for chart in curve_charts(rows(6))] == drawn
    named = [set(re.findall(r' id="([^"]+)"', svg)) for svg in drawn]
    used = [set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) for svg in drawn]
    assert used == named and not named[0] & named[1] and not named[1] & named[2] and not named[0] & named[2]


def test_pages_of_broken_and_short_runs_are_drawn_without_warnings() -> None:
    broken = [row | {"val_nll": math.inf, "val_top1": None, "train_loss": math.nan} for row in rows(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "loss (nats) by epoch: nothing was measured" in curve_charts(broken)[0].svg
        for case in (rows(1), rows(2, "refit"), rows(200)):
            assert len([chart.svg for chart in curve_charts(case)]) == 3


def test_no_epoch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no epoch has finished"):
        curve_charts([])
    with pytest.raises(InputError, match="no epoch has finished"):
        write_curves([], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
