"""The classification report: each class, averages over classes, and classes with many and with few training images apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.scoring import metrics
from fieldmark.scoring.intervals import share_interval
from fieldmark.scoring.predictions import Predictions

_UNEQUAL = 1.5
"""How many times as many training images the largest classes need to have as the smallest to be looked at apart."""


@dataclass(frozen=True)
class ClassFigures:
    """One class: `n` images, of which `correct` were recognised; the rest in per cent, None where it is undefined.

    precision: undefined for a class that was never predicted; recall: for one without images; f1: for one with neither.
    recall_low, recall_high: the 95 % interval of the recall (`share_interval`), which of few images is wide.
    """

    name: str
    n: int
    correct: int
    precision: float | None
    recall: float | None
    f1: float | None
    recall_low: float | None = None
    recall_high: float | None = None


def per_class(predictions: Predictions) -> list[ClassFigures]:
    """One row for each class, in the order of class_names. Images without a label are left out."""
    hits, actual, predicted = (counts.tolist() for counts in _counts(predictions))
    known = predictions.labelled()
    right = metrics.top_k_hits(known.logits, known.labels, 1)
    rows = np.split(np.argsort(known.labels, kind="stable"), np.cumsum(actual)[:-1])
    figures = []
    for name, correct, n, guesses, of_class in zip(predictions.class_names, hits, actual, predicted, rows, strict=True):
        groups = None if known.groups is None else known.groups[of_class]
        low, high = (100 * each for each in share_interval(right[of_class], groups)[1:]) if n else (None, None)
        shares = (_per_cent(correct, guesses), _per_cent(correct, n), _per_cent(2 * correct, n + guesses))
        figures.append(ClassFigures(name, n, correct, *shares, low, high))
    return figures


def averages(predictions: Predictions) -> dict[str, dict[str, float]]:
    """precision, recall and f1 in per cent: macro, micro and weighted by images, over the classes among labels or predictions.

    As scikit-learn's, where what is undefined counts as 0. An image with a logit that is not finite is given no class.
    """
    hits, actual, predicted = (counts.astype(np.float64) for counts in _counts(predictions))
    occurs = actual + predicted > 0
    hits, actual, predicted = hits[occurs], actual[occurs], predicted[occurs]
    each = {
        "precision": np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0),
        "recall": np.divide(hits, actual, out=np.zeros_like(hits), where=actual > 0),
        "f1": 2 * hits / (actual + predicted),
    }
    right, n, answers = hits.sum(), actual.sum(), predicted.sum()
    micro = {"precision": right / answers if answers else 0.0, "recall": right / n, "f1": 2 * right / (n + answers)}
    return {
        "macro": {name: 100 * float(values.mean()) for name, values in each.items()},
        "micro": {name: 100 * float(value) for name, value in micro.items()},
        "weighted": {name: 100 * float((values * actual).sum() / n) for name, values in each.items()},
    }


@dataclass(frozen=True)
class Share:
    """Some classes, with `fewest` to `most` images in train: their images of test, and the top-1 accuracy on those in per cent.

    low, high: its 95 % interval (Clopper and Pearson, 1934). All three are None where test has none of their images.
    """

    name: str
    classes: int
    fewest: int
    most: int
    n: int
    top1: float | None
    low: float | None
    high: float | None


def head_to_tail(predictions: Predictions, trained: np.ndarray) -> list[Share]:
    """Head, medium and tail: the third of the classes with most images in train, the middle and the last, as near as equal counts allow.

    trained: int (C,), images of each class in train. Empty where the classes are about equally large: where the median of the first third
    is not at least half again that of the last one.
    """
    known = predictions.labelled()
    hits = metrics.top_k_hits(known.logits, known.labels, 1)
    rank = np.searchsorted(np.sort(trained), trained, side="left")  # classes with fewer images
    third = 2 - np.minimum(3 * rank // len(trained), 2)
    largest, smallest = (np.median(trained[third == each]) for each in (third.min(), third.max()))
    if largest < _UNEQUAL * smallest or third.min() == third.max():
        return []
    shares = []
    for index, name in enumerate(("head", "medium", "tail")):
        members = third == index
        if members.any():
            rows = members[known.labels]
            groups = None if known.groups is None else known.groups[rows]
            ends = [100 * each for each in share_interval(hits[rows], groups)] if rows.any() else (None, None, None)
            shares.append(Share(name, int(members.sum()), int(trained[members].min()), int(trained[members].max()), int(rows.sum()), *ends))
    return shares


def _counts(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = predictions.labelled()
    return metrics.class_counts(known.logits, known.labels)


def _per_cent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
