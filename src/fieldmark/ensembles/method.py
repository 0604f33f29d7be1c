"""The ways to make one answer of several, and what may be said of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldmark.core.errors import InputError
from fieldmark.evaluation.combination import Of


@dataclass(frozen=True)
class MeanOf:
    """The mean of probabilities or logits, all alike or with weights that are fitted on val."""

    of: Of = "probabilities"
    fitted: bool = False


@dataclass(frozen=True)
class StackOn:
    """A linear layer on all logits; fitted on pictures that the networks were not trained on, or on those that they were."""

    fit_on: Literal["val", "train"] = "val"


@dataclass(frozen=True)
class SoupOf:
    """One network of averaged weights: of all runs, or of those that make val no worse, the best first."""

    greedy: bool = True


Method = MeanOf | StackOn | SoupOf
NAMES: dict[type[Method], str] = {MeanOf: "mean", StackOn: "stack", SoupOf: "soup"}
_OPTIONS = {"of": "mean", "weights": "mean", "fit_on": "stack", "ingredients": "soup"}


def method_of(
    name: str, of: str | None = None, weights: str | None = None, fit_on: str | None = None, ingredients: str | None = None
) -> Method:
    """The method of a name with the options that are given. Raises InputError for what it does not have."""
    given = {"of": of, "weights": weights, "fit_on": fit_on, "ingredients": ingredients}
    if name not in NAMES.values():
        raise InputError(f"there is no method {name!r}", hint=f"Methods: {', '.join(NAMES.values())}.")
    if fit_on == "test":
        raise InputError("nothing is fitted on test: its figures would be of pictures that the stack has seen", hint="Fit it on val.")
    problems = [
        f"--{key.replace('_', '-')} is for a {_OPTIONS[key]}, and has no effect on a {name}"
        for key, value in given.items()
        if value and _OPTIONS[key] != name
    ]
    allowed = {
        "of": ("probabilities", "logits"),
        "weights": ("equal", "fitted"),
        "fit_on": ("val", "train"),
        "ingredients": ("greedy", "all"),
    }
    problems += [
        f"--{key.replace('_', '-')}: expected {' or '.join(allowed[key])}, got {value!r}"
        for key, value in given.items()
        if value and value not in allowed[key]
    ]
    if problems:
        raise InputError(*problems)
    if name == "mean":
        return MeanOf("logits" if of == "logits" else "probabilities", weights == "fitted")
    if name == "stack":
        return StackOn("train" if fit_on == "train" else "val")
    return SoupOf(ingredients != "all")
