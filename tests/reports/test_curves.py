from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.reports.curves import write_curves


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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Axes, ...]]:
    """The axes of every figure that is saved."""
    figures: list[tuple[Axes, ...]] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(tuple(figure.axes))
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def curves(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_what_is_drawn_is_what_was_measured(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    write_curves(rows(6) + rows(3, "refit"), tmp_path / "curves.png")
    loss, accuracy, rate = drawn[0]
    epochs = [1, 2, 3, 4, 5, 6]
    assert curves(loss)["train"] == (epochs, [5 / e for e in epochs])
    assert curves(loss)["val"] == (epochs, [6 / e for e in epochs])
    assert curves(loss)["refit on train and val"] == ([1, 2, 3], [5, 2.5, 5 / 3])
    assert curves(accuracy)["val"] == (epochs, [70 - abs(e - 3) for e in epochs])
    assert curves(accuracy)["best epoch, 3: val 70.0 %"] == ([3], [70])
    assert curves(loss)["best epoch, 3: val 2.000"] == ([3], [2])
    assert [0.1 / e for e in epochs] in [list(line.get_ydata()) for line in rate.lines]


def test_the_given_best_epoch_is_marked(tmp_path: Path, drawn: list[tuple[Axes, ...]]) -> None:
    write_curves(rows(6), tmp_path / "curves.png", best_epoch=6)
    assert curves(drawn[0][0])["best epoch, 6: val 1.000"] == ([6], [1])


def test_the_picture_is_large_enough_not_blank_and_repeatable(tmp_path: Path) -> None:
    write_curves(rows(6), tmp_path / "a.png")
    write_curves(rows(6), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert min(picture.shape[:2]) >= 1000
    assert 0.01 < (picture != 255).any(axis=2).mean() < 0.3
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
    assert "val" not in curves(drawn[3][0])


def test_no_epoch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no epoch has finished"):
        write_curves([], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
