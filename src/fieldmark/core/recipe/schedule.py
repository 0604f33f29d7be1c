"""The section `schedule`: the learning rate over time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldmark.core.recipe.section import Fraction, NonNegative, Positive, Probability, Refused, Section, setting


class Warmup(Section):
    """What schedules with a linear warmup have."""

    name: str
    warmup_epochs: NonNegative = setting(0.0, "linear warmup before it", "epochs")
    warmup_factor: Fraction = setting(0.01, "where warmup starts, as a multiple of lr")


class Cosine(Warmup):
    name: Literal["cosine"] = setting("cosine", "half a cosine from the peak to the floor, after the warmup")
    warmup_epochs: NonNegative = setting(1.0, "linear warmup before it", "epochs")
    floor_factor: Probability = setting(0.0, "where the cosine ends, as a multiple of lr")


class Constant(Warmup):
    name: Literal["constant"] = setting("constant", "the same learning rate throughout")


class Step(Warmup):
    name: Literal["step"] = setting("step", "multiplied by gamma every so many epochs, those of the warmup counted")
    every: Annotated[int, Field(ge=1)] = setting(10, "how often", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")


class MultiStep(Warmup):
    name: Literal["multi-step"] = setting("multi-step", "multiplied by gamma after each of these epochs, those of the warmup counted")
    after: tuple[Annotated[int, Field(ge=1)], ...] = setting((15, 25), "after which epochs", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")

    @model_validator(mode="after")
    def _ordered(self) -> MultiStep:
        if not self.after or list(self.after) != sorted(set(self.after)):
            raise Refused(f"expected epochs in rising order, such as [15, 25], got {list(self.after)}", "schedule.after")
        return self


class Plateau(Warmup):
    name: Literal["plateau"] = setting("plateau", "multiplied by gamma whenever a val figure has not improved for a while")
    monitor: Literal["top1", "macro_f1", "nll"] = setting("nll", "the val figure that is watched")
    patience: Annotated[int, Field(ge=0)] = setting(3, "epochs without a better figure that are let pass", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")
    floor_factor: Probability = setting(0.0, "how far it goes down at most, as a multiple of lr")


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
