"""The images on which only one of two runs is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldmark.reports.comparison.entries import Entry
from fieldmark.reports.gallery import Card, cards, large_images
from fieldmark.scoring import metrics

_IMAGES = 12


@dataclass(frozen=True)
class Said:
    """What one run predicted for an image, None if the output is not finite; the probability is in [0, 1]."""

    name: str
    answer: str | None
    probability: float


@dataclass(frozen=True)
class Disagreement:
    card: Card
    said: list[Said]


def disagreements(rows: np.ndarray, first: Entry, wrong: Entry, both: Sequence[Entry]) -> list[Disagreement]:
    """Some of these rows with what both predicted, the most confident mistakes of `wrong` first."""
    order = np.argsort(-metrics.confidences(wrong.test.logits[rows]), kind="stable")[:_IMAGES]
    chosen = rows[order]
    found = cards(first.test, chosen, large_images(first.evidence.images))
    said = [_said(entry, chosen) for entry in both]
    return [Disagreement(card, list(each)) for card, each in zip(found, zip(*said, strict=True), strict=True)]


def _said(entry: Entry, rows: np.ndarray) -> list[Said]:
    if not len(rows):
        return []
    test = entry.test.take(rows)
    answers, probabilities = metrics.predicted_classes(test.logits, test.labels), test.probabilities()
    return [
        Said(entry.name, test.class_names[answer] if answer >= 0 else None, float(probability[answer]))
        for answer, probability in zip(answers.tolist(), probabilities, strict=True)
    ]
