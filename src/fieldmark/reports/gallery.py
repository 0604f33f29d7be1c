"""The images of a report: which ones, what was predicted for them, and small copies inside the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.reports.pages import jpeg_uri
from fieldmark.runtime.decode import UnreadableImage, dimensions, open_rgb
from fieldmark.scoring import metrics
from fieldmark.scoring.predictions import Predictions

_SIDE = 320
_QUALITY = 80
_BOX_COLOUR, _BOX_WIDTH = (255, 196, 0), 2


@dataclass(frozen=True)
class Card:
    """One image. `said`, the prediction, is None if the output is not finite; probabilities are in [0, 1], or NaN then.

    `thumbnail` is a JPEG as a data URI, or None if `reason` says why there is none.
    """

    path: str
    label: str
    label_probability: float
    said: str | None
    said_probability: float
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


def cards(predictions: Predictions, rows: Sequence[int] | np.ndarray, images: RecordedImages) -> list[Card]:
    """A card for each row."""
    chosen = np.asarray(rows, np.int64)
    labels = predictions.labels[chosen]
    said = metrics.predicted_classes(predictions.logits[chosen], labels) if len(chosen) else labels
    probabilities = predictions.probabilities()[chosen]
    built = []
    for path, label, answer, probability in zip(predictions.ids[chosen].tolist(), labels, said, probabilities, strict=True):
        image, reason = _thumbnail_or_reason(images, path)
        name = predictions.class_names[answer] if answer >= 0 else None
        card = Card(path, predictions.class_names[label], float(probability[label]), name, float(probability[answer]), image, reason)
        built.append(card)
    return built


def thumbnail(images: RecordedImages, path: str) -> str:
    """A JPEG of at most 320 x 320 pixels as a data URI, with the box, if there is one, drawn on it.

    Raises UnreadableImage if the image cannot be read, or has changed since the run began.
    """
    data = images.read(path)
    image = open_rgb(data, path, at_least=_SIDE)
    width, _ = dimensions(data, path)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    if (box := images.boxes.get(path)) is not None:
        scale = image.width / width
        left, top, right, bottom = (edge * scale for edge in box)
        ImageDraw.Draw(image).rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=_BOX_COLOUR, width=_BOX_WIDTH)
    return jpeg_uri(image, _QUALITY)


def _thumbnail_or_reason(images: RecordedImages, path: str) -> tuple[str | None, str]:
    try:
        return thumbnail(images, path), ""
    except UnreadableImage as error:
        return None, error.reason
