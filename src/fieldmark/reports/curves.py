"""Learning curves of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAIN, _VAL, _REFIT, _RATE = "#0072b2", "#d55e00", "#56b4e9", "#555555"  # told apart by colour-blind readers too (Okabe and Ito)


def write_curves(metrics: Sequence[dict[str, Any]], path: Path, best_epoch: int | None = None) -> None:
    """Draw loss, top-1 accuracy and learning rate over the epochs of the rows of metrics.jsonl into a PNG.

    A row has phase ("fit" or "refit"), epoch, train_loss and val_nll (nats), train_top1 and val_top1 (per cent) and lr; figures that are
    missing, None or not finite leave a gap. `best_epoch` is marked; without it, the epoch with the highest val top-1.
    Raises InputError where there are no rows.
    """
    if not metrics:
        raise InputError("there are no learning curves to draw: no epoch has finished")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    fit = [row for row in metrics if row["phase"] == "fit"]
    refit = [row for row in metrics if row["phase"] == "refit"]
    best = _best(fit, best_epoch)

    figure = Figure(figsize=(8, 8.4), dpi=150, layout="constrained")
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
    for axes, train, val in ((loss, "train_loss", "val_nll"), (accuracy, "train_top1", "val_top1")):
        _draw(axes, fit, train, _TRAIN, "train")
        _draw(axes, fit, val, _VAL, "val")
        if best is not None:
            _mark(axes, best, val)
        _draw(axes, refit, train, _REFIT, "refit on train and val", dashed=True)
    _draw(rate, fit, "lr", _RATE)
    _draw(rate, refit, "lr", _REFIT, dashed=True)

    loss.set_ylabel("loss (nats)")
    accuracy.set_ylabel("top-1 accuracy (%)")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    epochs = [row["epoch"] for row in metrics]
    rate.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    for axes in (loss, accuracy, rate):
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if best is not None:
            axes.axvline(best["epoch"], color=_VAL, linewidth=1, linestyle=":", zorder=1)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.align_ylabels()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _best(fit: list[dict[str, Any]], epoch: int | None) -> dict[str, Any] | None:
    if epoch is not None:
        return next((row for row in fit if row["epoch"] == epoch), None)
    measured = [row for row in fit if not math.isnan(_number(row, "val_top1"))]
    return max(measured, key=lambda row: row["val_top1"], default=None)


def _draw(axes: Axes, rows: list[dict[str, Any]], key: str, colour: str, label: str | None = None, dashed: bool = False) -> None:
    values = [_number(row, key) for row in rows]
    if all(map(math.isnan, values)):
        return
    marker = "o" if len(rows) <= 30 else ""
    style = "--" if dashed else "-"
    axes.plot(
        [row["epoch"] for row in rows], values, color=colour, label=label, linestyle=style, linewidth=1.8, marker=marker, markersize=3.5
    )


def _mark(axes: Axes, best: dict[str, Any], key: str) -> None:
    value = _number(best, key)
    if math.isnan(value):
        return
    text = f"{value:.1f} %" if key == "val_top1" else f"{value:.3f}"
    label = f"best epoch, {best['epoch']}: val {text}"
    axes.plot([best["epoch"]], [value], "*", color=_VAL, markersize=13, markeredgecolor="white", label=label, zorder=5)


def _number(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    return float(value) if value is not None and math.isfinite(value) else math.nan
