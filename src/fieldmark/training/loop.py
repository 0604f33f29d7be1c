"""The one training loop."""

from __future__ import annotations

import torch

from fieldmark.core.randomness import key
from fieldmark.models.spinning import spin_only_if_idle
from fieldmark.training.job import Job
from fieldmark.training.meter import Meter
from fieldmark.training.optimizer import set_learning_rate
from fieldmark.training.position import Position


def run_loop(job: Job, at: Position) -> None:
    """Train until the epochs are over, patience runs out, the loss is not finite or a stop is requested; `at` records the progress.

    Raises:
        Interrupted: a signal came; the state was saved after the step under way.
        TrainingFailed: the loss or a weight is not finite; the newest checkpoint holds the last good state.
    """
    while job.goes_on(at):
        stage = job.stages.enter(at)
        meter = Meter(at, job.keeper.checkpoints, job.device)
        with job.log.epoch(at, stage.number), spin_only_if_idle():
            for batch in stage.batches.epoch(at.epoch, at.step):
                seed_step(job.recipe.train.seed, at)
                rate = job.rate(at)
                set_learning_rate(job.optimizer, rate)
                result = stage.step(batch)
                at.advance(result.images)
                meter.add(result, job.recipe.optim.lr * rate)
                job.averaging.after_step(job.step_of_phase(at))
                job.log.after_step(at, meter, result.images)
                job.keeper.after_step(at, meter)
        meter.settle()
        row = job.row(at) | meter.row() | job.validate(at, stage) | stage.row | meter.speed()
        job.log.after_epoch(at, row)
        at.next_epoch()
        job.keeper.after_epoch(at)
    job.log.close()


def seed_step(seed: int, at: Position) -> None:
    """Random draws of a step, such as dropout, are a function of the position."""
    torch.manual_seed(key(seed, "step", at.phase, at.epoch, at.step))
