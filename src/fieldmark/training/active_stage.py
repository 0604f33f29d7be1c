"""The stage that is being trained: what of the network is frozen, the batches it is trained on, and the step that trains it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from fieldmark.batches.train_batches import TrainBatches
from fieldmark.core.run_folder import RunFolder
from fieldmark.models.cost import parameters
from fieldmark.training.features import CachedBatches, Predict, Route, WholeNetwork, begin_stage
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.objective import Objective
from fieldmark.training.position import Position
from fieldmark.training.setup import Setup
from fieldmark.training.stages import apply_stage, stage_at, stage_text, stages_of
from fieldmark.training.step import Step


@dataclass(frozen=True)
class ActiveStage:
    """`number` counts from 0; `row` is what metrics.jsonl records about it; `predict` is the prediction pass over val."""

    number: int
    batches: TrainBatches | CachedBatches
    step: Step
    predict: Predict
    row: dict[str, Any]


class Stages:
    """The stages of a phase. Freezing is a function of the epoch: it is applied whenever an epoch is entered, with no state to restore.

    epochs: of the phase
    """

    def __init__(
        self,
        setup: Setup,
        batches: TrainBatches,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        epochs: int,
        folder: RunFolder,
        interrupt: Interrupt,
    ):
        self.batches = batches
        self._setup, self._optimizer, self._objective = setup, optimizer, objective
        self._epochs, self._folder, self._interrupt = epochs, folder, interrupt
        self._active: ActiveStage | None = None

    def enter(self, at: Position) -> ActiveStage:
        """Put the model into training mode, frozen as the stage of this epoch says; a stage that begins may compute features first."""
        recipe = self._setup.recipe
        number = stage_at(recipe, at.epoch)
        apply_stage(self._setup.model, stages_of(recipe)[number])
        if self._active is None or self._active.number != number:
            started = time.perf_counter()
            self._active = self._begin(number)
            at.epoch_seconds += time.perf_counter() - started
        return self._active

    def _begin(self, number: int) -> ActiveStage:
        recipe, model = self._setup.recipe, self._setup.model
        settings = stages_of(recipe)[number]
        whole = WholeNetwork(self.batches.with_views(settings.views), model, self._setup.execution)
        route: Route = whole
        row: dict[str, Any] = {}
        if recipe.stages:
            first, epochs = recipe.stage_spans()[number]
            epochs = min(epochs, self._epochs - first)
            self._setup.console.say(stage_text(model, recipe, number, epochs))
            folder, console = self._folder.features, self._setup.console
            route = begin_stage(settings, epochs, whole, folder, console, self._interrupt, recipe.train.micro_batch)
            row = {"stage": number + 1}
        row |= {"trainable": list(settings.trainable), "trainable_parameters": parameters(model)[1]}
        step = Step(
            route.network,
            self._objective,
            self._optimizer,
            tuple(model.parameters()),
            micro_batch=recipe.train.micro_batch,
            clip_norm=recipe.train.clip_norm,
        )
        return ActiveStage(number, route.batches, step, route.predict, row)
