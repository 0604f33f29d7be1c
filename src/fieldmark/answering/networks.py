"""One network or several, from images to logits and features; each is a session, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from fieldmark.answering.images import decoded_in_chunks
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Combination

Image = Path | bytes
Given = TypeVar("Given", bound=Image)
Box = Sequence[float]
"""Left, top, right and bottom edge in pixels."""
Outputs = tuple[np.ndarray, np.ndarray]
"""Logits float32 (n, C) and features float32 (n, D)."""


class Looked(NamedTuple, Generic[Given]):
    """An image, the reason why it cannot be read or "", and what it has that its pixels may suffer from, as in runtime.decode.open_rgb."""

    image: Given
    problem: str = ""
    note: str = ""


class Session(Protocol):
    """One network."""

    @property
    def preprocess(self) -> Preprocess:
        """What happens to an image first; normalising is left to the session."""

    def __call__(self, pixels: np.ndarray) -> Outputs:
        """Of uint8 (n, 3, size, size)."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image as each view shows it, uint8 (3, size, size)."""

    views: tuple[np.ndarray, ...] = ()
    problem: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks that answer together.

    combination: how their logits become one; a single network needs none.
    batch: how many images are decoded and looked at together.
    """

    sessions: tuple[Session, ...]
    combination: Combination | None = None
    batch: int = 32

    def stream(
        self, images: Iterable[Given], box_of: Callable[[Given], Box | None] = lambda image: None
    ) -> Iterator[tuple[list[Looked[Given]], Outputs | None]]:
        """Chunks of images, and the outputs for those that can be read; None if none can."""
        for chunk, decoded in decoded_in_chunks(images, lambda image: self.decode(image, box_of(image)), self.batch):
            sound = [each.views for each in decoded if not each.problem]
            looked = [Looked(image, each.problem, each.note) for image, each in zip(chunk, decoded, strict=True)]
            yield looked, self.outputs(sound) if sound else None

    def one(self, image: Given, box: Box | None = None) -> tuple[Looked[Given], Outputs | None]:
        """One image, and the outputs (n = 1) for it or for the object in `box`; None if it cannot be read."""
        decoded = self.decode(image, box)
        return Looked(image, decoded.problem, decoded.note), None if decoded.problem else self.outputs([decoded.views])

    @cached_property
    def views(self) -> tuple[Preprocess, ...]:
        """Networks with the same view see the same pixels."""
        return tuple(dict.fromkeys(session.preprocess.view for session in self.sessions))

    def decode(self, image: Image, box: Box | None = None) -> Decoded:
        """What the networks see of an image, or of the object in `box`; `problem` says why it cannot be read."""
        notes: list[str] = []
        try:
            views = tuple(view.pixels(image, box=box, notes=notes) for view in self.views)
        except UnreadableImage as error:
            return Decoded(problem=error.reason)
        return Decoded(views, note="; ".join(dict.fromkeys(notes)))

    def outputs(self, views: Sequence[tuple[np.ndarray, ...]]) -> Outputs:
        """Of at least one image, decoded."""
        seen = dict(zip(self.views, map(np.stack, zip(*views, strict=True)), strict=True))
        outputs = [session(seen[session.preprocess.view]) for session in self.sessions]
        if self.combination is None:
            return outputs[0]
        logits = [each for each, _ in outputs]
        return self.combination(logits), np.concatenate(logits, axis=1)
