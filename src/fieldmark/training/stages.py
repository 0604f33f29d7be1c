"""Stages: which parts are trained when, as a function of the epoch alone, applied whenever an epoch begins."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.stages import Stage
from fieldmark.core.summary import StageSummary
from fieldmark.models.cost import parameters
from fieldmark.models.factory import Classifier
from fieldmark.models.parts import describe_trainable, named_parts


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a recipe; if it names none, one in which everything is trained."""
    return recipe.stages or (Stage(),)


def stage_at(recipe: Recipe, epoch: int) -> int:
    """Which stage an epoch belongs to, both counted from 0; epochs after the last are the last stage's."""
    return _holding(recipe.stage_spans(), epoch)


def schedule_span(recipe: Recipe, epoch: int) -> tuple[int, int]:
    """First epoch and number of epochs of the stretch that the schedule runs over once and that holds this epoch."""
    spans = recipe.schedule_spans()
    return spans[_holding(spans, epoch)]


def _holding(spans: Sequence[tuple[int, int]], epoch: int) -> int:
    """Which of the spans, each from where the one before ends, holds an epoch."""
    return bisect.bisect_right([first for first, _ in spans], epoch) - 1


def check_stages(model: Classifier, recipe: Recipe) -> None:
    """Raise InputError if a stage names something that the model does not have."""
    for index, stage in enumerate(recipe.stages):
        named_parts(model, stage.trainable, f"stages[{index}].trainable")


def apply_stage(model: Classifier, stage: Stage) -> None:
    """Put the model into training mode; freeze the parts that the stage does not train, and hold their batch norms if it says so."""
    trained = named_parts(model, stage.trainable, "stages[].trainable")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    model.train()
    if stage.frozen_norm == "held":
        for module in model.modules():
            if isinstance(module, _BatchNorm) and _is_frozen(module):
                module.eval()


def stage_text(model: Classifier, recipe: Recipe, index: int, epochs: int) -> str:
    """Describe a stage of this many epochs, which is already applied to the model."""
    first, _ = recipe.stage_spans()[index]
    stage = stages_of(recipe)[index]
    held = sum(isinstance(module, _BatchNorm) and _is_frozen(module) for module in model.modules())
    norms = f"; the {held} frozen batch norms are {stage.frozen_norm}" if held else ""
    when = f"epoch {first + 1}" if epochs == 1 else f"epochs {first + 1} to {first + epochs}"
    return f"stage {index + 1} of {len(recipe.stages)}, {when}: {describe_trainable(model)}{norms}"


def stage_accounts(model: Classifier, recipe: Recipe) -> tuple[StageSummary, ...]:
    """First and last epoch of each stage, what it trains and how many parameters that is; the last stage stays applied to the model."""
    accounts = []
    for stage, (first, epochs) in zip(stages_of(recipe), recipe.stage_spans(), strict=True):
        apply_stage(model, stage)
        trained = parameters(model)[1]
        accounts.append(StageSummary(epochs=(first + 1, first + epochs), trainable=stage.trainable, trainable_parameters=trained))
    return tuple(accounts)


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
