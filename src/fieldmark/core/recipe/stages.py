"""The list `stages`: what is trained when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldmark.core.recipe.section import Positive, Refused, Section, setting


class Stage(Section):
    epochs: Annotated[int, Field(ge=1)] | None = setting(None, "how long; what remains of train.epochs for the last stage", "epochs")
    trainable: tuple[str, ...] = setting(
        ("all",),
        "what is trained: all, head, norm, last-block, the names of modules or parameters such as layer4, or patterns such as *.bn?.weight",
    )
    frozen_norm: Literal["held", "adapting"] = setting(
        "held", "whether batch norms whose weights are frozen keep their running statistics, and use them, or go on adapting to batches"
    )
    lr_factor: Positive = setting(1.0, "the learning rate of this stage as a multiple of optim.lr")
    restart: bool = setting(True, "whether the schedule begins anew, warmup included, or goes on from the stage before")
    views: Annotated[int, Field(ge=1)] | None = setting(
        None,
        "so many fixed random views of each image, which frozen layers see only once; ever new ones by default",
    )

    @model_validator(mode="after")
    def _something_frozen(self) -> Stage:
        if "all" in self.trainable and self.frozen_norm != "held":
            raise Refused("`frozen_norm` has no effect where `trainable` is all; leave it out", "stages")
        return self

    @model_validator(mode="after")
    def _something_trained(self) -> Stage:
        if not self.trainable:
            raise Refused("a stage's `trainable` names nothing; give it head, for instance", "stages")
        return self
