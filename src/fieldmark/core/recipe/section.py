"""What a section of the recipe is made of: fields with a type, a default, a meaning and a unit, and checks between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fieldmark.core.errors import Problem

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Range = tuple[Positive, Positive]
Monitor = Literal["top1", "macro_f1", "nll"]
"""The metrics of val that a run can watch."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


def setting(default: Any, meaning: str, unit: str | None = None) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None)


class Conflict(ValueError):
    """What a section's check raises of settings that do not go together: a whole sentence, and their keys."""

    def __init__(self, what: str, *keys: str, remedy: str = ""):
        self.problem = Problem(what, remedy=remedy, keys=keys)
        super().__init__(str(self.problem))


class Refused(ValueError):
    """What a section's check raises of the value of one key; `others` are the keys that it is measured against."""

    def __init__(self, what: str, key: str, *others: str, remedy: str = ""):
        self.problem = Problem(what, place=key, remedy=remedy, keys=(key, *others))
        super().__init__(str(self.problem))


def check_range(key: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise Refused(f"the first number ({bounds[0]:g}) is larger than the second ({bounds[1]:g})", key)
