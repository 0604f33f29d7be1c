"""The models that are served: each can be replaced by a newer one while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from fieldmark.answering.answer import Answer
from fieldmark.answering.answerer import told
from fieldmark.answering.networks import Box, Decoded, Looked
from fieldmark.answering.predictor import Predictor
from fieldmark.bundles.bundle import Bundle
from fieldmark.core.console import Console
from fieldmark.core.processor import available_cores
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.serving.batcher import Batcher
from fieldmark.serving.limits import check_image
from fieldmark.serving.settings import Settings

Open = Callable[[Path, int], Predictor]
"""Opens the run or bundle in a folder, to compute an image with so many threads."""
_MOST_AT_ONCE = 8
"""Images that a network without batch sizes of its own computes together."""

_LEAST_TOGETHER = 4
"""Images that wait are decided together, even if their graph computes them one by one: that takes less time than one after the other."""
_LARGE = 12_000_000
"""Pixels from which on one image is decoded at a time, for it may take a hundred times the memory of its file."""
_one_large = Lock()


class Given(NamedTuple):
    """An image in the bytes of its file, the box of the object in it, and how many classes are to be named."""

    data: bytes
    box: Box | None = None
    top: int = 5


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one image.

    answer: names the likeliest classes. seen: uint8 (3, S, S), as the first network saw it. logits: float32 (C,). features: float32 (D,).
    map: float32 (h, w), how much each place speaks for the class with the largest logit; None if there is no map.
    """

    answer: Answer
    seen: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    map: np.ndarray | None


class _Ready(NamedTuple):
    decoded: Decoded
    top: int


class ServedModel:
    """A run or bundle that answers, with the threads that work for it."""

    def __init__(self, name: str, path: Path, open_model: Open, settings: Settings, observe: Callable[[int], None] = lambda size: None):
        """Load it, and answer once, which may take seconds. Raises InputError if it cannot be loaded."""
        self.name, self.path, self._settings = name, path, settings
        self.predictor = open_model(path, settings.threads)
        self.predictor.load_runtime(Console(quiet=True))
        self.identity, self.loaded = self.predictor.identity, datetime.now(UTC)
        self.class_names, self.on_val = self.predictor.class_names, self.predictor.on_val
        sizes = self.predictor.session.batches if isinstance(self.predictor, Bundle) else (1, _MOST_AT_ONCE)
        max_batch = settings.max_batch or max(*sizes, _LEAST_TOGETHER)
        computing = [self.predictor, *(open_model(path, settings.threads) for _ in range(self._copies() - 1))]
        for each in computing:
            _warm_up(each, sorted({size for size in sizes if size <= max_batch} | {1}))
        shared = settings.computations if self._is_shared() else 1
        self.batcher: Batcher[Given, _Ready, Result] = Batcher(
            self._decode,
            [partial(self._compute, each) for each in computing for _ in range(shared)],
            max(available_cores(), len(computing) * shared),
            max_batch,
            settings.queue,
            settings.max_wait_ms / 1000,
            observe,
        )

    @property
    def has_maps(self) -> bool:
        return isinstance(self.predictor, Bundle) and self.predictor.has_map

    @property
    def has_neighbours(self) -> bool:
        return isinstance(self.predictor, Bundle) and self.predictor.neighbours is not None

    async def answer(self, images: Sequence[Given], seconds: float) -> list[Result | Exception]:
        """As Batcher.submit; what is wrong with an image is an UnreadableImage."""
        return await self.batcher.submit(images, seconds)

    def _is_shared(self) -> bool:
        """Whether several threads may compute with it at once."""
        return self.identity.format == "onnx"

    def _copies(self) -> int:
        """PyTorch has threads of its own, and one number of them for the process; other runtimes compute one image at a time."""
        return 1 if self._is_shared() or self.identity.format in ("run", "torch", "executorch") else self._settings.computations

    def _decode(self, given: Given) -> _Ready:
        pixels = check_image(given.data, self._settings.max_pixels, self._settings.max_frames)
        with _one_large if pixels > _LARGE else nullcontext():
            decoded = self.predictor.answerer.networks.decode(given.data, given.box)
        if decoded.problem:
            raise UnreadableImage("image", decoded.problem)
        return _Ready(decoded, given.top)

    def _compute(self, predictor: Predictor, ready: list[_Ready]) -> list[Result]:
        views = [each.decoded.views for each in ready]
        logits, features, *maps = _outputs(predictor, views)
        found = []
        answers = self.predictor.answerer.decided(logits, features, max(each.top for each in ready))
        for row, (each, answer) in enumerate(zip(ready, answers, strict=True)):
            cut = replace(answer, classes=answer.classes[: each.top], probabilities=answer.probabilities[: each.top])
            whole = told(Looked(b"", note=each.decoded.note), cut)
            found.append(Result(whole, each.decoded.views[0], logits[row], features[row], maps[0][row] if maps else None))
        return found


def _outputs(predictor: Predictor, views: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Logits and features, and a map where the graph has one."""
    if isinstance(predictor, Bundle):
        return predictor.session.outputs(np.stack([view for (view,) in views]))
    return predictor.answerer.networks.outputs(views)


def _warm_up(predictor: Predictor, sizes: Sequence[int]) -> None:
    blank = tuple(np.zeros((3, view.size, view.size), np.uint8) for view in predictor.answerer.networks.views)
    for size in sizes:
        _outputs(predictor, [blank] * size)


class ServedModels:
    """The models by name, in the order in which they were given."""

    def __init__(self, open_model: Open, settings: Settings, observe: Callable[[str, int], None] = lambda name, size: None):
        """Load all. Raises InputError if one cannot be loaded."""
        self._open, self._settings, self._observe = open_model, settings, observe
        self._reloading = {name: asyncio.Lock() for name in settings.models}
        self._models = {name: self._load(name) for name in settings.models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def __getitem__(self, name: str) -> ServedModel:
        return self._models[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    async def reload(self, name: str) -> ServedModel:
        """Load a model again beside the old one, which answers until the new one does, and ends what it has begun.

        Raises InputError if it cannot be loaded; the old one stays.
        """
        async with self._reloading[name]:
            new = await asyncio.to_thread(self._load, name)
            old, self._models[name] = self._models[name], new
            await asyncio.to_thread(old.batcher.close)
            return new

    def close(self) -> None:
        """End what was begun."""
        for model in self:
            model.batcher.close()

    def _load(self, name: str) -> ServedModel:
        return ServedModel(name, self._settings.models[name], self._open, self._settings, partial(self._observe, name))
