"""What all routes of a server share: its models, its limits, who may call, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_urlsafe

from fastapi import Request

from fieldmark.core.errors import InputError
from fieldmark.serving.batcher import Closed
from fieldmark.serving.feedback import Feedback
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
    feedback: Feedback | None = None
    stopping: bool = False

    @classmethod
    def start(cls, settings: Settings, open_model: Open, log: Log) -> Serving:
        """Load the models. Raises InputError if one cannot be loaded."""
        metrics = Metrics()
        models = ServedModels(open_model, settings, lambda name, size: metrics.batches.labels(name).observe(size))
        metrics.watch_queue(lambda: {each.name: each.batcher.pending for each in models})
        memory = Memory(_REQUESTS_HELD * settings.max_bytes)
        limits = Limits(settings.max_bytes, min(settings.max_images, settings.queue), settings.deadline, memory)
        feedback = None if settings.feedback is None else Feedback.at(settings.feedback)
        for each in models:
            metrics.drift.expect(each.name, each.on_val)
        return cls(settings, models, Guard.of(settings, token_urlsafe(24)), limits, metrics, log, feedback)

    async def reload(self, name: str) -> ServedModel:
        """As ServedModels.reload."""
        try:
            model = await self.models.reload(name)
        except InputError:
            self.metrics.reloads.labels(name, "failed").inc()
            raise
        self.metrics.reloads.labels(name, "done").inc()
        self.metrics.drift.expect(name, model.on_val)
        return model

    async def answer(self, request: Request, model: ServedModel, images: list[Given], seconds: float) -> list[Result | Exception]:
        """By the model, or by the one that has taken its place. Raises as Batcher.submit does."""
        request.scope["fieldmark.images"] = len(images)
        try:
            results = await model.answer(images, seconds)
        except Closed:
            newer = self.models[model.name]
            if newer is model:
                raise
            results = await newer.answer(images, seconds)
        self.metrics.count(model.name, results)
        return results
