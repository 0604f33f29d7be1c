"""The images of a report: which ones, what was predicted for them, and small copies inside the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.datasets.thumbnails import thumbnail_of
from fieldmark.reports.pages import jpeg_uri
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.scoring import metrics
from fieldmark.scoring.predictions import Predictions, softmax

_SIDE, _LARGE = 320, 480
_QUALITY = 80


@dataclass(frozen=True)
class Card:
    """One image. `said`, the prediction, is None if the output is not finite; probabilities are in [0, 1], or NaN then.

    `cell` is its place in the confusion matrix: the numbers of its class and of the predicted one, which is that of the last column
    without an answer. `thumbnail` is a JPEG as a data URI, or None; `reason` may say why there is none.
    """

    path: str
    label: str
    label_probability: float
    said: str | None
    said_probability: float
    cell: tuple[int, int]
    thumbnail: str | None
    reason: str = ""


def ranked(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the labelled images, int64: those misclassified, the highest loss first, and the others, the least confident first.

    Among equals the order is that of the rows.
    """
    known = np.flatnonzero(predictions.labels >= 0)
    logits, labels = predictions.logits[known], predictions.labels[known]
    right, confidence = metrics.predicted_classes(logits, labels) == labels, metrics.confidences(logits)
    hardest, least_sure = np.argsort(metrics.log_likelihoods(logits, labels), kind="stable"), np.argsort(confidence, kind="stable")
    return known[hardest[~right[hardest]]], known[least_sure[right[least_sure]]]


def cards(predictions: Predictions, rows: Sequence[int] | np.ndarray, shown: Callable[[int, str], tuple[str | None, str]]) -> list[Card]:
    """A card for each row. `shown` returns the image of a row and path, or None with the reason."""
    chosen = np.asarray(rows, np.int64)
    labels = predictions.labels[chosen]
    said = metrics.predicted_classes(predictions.logits[chosen], labels) if len(chosen) else labels
    built = []
    for row, path, label, answer in zip(chosen.tolist(), predictions.ids[chosen].tolist(), labels, said, strict=True):
        (probability,) = softmax(predictions.logits[row : row + 1])
        image, reason = shown(row, path)
        built.append(
            Card(
                path=path,
                label=predictions.class_names[label],
                label_probability=float(probability[label]),
                said=predictions.class_names[answer] if answer >= 0 else None,
                said_probability=float(probability[answer]),
                cell=(int(label), int(answer) if answer >= 0 else len(predictions.class_names)),
                thumbnail=image,
                reason=reason,
            )
        )
    return built


def large_images(images: RecordedImages) -> Callable[[int, str], tuple[str | None, str]]:
    """What `cards` shows for a gallery: images that can be enlarged."""

    def shown(_: int, path: str) -> tuple[str | None, str]:
        try:
            return thumbnail(images, path, _LARGE), ""
        except UnreadableImage as error:
            return None, error.reason

    return shown


def thumbnail(images: RecordedImages, path: str, side: int = _SIDE) -> str:
    """A JPEG of at most `side` x `side` pixels as a data URI, with the box, if there is one, drawn on it.

    Raises UnreadableImage if the image cannot be read, or has changed since the run began.
    """
    return small_image(images.read(path), path, images.boxes.get(path), side)


def small_image(data: bytes, path: str, box: Sequence[float] | None, side: int, quality: int = _QUALITY) -> str:
    """The same of the bytes of an image. Raises UnreadableImage if they are none."""
    return jpeg_uri(thumbnail_of(data, path, box, side), quality)
