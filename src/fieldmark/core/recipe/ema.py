"""The section `ema`: averaging of the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fieldmark.core.recipe.section import Section, setting


class NoAverage(Section):
    name: Literal["none"] = setting("none", "the weights as they are trained")


class ExponentialAverage(Section):
    name: Literal["exponential"] = setting("exponential", "a moving average of the weights (Polyak and Juditsky, 1992)")
    decay: Annotated[float, Field(gt=0, lt=1)] = setting(0.999, "share of the average that an update keeps")
    every: Annotated[int, Field(ge=1)] = setting(1, "how often the average is updated", "steps")
    warmup: bool = setting(True, "update n keeps (1 + n) / (10 + n) if that is less, so that the average soon forgets its start")
    buffers: Literal["averaged", "copied"] = setting("averaged", "running statistics of batch norm: averaged too, or copied")
    use: Literal["averaged", "better"] = setting(
        "averaged", "which weights are validated and kept: the averaged ones, or whichever of the two are better on val"
    )


Average = NoAverage | ExponentialAverage
