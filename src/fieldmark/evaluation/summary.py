"""The figures of one split, as they stand in summary.json and in tables."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from fieldmark.core.console import table
from fieldmark.evaluation import metrics
from fieldmark.evaluation.intervals import intervals
from fieldmark.evaluation.predictions import Predictions


def evaluate_predictions(predictions: Predictions, resamples: int, seed: int) -> dict[str, float]:
    """n, and top1, top5, macro_f1, nll and ece, each followed by its 95 % interval: top1, top1_low, top1_high, …

    All are in per cent but nll, which is in nats. Images without a label are left out and not counted in n.
    Raises InputError where no image has a label.
    """
    known = predictions.labels >= 0
    figures: dict[str, float] = {"n": int(known.sum())}
    for name, interval in intervals(predictions.logits[known], predictions.labels[known], resamples, seed).items():
        scale = 1 if name == "nll" else 100
        figures |= {name: scale * interval.value, f"{name}_low": scale * interval.low, f"{name}_high": scale * interval.high}
    return figures


def figures_table(figures: dict[str, dict[str, float]]) -> Table:
    """The figures of evaluate_predictions by split, with their intervals, for the console."""
    digits = {"top1": 1, "top5": 1, "macro_f1": 1, "nll": 3, "ece": 1}

    def cell(split: str, name: str) -> str:
        value, low, high = (f"{figures[split][part]:.{digits[name]}f}" for part in (name, f"{name}_low", f"{name}_high"))
        return f"{value}  [{low}, {high}]"

    columns = ("split", "pictures", "top-1 %", "top-5 %", "macro F1 %", "NLL", "ECE %")
    return table(
        "with 95 % intervals", columns, [(split, int(figures[split]["n"]), *(cell(split, name) for name in digits)) for split in figures]
    )


@dataclass(frozen=True)
class ClassFigures:
    """One class: `n` images, of which `correct` were recognised; the rest in per cent, None where it is undefined.

    precision: undefined for a class that was never predicted; recall: for one without images; f1: for one with neither.
    """

    name: str
    n: int
    correct: int
    precision: float | None
    recall: float | None
    f1: float | None


def per_class(predictions: Predictions) -> list[ClassFigures]:
    """One row for each class, in the order of class_names. Images without a label are left out."""
    known = predictions.labels >= 0
    labels = predictions.labels[known]
    predicted = metrics.predicted_classes(predictions.logits[known], labels)
    rows = []
    for index, name in enumerate(predictions.class_names):
        n, guesses = int((labels == index).sum()), int((predicted == index).sum())
        correct = int(((labels == index) & (predicted == index)).sum())
        rows.append(ClassFigures(name, n, correct, _per_cent(correct, guesses), _per_cent(correct, n), _per_cent(2 * correct, n + guesses)))
    return rows


def _per_cent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
