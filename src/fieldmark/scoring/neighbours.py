"""What an image may be held against: its nearest training images of a class, and the class that its own is taken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fieldmark.scoring.metrics import predicted_classes
from fieldmark.scoring.predictions import Predictions


class Labelled(Protocol):
    """n images: int (n,) and float (n, D)."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def features(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Confusion:
    """The class that the images of another are most often mistaken for: `times` of the `n` that `split` has of that other one."""

    label: int
    times: int
    n: int
    split: str


def nearest(train: Labelled, features: np.ndarray, label: int, count: int) -> np.ndarray:
    """Rows of the training images of a class whose features point most nearly where those of each image do.

    features: float (m, D), as those of `train`

    Returns int64 (m, k), k = `count` or as many as the class has, the largest cosine similarity first, of equal ones the first row. Rows
    with a feature that is not finite are left out. To features of an image that are not finite or all zero, all are equally near.
    """
    rows = np.flatnonzero(train.labels == label)
    rows = rows[np.isfinite(train.features[rows]).all(axis=1)]
    similarity = directions(features) @ directions(train.features[rows]).T
    return rows[np.argsort(-similarity, axis=1, kind="stable")[:, :count]]


def most_confused(predictions: Predictions) -> np.ndarray:
    """The class that the images of each class are most often taken for: int64 (C,).

    Of classes that they are as often taken for, none included, it is the one that they give the highest mean probability. -1 for a class
    without images, where those without a label or with a logit that is not finite are none, and where there is no other class.
    """
    classes = len(predictions.class_names)
    confused = np.full(classes, -1, np.int64)
    rows = np.flatnonzero((predictions.labels >= 0) & np.isfinite(predictions.logits).all(axis=1))
    if not len(rows) or classes < 2:
        return confused
    rows = rows[np.argsort(predictions.labels[rows], kind="stable")]
    labels = predictions.labels[rows].astype(np.int64)
    present, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    taken = np.bincount(labels * classes + predicted_classes(predictions.logits[rows], labels), minlength=classes**2)
    means = np.add.reduceat(predictions.probabilities()[rows], starts, axis=0, dtype=np.float64) / counts[:, None]
    # Half of a probability is less than one image, so it decides between equal numbers of images alone.
    scores = taken.reshape(classes, classes)[present] + means / 2
    scores[np.arange(len(present)), present] = -np.inf
    confused[present] = scores.argmax(axis=1)
    return confused


def confusions(splits: Mapping[str, Predictions | None]) -> tuple[Confusion | None, ...]:
    """Of each class in the first split that has images of it; None where none has, or there is no other class."""
    found: dict[int, Confusion] = {}
    classes = 0
    for split, predictions in splits.items():
        if predictions is None:
            continue
        classes = len(predictions.class_names)
        known = predictions.labelled()
        confused, labels = most_confused(known), known.labels
        counts = np.bincount(labels, minlength=classes)
        times = np.bincount(labels[predicted_classes(known.logits, labels) == confused[labels]], minlength=classes)
        for label in np.flatnonzero(confused >= 0).tolist():
            found.setdefault(label, Confusion(int(confused[label]), int(times[label]), int(counts[label]), split))
    return tuple(found.get(label) for label in range(classes))


def directions(features: np.ndarray) -> np.ndarray:
    """Rows at length 1, in float64; zeros for a row without a direction."""
    rows = np.where(np.isfinite(features).all(axis=1, keepdims=True), features, 0).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
