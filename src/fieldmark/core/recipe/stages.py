"""The list `stages`: what is trained when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldmark.core.recipe.section import Positive, Refused, Section, setting


class Stage(Section):
    epochs: Annotated[int, Field(ge=1)] | None = setting(None, "length; the last stage takes the rest of train.epochs by default", "epochs")
    trainable: tuple[str, ...] = setting(
        ("all",),
        "what is trained: all, head, norm, last-block, the names of modules or parameters such as layer4, or patterns such as *.bn?.weight",
    )
    frozen_norm: Literal["held", "adapting"] = setting(
        "held", "batch norms with frozen weights: use their running statistics unchanged, or keep adapting to batches"
    )
    lr_factor: Positive = setting(1.0, "the learning rate of this stage as a multiple of optim.lr")
    restart: bool = setting(True, "start the schedule anew, warmup included, or continue that of the stage before")
    views: Annotated[int, Field(ge=1)] | None = setting(
        None,
        "fixed random views per image, which frozen layers compute only once; always new ones by default",
    )

    @model_validator(mode="after")
    def _something_frozen(self) -> Stage:
        if "all" in self.trainable and self.frozen_norm != "held":
            raise Refused("`frozen_norm` has no effect if `trainable` is all", "stages", remedy="leave it out")
        return self

    @model_validator(mode="after")
    def _something_trained(self) -> Stage:
        if not self.trainable:
            raise Refused("a stage's `trainable` names nothing", "stages", remedy="give it head, for instance")
        return self
