"""The section `schedule`: the learning rate over time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldmark.core.recipe.section import Conflict, Fraction, Monitor, NonNegative, Positive, Probability, Refused, Section, setting


class Warmup(Section):
    """What schedules with a linear warmup have."""

    name: str
    warmup_epochs: NonNegative = setting(0.0, "linear warmup before the schedule", "epochs")
    warmup_factor: Fraction = setting(0.01, "where the warmup starts, as a multiple of lr")

    @model_validator(mode="after")
    def _warmup(self) -> Warmup:
        if self.warmup_epochs == 0 and self.warmup_factor != type(self).model_fields["warmup_factor"].default:
            what, remedy = "schedule.warmup_factor has no effect without a warmup", "set schedule.warmup_epochs above 0"
            raise Conflict(what, "schedule.warmup_factor", "schedule.warmup_epochs", remedy=remedy)
        return self


class Cosine(Warmup):
    name: Literal["cosine"] = setting("cosine", "half a cosine from the peak to the floor, after the warmup")
    warmup_epochs: NonNegative = setting(1.0, "linear warmup before the schedule", "epochs")
    floor_factor: Probability = setting(0.0, "where the cosine ends, as a multiple of lr")


class Constant(Warmup):
    name: Literal["constant"] = setting("constant", "the same learning rate throughout")


class Step(Warmup):
    name: Literal["step"] = setting("step", "multiplied by gamma at regular intervals, counted from the start of the warmup")
    every: Annotated[int, Field(ge=1)] = setting(10, "the interval", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")


class MultiStep(Warmup):
    name: Literal["multi-step"] = setting("multi-step", "multiplied by gamma after given epochs, counted from the start of the warmup")
    after: tuple[Annotated[int, Field(ge=1)], ...] = setting((15, 25), "after which epochs", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")

    @model_validator(mode="after")
    def _ordered(self) -> MultiStep:
        if not self.after or list(self.after) != sorted(set(self.after)):
            raise Refused(f"expected epochs in rising order, such as [15, 25], got {list(self.after)}", "schedule.after")
        return self


class Plateau(Warmup):
    name: Literal["plateau"] = setting("plateau", "multiplied by gamma whenever a val metric has stopped improving")
    monitor: Monitor = setting("nll", "the val metric that is watched")
    patience: Annotated[int, Field(ge=0)] = setting(3, "epochs without improvement that are tolerated", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")
    floor_factor: Probability = setting(0.0, "lowest learning rate, as a multiple of lr")


class OneCycle(Section):
    name: Literal["one-cycle"] = setting("one-cycle", "up to the peak and down again, by half cosines (Smith and Topin, 2018)")
    rise: Annotated[float, Field(gt=0, lt=1)] = setting(0.3, "share of the steps until the peak")
    start_factor: Probability = setting(0.04, "where it starts, as a multiple of lr")
    floor_factor: Probability = setting(4e-6, "where it ends, as a multiple of lr")


class Polynomial(Warmup):
    name: Literal["polynomial"] = setting("polynomial", "a power of the share of steps that remain, after the warmup")
    power: Positive = setting(1.0, "the power; 1 is a straight line")
    floor_factor: Probability = setting(0.0, "where it ends, as a multiple of lr")


Schedule = Cosine | Constant | Step | MultiStep | Plateau | OneCycle | Polynomial
