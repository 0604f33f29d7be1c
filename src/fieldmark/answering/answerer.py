"""Answers for images: the outputs of networks, and what a run's decisions make of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fieldmark.answering.answer import Answer
from fieldmark.answering.images import readable
from fieldmark.answering.networks import Box, Image, Looked, Networks
from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Level
from fieldmark.scoring.decisions import Decisions, calibrated_probabilities
from fieldmark.scoring.rejection_scores import Score

Boxes = Mapping[str, Box]
"""By the image's path."""


@dataclass(frozen=True, eq=False)
class Answerer:
    """Networks, and the decisions that were fitted to them.

    decisions, score: both None for a run without calibration.
    levels: the taxonomy: by the name of each level, the parent of each class.
    """

    networks: Networks
    class_names: tuple[str, ...]
    decisions: Decisions | None = None
    score: Score | None = None
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def answer(self, image: Image, box: Box | None = None, top: int = 5) -> Answer:
        """The answer for one image, or for the object in `box`; its note says why if there is none. `top` is as in `stream`."""
        _check(top)
        looked, outputs = self.networks.one(image, box)
        return told(looked, Answer() if outputs is None else next(self.decided(*outputs, top)))

    def stream(self, images: Iterable[Image], top: int = 5, boxes: Boxes | None = None) -> Iterator[Answer]:
        """Answers one by one and in bounded memory, however many images there are.

        Args:
            top: how many classes to name, cut to the number of classes.
            boxes: of the objects; an image without one is seen whole, and its note says so.

        Raises InputError for a `top` below 1, before the first answer is asked for.
        """
        _check(top)
        return self._streamed(images, top, boxes)

    def _streamed(self, images: Iterable[Image], top: int, boxes: Boxes | None) -> Iterator[Answer]:
        box_of = lookup(boxes)
        for chunk, outputs in self.networks.stream(images, box_of):
            answers = iter(() if outputs is None else self.decided(*outputs, top))
            for looked in chunk:
                whole = boxes is not None and box_of(looked.image) is None
                yield told(looked, Answer() if looked.problem else next(answers), "no box and was seen whole" if whole else "")

    def unknown(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray | None:
        """Which images are to be rejected: bool (n,); None if the run was not calibrated."""
        if self.decisions is None or self.score is None:
            return None
        return self.decisions.unknown(self.score, logits, features)

    def decided(self, logits: np.ndarray, features: np.ndarray, top: int) -> Iterator[Answer]:
        """The answers that outputs lead to, without the paths of their images."""
        probabilities, unknown = calibrated_probabilities(self.decisions, logits), self.unknown(logits, features)
        names = self.class_names
        sets = np.zeros(logits.shape, bool) if self.decisions is None else self.decisions.sets.sets(probabilities)
        coarser = self._coarser(probabilities)
        for row, each in enumerate(probabilities):
            if not np.isfinite(each).all():
                yield Answer(note="the answer is not a number")
                continue
            order = np.argsort(-each, kind="stable")
            yield Answer(
                classes=tuple(names[index] for index in order[:top]),
                probabilities=each[order[:top]],
                unknown=None if unknown is None else bool(unknown[row]),
                among=tuple(names[index] for index in order[sets[row][order]]),
                coarser={level: answered[row] for level, answered in coarser.items()},
            )

    def _coarser(self, probabilities: np.ndarray) -> dict[str, list[str]]:
        """By the name of each level with back-off, what is answered for each image."""
        found: dict[str, list[str]] = {}
        if self.decisions is None:
            return found
        for name, backoff in self.decisions.backoff.items():
            names = (self.class_names, self._names[name])
            levels, indices = (each.tolist() for each in backoff.answers(probabilities))
            found[name] = [names[level][index] if level >= 0 else "" for level, index in zip(levels, indices, strict=True)]
        return found

    @cached_property
    def _names(self) -> dict[str, Sequence[str]]:
        """The parents at each level."""
        return {name: Level.of(name, list(parents)).names for name, parents in self.levels.items()}


def lookup(boxes: Boxes | None) -> Callable[[Image], Box | None]:
    """Returns the box of an image, however its path is written; None for an image without one, and for one in memory."""
    by_path = {os.path.abspath(path): box for path, box in (boxes or {}).items()}
    return lambda image: None if isinstance(image, bytes) else by_path.get(os.path.abspath(image))


def _check(top: int) -> None:
    if top < 1:
        raise InputError(f"the number of classes to name must be at least 1, got {top}")


def told(looked: Looked[Image], answer: Answer, *more: str) -> Answer:
    """The answer with the path of its image, and with what is to be said of it, such as the reason why there is none."""
    note = "; ".join(f"it has {each}" for each in (looked.note, *more) if each)
    return replace(answer, path=_path(looked.image), note=looked.problem or answer.note or note)


def _path(image: Image) -> str:
    return "" if isinstance(image, bytes) else readable(image)
