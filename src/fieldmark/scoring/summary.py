"""The metrics of one split with their intervals, as they stand in summary.json and in tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.table import Table

from fieldmark.core.console import table
from fieldmark.core.summary import SplitMetrics
from fieldmark.scoring.intervals import intervals
from fieldmark.scoring.metrics import METRICS, Metric, headline_metrics
from fieldmark.scoring.predictions import Predictions

_VISIBLE_NLL = 0.001
"""A difference in nats that the three decimals of tables show."""


def evaluate_predictions(predictions: Predictions, resamples: int, seed: int, calibrated: np.ndarray | None = None) -> SplitMetrics:
    """Every metric of metrics.METRICS with its 95 % interval and, if few images bias it, its corrected value.

    Shares are in per cent, the others in their units. Images without a label are left out and not counted in n.
    calibrated: calibrated logits, float32 (n, C), which add the metrics of probabilities after calibration, such as nll_calibrated, and
    top1_calibrated if they change an answer.
    Raises InputError if no image has a label.
    """
    known = predictions.labelled()
    values: dict[str, float] = {"n": len(known)}
    found = {(key, ""): each for key, each in intervals(known.logits, known.labels, resamples, seed, known.groups).items()}
    if calibrated is not None:
        after = intervals(calibrated[predictions.labels >= 0], known.labels, resamples, seed, known.groups)
        changed = ["top1"] if after["top1"] != found["top1", ""] else []
        found |= {(key, "_calibrated"): after[key] for key in (*(key for key, metric in METRICS.items() if metric.calibrated), *changed)}
    for (key, state), each in found.items():
        scale = 100 if METRICS[key].unit == "%" else 1
        name = f"{key}{state}"
        values |= {name: scale * each.value, f"{name}_low": scale * each.low, f"{name}_high": scale * each.high}
        if each.corrected is not None:
            values[f"{name}_corrected"] = scale * each.corrected
    return SplitMetrics.model_validate(values)


def calibration_harm(test: SplitMetrics, val_images: int) -> str | None:
    """A sentence where the calibration that was fitted on val made the probabilities of test worse; None where it did not."""
    before, after = (test.interval(f"nll{state}")[0] for state in ("", "_calibrated"))
    if before is None or after is None or not after - before > _VISIBLE_NLL:
        return None
    return (
        f"calibration, fitted on {val_images:,} image{'s' * (val_images != 1)} of val, made the probabilities of test worse: "
        f"NLL from {before:.3f} to {after:.3f} nats, and ECE, as computed, from {test.ece:.1f} to {test.ece_calibrated:.1f} %. "
        "With more images in val it would be more reliable."
    )


def metrics_table(metrics: Mapping[str, SplitMetrics], classes: int) -> Table:
    """The headline metrics of so many classes by split, with their intervals, for the console.

    Below those of probabilities stands what they are after calibration, below corrected ones what they are without the correction.
    """
    shown = headline_metrics(classes)
    corrected = [metric for metric in shown if any(each.has(f"{metric.key}_corrected") for each in metrics.values())]

    def cell(figures: SplitMetrics, metric: Metric, key: str) -> str:
        if not figures.has(key):
            return ""
        value, low, high = (_written(each, metric.digits) for each in figures.estimate(key))
        return f"{value}  [{low}, {high}]"

    def computed(figures: SplitMetrics, metric: Metric, key: str) -> str:
        return _written(getattr(figures, key), metric.digits) if figures.has(f"{key}_corrected") else ""

    rows = [("images", *(each.n for each in metrics.values()))]
    for metric in shown:
        title = f"{metric.name} %" if metric.unit == "%" else metric.name
        for key, name in ((metric.key, title), (f"{metric.key}_calibrated", "  after calibration")):
            if any(each.has(key) for each in metrics.values()):
                rows.append((name, *(cell(each, metric, key) for each in metrics.values())))
            if any(each.has(f"{key}_corrected") for each in metrics.values()):
                rows.append(("  as computed", *(computed(each, metric, key) for each in metrics.values())))
    names = " and ".join(metric.name for metric in corrected)
    return table("with 95 % intervals" + (f"; {names} corrected for few images" if names else ""), ("", *metrics), rows)


def _written(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
