"""One network or several, from images to logits and features; each is a session, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

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


class Session(Protocol):
    """One network."""

    @property
    def preprocess(self) -> Preprocess:
        """What happens to an image first; normalising is left to the session."""

    def __call__(self, pixels: np.ndarray) -> Outputs:
        """Of uint8 (n, 3, size, size)."""


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
    ) -> Iterator[tuple[list[tuple[Given, str]], Outputs | None]]:
        """Chunks of images, each with the reason why it cannot be read or "", and the outputs for those that can; None if none can."""
        for chunk, decoded in decoded_in_chunks(images, lambda image: self._decode(image, box_of(image)), self.batch):
            problems = [views if isinstance(views, str) else "" for views in decoded]
            sound = [views for views in decoded if not isinstance(views, str)]
            yield list(zip(chunk, problems, strict=True)), self._outputs(sound) if sound else None

    def one(self, image: Image, box: Box | None = None) -> Outputs | str:
        """The outputs for one image (n = 1), or for the object in `box`; or the reason why it cannot be read."""
        views = self._decode(image, box)
        return views if isinstance(views, str) else self._outputs([views])

    @cached_property
    def _views(self) -> tuple[Preprocess, ...]:
        """Networks with the same view see the same pixels."""
        return tuple(dict.fromkeys(session.preprocess.view for session in self.sessions))

    def _decode(self, image: Image, box: Box | None) -> tuple[np.ndarray, ...] | str:
        """As each view shows it, uint8 (3, size, size)."""
        try:
            return tuple(view.pixels(image, box=box) for view in self._views)
        except UnreadableImage as error:
            return error.reason

    def _outputs(self, views: Sequence[tuple[np.ndarray, ...]]) -> Outputs:
        """Of at least one image."""
        seen = dict(zip(self._views, map(np.stack, zip(*views, strict=True)), strict=True))
        outputs = [session(seen[session.preprocess.view]) for session in self.sessions]
        if self.combination is None:
            return outputs[0]
        logits = [each for each, _ in outputs]
        return self.combination(logits), np.concatenate(logits, axis=1)
