"""One phase of a training, fit or refit: the parts that its loop works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.training.active_stage import ActiveStage, Stages
from fieldmark.training.average import Averaging
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.keeper import Keeper
from fieldmark.training.log import TrainingLog
from fieldmark.training.monitor import drops, out_of_patience
from fieldmark.training.objective import objective_of
from fieldmark.training.optimizer import build_optimizer
from fieldmark.training.position import Position
from fieldmark.training.schedule import factor
from fieldmark.training.setup import Setup
from fieldmark.training.stages import schedule_span, stage_at, stages_of
from fieldmark.training.validation import Validation


@dataclass(frozen=True)
class Job:
    """`epochs` are those of this phase; the schedule always runs over `recipe.train.epochs`."""

    recipe: Recipe
    device: torch.device
    epochs: int
    steps_per_epoch: int
    optimizer: torch.optim.Optimizer
    stages: Stages
    averaging: Averaging
    validation: Validation | None
    log: TrainingLog
    keeper: Keeper

    def goes_on(self, at: Position) -> bool:
        """Whether another epoch follows: not after the last one, nor when patience has run out."""
        return at.epoch < self.epochs and not (self.validation is not None and out_of_patience(at, self.recipe))

    def rate(self, at: Position, step: int | None = None) -> float:
        """The factor of lr at a step of this epoch, by default the next one: the schedule's times the stage's."""
        recipe, steps = self.recipe, self.steps_per_epoch
        first, epochs = schedule_span(recipe, at.epoch)
        step = (at.epoch - first) * steps + (at.step if step is None else step)
        return stages_of(recipe)[stage_at(recipe, at.epoch)].lr_factor * factor(recipe.schedule, step, steps, epochs, drops(at, recipe))

    def step_of_phase(self, at: Position) -> int:
        """Steps done in this phase."""
        return at.epoch * self.steps_per_epoch + at.step

    def row(self, at: Position) -> dict[str, Any]:
        """How metrics.jsonl names the epoch whose steps are done, and its last learning rate."""
        learning_rate = self.recipe.optim.lr * self.rate(at, at.step - 1)
        return {"phase": at.phase, "epoch": at.epoch + 1, "steps": at.steps, "lr": learning_rate}

    def validate(self, at: Position, stage: ActiveStage) -> dict[str, Any]:
        """Evaluate val if the phase has one, and keep the weights if they are the best so far; returns the figures for the row."""
        return {} if self.validation is None else self.validation.after_epoch(at, stage.predict)


def phase(
    setup: Setup, folder: RunFolder, interrupt: Interrupt, at: Position, save_best: Callable[[Position], None] | None, epochs: int
) -> Job:
    """The phase that the position names: `fit` on train, or `refit` on train and val.

    save_best: saves the model's current weights; if given, val is evaluated after each epoch.
    epochs: of the phase.
    """
    recipe, model, train = setup.recipe, setup.model, setup.recipe.train
    setup.execution.prepare(model)
    batches, optimizer = setup.batches(at.phase), build_optimizer(model, recipe.optim)
    averaging = Averaging(recipe.ema, model)
    checkpoints = Checkpoints(folder.checkpoints, train.keep_checkpoints)
    return Job(
        recipe=recipe,
        device=setup.execution.device,
        epochs=epochs,
        steps_per_epoch=batches.steps_per_epoch,
        optimizer=optimizer,
        stages=Stages(setup, batches, optimizer, objective_of(recipe.loss), epochs, folder, interrupt),
        averaging=averaging,
        validation=None if save_best is None else Validation(setup, averaging, save_best),
        log=TrainingLog(folder, setup.console, epochs, batches.steps_per_epoch, train.log_every, train.tensorboard),
        keeper=Keeper(checkpoints, model, optimizer, averaging, interrupt, train.checkpoint_minutes),
    )
