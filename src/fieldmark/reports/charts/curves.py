"""Learning curves of a run: loss, accuracy and learning rate by epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fieldmark.core.errors import InputError
from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import LINES, PAPER, REFERENCE, STAGE, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAIN, _VAL, _REFIT, _RATE = LINES[0], LINES[1], LINES[4], REFERENCE


@dataclass(frozen=True)
class _Measure:
    """The columns of metrics.jsonl that one chart shows; `val` is None if val has none."""

    title: str
    train: str
    val: str | None


_MEASURES = (
    _Measure("loss (nats)", "train_loss", "val_nll"),
    _Measure("top-1 accuracy (%)", "train_top1", "val_top1"),
    _Measure("learning rate", "lr", None),
)


@dataclass(frozen=True)
class _Epochs:
    fit: list[dict[str, Any]]
    refit: list[dict[str, Any]]
    best: dict[str, Any] | None


def curve_charts(metrics: Sequence[dict[str, Any]], best_epoch: int | None = None) -> list[Chart]:
    """Loss, top-1 accuracy and learning rate over the epochs of the rows of metrics.jsonl, without legends.

    A row has phase ("fit" or "refit"), epoch, stage if there are several, train_loss and val_nll (nats), train_top1 and val_top1 (per
    cent) and lr; values that are missing, None or not finite leave a gap. `best_epoch` is marked, by default the one with the highest val
    top-1.
    Raises InputError if there are no rows.
    """
    epochs = _epochs(metrics, best_epoch)
    return [Chart(each.title, _description(each, epochs), 4.6, 3.1, partial(_draw, measure=each, epochs=epochs)) for each in _MEASURES]


def _epochs(metrics: Sequence[dict[str, Any]], best_epoch: int | None) -> _Epochs:
    if not metrics:
        raise InputError("there are no learning curves to draw: no epoch has finished")
    fit = [row for row in metrics if row["phase"] == "fit"]
    return _Epochs(fit, [row for row in metrics if row["phase"] == "refit"], _best(fit, best_epoch))


def _best(fit: list[dict[str, Any]], epoch: int | None) -> dict[str, Any] | None:
    if epoch is not None:
        return next((row for row in fit if row["epoch"] == epoch), None)
    measured = [row for row in fit if not math.isnan(_number(row, "val_top1"))]
    return max(measured, key=lambda row: row["val_top1"], default=None)


def _draw(axes: Axes, measure: _Measure, epochs: _Epochs) -> None:
    from matplotlib.ticker import MaxNLocator

    if measure.val is not None:
        _plot(axes, epochs.fit, measure.train, _TRAIN, "train")
        _plot(axes, epochs.fit, measure.val, _VAL, "val")
        if epochs.best is not None:
            _mark(axes, epochs.best, measure.val)
        _plot(axes, epochs.refit, measure.train, _REFIT, "refit on train and val", dashed=True)
    else:
        _plot(axes, epochs.fit, measure.train, _RATE)
        _plot(axes, epochs.refit, measure.train, _REFIT, dashed=True)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    numbers = [row["epoch"] for row in (*epochs.fit, *epochs.refit)]
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.locator_params(axis="y", nbins=6)
    plain_axes(axes)
    if epochs.best is not None:
        axes.axvline(epochs.best["epoch"], color=_VAL, linewidth=1, linestyle=":", zorder=1)
    for number, epoch in enumerate(stage_starts(epochs.fit)):
        axes.axvline(
            epoch - 0.5,
            color=STAGE,
            linewidth=1,
            linestyle=(0, (6, 3)),
            label=None if number or measure.val is None else "next stage",
            zorder=0,
        )


def stage_starts(metrics: Sequence[Mapping[str, Any]]) -> list[int]:
    """The first epoch of each stage but the first, of rows of metrics.jsonl."""
    stages = [(row["epoch"], row.get("stage")) for row in metrics if row["phase"] == "fit"]
    return [epoch for (_, before), (epoch, stage) in itertools.pairwise(stages) if stage != before]


def _plot(axes: Axes, rows: list[dict[str, Any]], key: str, colour: str, label: str | None = None, dashed: bool = False) -> None:
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
    axes.plot([best["epoch"]], [value], "*", color=_VAL, markersize=13, markeredgecolor=PAPER, label=label, zorder=5)


def _description(measure: _Measure, epochs: _Epochs) -> str:
    """The chart in words, for those who do not see it."""
    lines = [("train", epochs.fit, measure.train), ("refit on train and val", epochs.refit, measure.train)]
    if measure.val is not None:
        lines.insert(1, ("val", epochs.fit, measure.val))
    parts = []
    for name, rows, key in lines:
        values = [value for row in rows if not math.isnan(value := _number(row, key))]
        if values:
            parts.append(f"{name} from {values[0]:.4g} to {values[-1]:.4g}")
    starts = ", ".join(str(epoch) for epoch in stage_starts(epochs.fit))
    stages = f"; a stage begins with epoch {starts}" if starts else ""
    return f"{measure.title} by epoch: {', '.join(parts) or 'nothing was measured'}{stages}"


def _number(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    return float(value) if value is not None and math.isfinite(value) else math.nan
