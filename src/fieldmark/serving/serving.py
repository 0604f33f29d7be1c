"""What all routes of a server share: its models, its limits, who may call, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_urlsafe

from fastapi import Request

from fieldmark.serving.batcher import Closed
from fieldmark.serving.logs import Log
from fieldmark.serving.metrics import Metrics
from fieldmark.serving.models import Given, Open, Result, ServedModel, ServedModels
from fieldmark.serving.security import Guard
from fieldmark.serving.settings import Settings
from fieldmark.serving.uploads import Limits, Memory

_REQUESTS_HELD = 8
"""So many requests of the largest size fit into memory at once."""


@dataclass(eq=False)
class Serving:
    """stopping: whether the server accepts its last requests."""

    settings: Settings
    models: ServedModels
    guard: Guard
    limits: Limits
    metrics: Metrics
    log: Log
    stopping: bool = field(default=False)

    @classmethod
    def start(cls, settings: Settings, open_model: Open, log: Log) -> Serving:
        """Load the models. Raises InputError if one cannot be loaded."""
        metrics = Metrics()
        models = ServedModels(open_model, settings, lambda name, size: metrics.batches.labels(name).observe(size))
        metrics.watch_queue(lambda: {each.name: each.batcher.pending for each in models})
        memory = Memory(_REQUESTS_HELD * settings.max_bytes)
        limits = Limits(settings.max_bytes, min(settings.max_images, settings.queue), settings.deadline, memory)
        return cls(settings, models, Guard.of(settings, token_urlsafe(24)), limits, metrics, log)

    async def answer(self, request: Request, model: ServedModel, images: list[Given], seconds: float) -> list[Result | Exception]:
        """By the model, or by the one that has taken its place. Raises as Batcher.submit does."""
        request.scope["fieldmark.images"] = len(images)
        try:
            return await model.answer(images, seconds)
        except Closed:
            newer = self.models[model.name]
            if newer is model:
                raise
            return await newer.answer(images, seconds)
