"""What an ensemble is made of, and how: a part of its manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fieldmark.core.record import Count

Weight = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class MemberRecord(_Part):
    """One run of an ensemble. `folder`: below `members/`, None in a soup; `used`: False for what a soup left out."""

    name: str
    source: str
    model: str
    size: Count
    parameters: Count
    folder: Annotated[str, Field(pattern=r"^\d+-[\w.-]+$")] | None = None
    used: bool = True


class EnsembleRecord(_Part):
    """How runs were made one.

    of, weights: of a mean, a weight for each member; inputs: of a stack, the input that each member belongs to, from 0; ingredients: of a
    soup. fitted_on: what the weights or the stack were fitted on; chosen_on: what chose a soup's ingredients. penalty: of a stack.
    folds: whether the members are folds of recipes. val_learnt: whether some member was trained on images of val.
    """

    method: Literal["mean", "stack", "soup"]
    of: Literal["probabilities", "logits"] | None = None
    weights: list[Weight] | None = None
    inputs: list[Count] | None = None
    ingredients: Literal["greedy", "all"] | None = None
    fitted_on: Literal["val", "out-of-fold", "train"] | None = None
    chosen_on: Literal["val"] | None = None
    penalty: float | None = None
    folds: bool = False
    val_learnt: bool = False
    members: Annotated[list[MemberRecord], Field(min_length=2)]

    @model_validator(mode="after")
    def _whole(self) -> EnsembleRecord:
        expected = {"mean": {"of", "weights"}, "stack": {"inputs"}, "soup": {"ingredients"}}
        for key in ("of", "weights", "inputs", "ingredients"):
            if (getattr(self, key) is not None) != (key in expected[self.method]):
                raise ValueError(f"a {self.method} {'needs' if key in expected[self.method] else 'has no'} {key}")
        for listed in (self.weights, self.inputs):
            if listed is not None and len(listed) != len(self.members):
                raise ValueError(f"there are {len(self.members)} members, and {len(listed)} weights or inputs")
        if self.inputs is not None and set(self.inputs) != set(range(max(self.inputs) + 1)):
            raise ValueError("inputs are not numbered from 0 without gaps")
        if any((member.folder is None) != (self.method == "soup") for member in self.members):
            raise ValueError("members of a mean and of a stack have folders, those of a soup have none")
        return self


def val_notes(record: EnsembleRecord) -> list[str]:
    """What has to be known of the val figures, in sentences."""
    notes = []
    if record.method == "stack" and record.fitted_on != "train":
        notes.append(
            "Each val image is answered by a stack that was fitted without it; all of val chose how much its deviation is penalised."
        )
    elif record.fitted_on in ("val", "out-of-fold"):
        notes.append("Each val image is answered by weights that were fitted without it.")
    if record.fitted_on == "train":
        notes.append("The stack was fitted on the images that its members were trained on, where they are overconfident.")
    if record.chosen_on == "val":
        notes.append("The ingredients were chosen on val, whose figures flatter them.")
    if record.folds:
        notes.append("Val is all of train and val, each image answered by the networks that were trained without it: one of each recipe.")
    elif record.val_learnt:
        notes.append("Val is from before the refit of members that were refitted on it.")
    return notes
