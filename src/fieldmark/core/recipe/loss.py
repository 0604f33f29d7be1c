"""The section `loss`: what is minimised."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from fieldmark.core.recipe.section import Conflict, Fraction, Section, setting


class CrossEntropy(Section):
    name: Literal["cross-entropy"] = setting("cross-entropy", "softmax cross-entropy")
    label_smoothing: Fraction = setting(0.1, "share of the target that is spread over the classes")
    smoothing_over: Literal["all", "others"] = setting(
        "all",
        "spread over all K classes, as in most libraries, or over the K - 1 wrong ones, so that the right one keeps all of the rest",
    )

    @model_validator(mode="after")
    def _smoothing(self) -> CrossEntropy:
        if self.label_smoothing == 0 and self.smoothing_over != "all":
            what, remedy = "loss.smoothing_over has no effect without label smoothing", "set loss.label_smoothing above 0"
            raise Conflict(what, "loss.smoothing_over", "loss.label_smoothing", remedy=remedy)
        return self
