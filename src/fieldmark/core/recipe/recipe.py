"""The recipe: everything that decides a run, frozen and validated, with the checks that span its sections.

Every field has a type, a default, a meaning and, where it has one, a unit; `fieldmark fields` prints them. Choices between variants
(optimiser, schedule, crop, mixing) are tagged unions whose tag is `name`. What there may be several of (stages) is a list of sections.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fieldmark.core.recipe.augment import Augment, NoMixing
from fieldmark.core.recipe.data import Data
from fieldmark.core.recipe.ema import Average, NoAverage
from fieldmark.core.recipe.evaluate import Evaluate
from fieldmark.core.recipe.loss import CrossEntropy
from fieldmark.core.recipe.model import Model
from fieldmark.core.recipe.optim import SGD, Optim
from fieldmark.core.recipe.schedule import Cosine, MultiStep, Schedule, Step, Warmup
from fieldmark.core.recipe.section import Conflict, Refused, Section, setting
from fieldmark.core.recipe.stages import Stage
from fieldmark.core.recipe.train import Train


class Recipe(Section):
    data: Data = Field(default_factory=Data, description="the images: size, splits, decoding")
    model: Model = Field(default_factory=Model, description="the network and its starting weights")
    optim: Annotated[Optim, Field(discriminator="name")] = setting(SGD(), "the optimiser")
    schedule: Annotated[Schedule, Field(discriminator="name")] = setting(Cosine(), "the learning rate over time")
    stages: tuple[Stage, ...] = setting((), "what is trained when; all of the network throughout by default")
    loss: Annotated[CrossEntropy, Field()] = setting(CrossEntropy(), "what is minimised")
    ema: Annotated[Average, Field(discriminator="name")] = setting(NoAverage(), "averaging of the weights")
    augment: Augment = Field(default_factory=Augment, description="random changes to training images")
    train: Train = Field(default_factory=Train, description="the loop: epochs, batch, seed, checkpoints, precision")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="validation and test")

    @model_validator(mode="after")
    def _mixing(self) -> Recipe:
        if self.train.batch == 1 and not isinstance(self.augment.mix, NoMixing):
            what = "augment.mix has no effect on batches of one image"
            raise Conflict(what, "augment.mix.name", "train.batch", remedy="raise train.batch")
        return self

    @model_validator(mode="after")
    def _stage_lengths(self) -> Recipe:
        stages, total = self.stages, self.train.epochs
        if any(stage.epochs is None for stage in stages[:-1]):
            raise Refused("only the last stage may leave out its epochs", "stages")
        given = sum(stage.epochs or 0 for stage in stages)
        if stages and stages[-1].epochs is None and given >= total:
            raise Refused(f"all but the last take {given} epochs and leave none of train.epochs ({total})", "stages", "train.epochs")
        if stages and stages[-1].epochs is not None and given != total:
            what = f"they take {given} epochs, and train.epochs is {total}"
            raise Refused(what, "stages", "train.epochs", remedy="leave out the epochs of the last")
        if stages and not stages[0].restart:
            what = "the first stage has no stage before it whose schedule it could continue"
            raise Refused(what, "stages", remedy="leave out its `restart`")
        return self

    @model_validator(mode="after")
    def _warmup(self) -> Recipe:
        schedule, shortest = self.schedule, min(epochs for _, epochs in self.schedule_spans())
        if isinstance(schedule, Warmup) and 0 < shortest <= schedule.warmup_epochs:
            span, length = ("a stage", "stages") if self.stages else ("train.epochs", "train.epochs")
            what = f"schedule.warmup_epochs ({schedule.warmup_epochs:g}) leaves nothing of {span} ({shortest})"
            raise Conflict(what, "schedule.warmup_epochs", length, remedy="lower schedule.warmup_epochs")
        return self

    @model_validator(mode="after")
    def _steps_of_the_rate(self) -> Recipe:
        schedule, longest = self.schedule, max(epochs for _, epochs in self.schedule_spans())
        span, length = ("any stage", "stages") if self.stages else ("train.epochs", "train.epochs")
        if isinstance(schedule, Step) and schedule.every >= longest:
            what = f"schedule.every ({schedule.every}) is never reached within {span} ({longest})"
            raise Conflict(what, "schedule.every", length, remedy="lower schedule.every")
        if isinstance(schedule, MultiStep) and schedule.after[-1] >= longest:
            what = f"epoch {schedule.after[-1]} is not before the end of {span} ({longest})"
            raise Refused(what, "schedule.after", length, remedy="leave it out")
        return self

    def stage_spans(self) -> tuple[tuple[int, int], ...]:
        """First epoch, from 0, and number of epochs of each stage; of the whole training if there are no stages."""
        spans, first = [], 0
        for stage in self.stages or (Stage(),):
            epochs = self.train.epochs - first if stage.epochs is None else stage.epochs
            spans.append((first, epochs))
            first += epochs
        return tuple(spans)

    def schedule_spans(self) -> tuple[tuple[int, int], ...]:
        """First epoch and number of epochs of each stretch that the schedule runs over once."""
        spans: list[tuple[int, int]] = []
        for stage, (first, epochs) in zip(self.stages or (Stage(),), self.stage_spans(), strict=True):
            if stage.restart or not spans:
                spans.append((first, epochs))
            else:
                spans[-1] = (spans[-1][0], spans[-1][1] + epochs)
        return tuple(spans)
