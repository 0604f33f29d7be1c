"""Decisions from val's figures: which weights are kept, when the learning rate drops, when training stops."""

from __future__ import annotations

import math

from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.schedule import Plateau
from fieldmark.scoring.metrics import METRICS
from fieldmark.training.position import Position, Weights
from fieldmark.training.stages import schedule_span


def is_better(value: float, than: float | None, figure: str) -> bool:
    """Whether a figure is better than another, or than none; one that is not finite never is."""
    if not math.isfinite(value):
        return False
    return than is None or not math.isfinite(than) or (value > than if METRICS[figure].higher_is_better else value < than)


def note_best(at: Position, recipe: Recipe, value: float, weights: Weights) -> bool:
    """Note the monitored figure of the epoch just over; returns whether it is the best so far."""
    if at.epoch == recipe.stage_spans()[-1][0]:
        at.stale_epochs = 0  # only the last stage may stop early
    if is_better(value, at.best_value, recipe.evaluate.monitor):
        at.best_value, at.best_epoch, at.best_weights, at.stale_epochs = value, at.epoch + 1, weights, 0
        return True
    at.stale_epochs += 1
    return False


def out_of_patience(at: Position, recipe: Recipe) -> bool:
    """Whether the last stage has gone on for too long without a better figure."""
    patience, last_stage = recipe.train.patience, recipe.stage_spans()[-1][0]
    return patience is not None and at.epoch > last_stage and at.stale_epochs >= patience


def note_plateau(at: Position, recipe: Recipe, figures: dict[str, float]) -> None:
    """Lower the rate from the next epoch on if the schedule's figure has not improved for longer than its patience."""
    schedule = recipe.schedule
    if not isinstance(schedule, Plateau):
        return
    if at.epoch == schedule_span(recipe, at.epoch)[0]:
        at.plateau_best, at.plateau_epochs = None, 0
    if is_better(figures[schedule.monitor], at.plateau_best, schedule.monitor):
        at.plateau_best, at.plateau_epochs = figures[schedule.monitor], 0
    else:
        at.plateau_epochs += 1
    if at.plateau_epochs > schedule.patience:
        at.drops, at.plateau_epochs = [*at.drops, at.epoch + 1], 0


def drops(at: Position, recipe: Recipe) -> int:
    """How often the plateau schedule has lowered the rate in the stretch that this epoch belongs to; a refit repeats val's decisions."""
    first, _ = schedule_span(recipe, at.epoch)
    return sum(first < drop <= at.epoch for drop in at.drops)
