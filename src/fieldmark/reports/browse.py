"""Every mistake of test, and some correct answers of each class, with small images inside the page as far as a budget allows."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.evaluation.assessment import Assessment
from fieldmark.reports.gallery import Card, cards, ranked, small_image
from fieldmark.runtime.decode import UnreadableImage

BUDGET = 6_000_000
"""Bytes of the page that small images may take; a quarter is for correct answers."""
_CORRECT, _EACH = 0.25, 6
_SIDES = ((150, 320), (600, 224))
_SMALLEST, _QUALITY = 160, 72
_LISTED = 10_000
_CHUNK = 64
"""Images that are read before their small copies are made."""


@dataclass(frozen=True)
class ClassMistakes:
    """The mistakes on images of a class, the highest loss first."""

    name: str
    mistakes: list[Card]


@dataclass(frozen=True)
class Browse:
    """What a page lists: the mistakes by class, most mistakes first, and correct answers of each class, the least confident first.

    without: mistakes whose image is left out for the budget
    unlisted: mistakes that are not listed at all
    """

    classes: list[ClassMistakes]
    correct: list[Card]
    without: int
    unlisted: int
    budget: int = BUDGET


def browse(found: Assessment, images: RecordedImages | None) -> Browse:
    """images: None if they are no longer there, and then none is shown."""
    mistakes, hits = ranked(found.answers)
    listed = mistakes[:_LISTED]
    some = _some_of_each(hits, found.test.labels)
    side = next((side for most, side in _SIDES if len(listed) + len(some) <= most), _SMALLEST)
    left = BUDGET
    shown: dict[int, str] = {}
    if images is not None:
        correct = _within(some, found.test.ids, images, side, int(_CORRECT * BUDGET))
        left -= sum(map(len, correct.values()))
        shown = correct | _within(listed, found.test.ids, images, side, left)

    def small(row: int, _: str) -> tuple[str | None, str]:
        return shown.get(row), ""

    by_class: dict[int, list[Card]] = defaultdict(list)
    for card in cards(found.answers, listed, small):
        by_class[card.cell[0]].append(card)
    order = sorted(by_class, key=lambda label: (-len(by_class[label]), label))
    return Browse(
        classes=[ClassMistakes(found.test.class_names[label], by_class[label]) for label in order],
        correct=[card for card in cards(found.answers, some, small) if card.thumbnail],
        without=0 if images is None else sum(row not in shown for row in listed.tolist()),
        unlisted=len(mistakes) - len(listed),
    )


def _some_of_each(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The first rows of each class, in their order: first the first of all classes, then the second, and so on."""
    seen: dict[int, int] = defaultdict(int)
    turns = []
    for row in rows.tolist():
        turns.append(seen[labels[row]])
        seen[labels[row]] += 1
    turn = np.array(turns, np.int64)
    kept = np.flatnonzero(turn < _EACH)
    return rows[kept[np.argsort(turn[kept], kind="stable")]]


def _within(rows: np.ndarray, ids: np.ndarray, images: RecordedImages, side: int, budget: int) -> dict[int, str]:
    """By row, a small image as a data URI, for the first rows until their text has `budget` characters."""
    shown: dict[int, str] = {}
    used = 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK].tolist()
            read = list(_readable(chunk, ids, images))
            made = pool.map(lambda each: _small(each[1], each[2], images, side), read)
            for (row, _, _), image in zip(read, made, strict=True):
                if image is None:
                    continue
                used += len(image)
                if used > budget:
                    return shown
                shown[row] = image
    return shown


def _readable(rows: Sequence[int], ids: np.ndarray, images: RecordedImages) -> Iterator[tuple[int, str, bytes]]:
    for row in rows:
        path = str(ids[row])
        try:
            yield row, path, images.read(path)
        except UnreadableImage:
            continue


def _small(path: str, data: bytes, images: RecordedImages, side: int) -> str | None:
    try:
        return small_image(data, path, images.boxes.get(path), side, _QUALITY)
    except UnreadableImage:
        return None
