"""The figures of one split, as they stand in summary.json and in tables."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from fieldmark.core.console import table
from fieldmark.scoring.intervals import intervals
from fieldmark.scoring.predictions import Predictions

_NOT_PER_CENT = ("nll", "brier")
_OF_PROBABILITIES = ("nll", "brier", "ece", "ece_adaptive")


def evaluate_predictions(predictions: Predictions, resamples: int, seed: int, calibrated: np.ndarray | None = None) -> dict[str, float]:
    """n, and the figures of metrics.figures_of, each followed by its 95 % interval: top1, top1_low, top1_high, …

    All are in per cent but nll, in nats, and brier, from 0 to 2. Images without a label are left out and not counted in n.
    calibrated: calibrated logits, float32 (n, C), which add nll_calibrated, brier_calibrated, ece_calibrated and ece_adaptive_calibrated,
    and top1_calibrated where they change an answer.
    Raises InputError where no image has a label.
    """
    known = predictions.labelled()
    figures: dict[str, float] = {"n": len(known)}
    found = intervals(known.logits, known.labels, resamples, seed, known.groups)
    if calibrated is not None:
        after = intervals(calibrated[predictions.labels >= 0], known.labels, resamples, seed, known.groups)
        changed = after["top1"] != found["top1"]
        found |= {f"{name}_calibrated": after[name] for name in (*_OF_PROBABILITIES, *(["top1"] if changed else []))}
    for name, interval in found.items():
        scale = 1 if name.removesuffix("_calibrated") in _NOT_PER_CENT else 100
        figures |= {name: scale * interval.value, f"{name}_low": scale * interval.low, f"{name}_high": scale * interval.high}
    return figures


def figures_table(figures: dict[str, dict[str, float]]) -> Table:
    """The figures of evaluate_predictions by split, with their intervals, for the console."""
    shown = {
        "top1": ("top-1 %", 1),
        "top5": ("top-5 %", 1),
        "macro_f1": ("macro F1 %", 1),
        "nll": ("NLL", 3),
        "ece": ("ECE %", 1),
    }

    def cell(split: str, name: str) -> str:
        value, low, high = (f"{figures[split][part]:.{shown[name][1]}f}" for part in (name, f"{name}_low", f"{name}_high"))
        return f"{value}  [{low}, {high}]"

    columns = ("split", "images", *(shown[name][0] for name in shown))
    return table(
        "with 95 % intervals", columns, [(split, int(figures[split]["n"]), *(cell(split, name) for name in shown)) for split in figures]
    )
