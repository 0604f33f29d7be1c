"""The ways to make one answer of several, and what may be said of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fieldmark.core.errors import InputError
from fieldmark.core.recipe import flat
from fieldmark.core.schema import Recipe
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


NOT_OF_THE_NETWORK = ("model.weights", "model.max_parameters", "model.dropout", "model.drop_path")
_OF_THE_VIEW = ("data.size", "data.resize", "data.crop", "data.normalise")
_OF_THE_PICTURES = ("data.classes", "data.level", "data.subset", "data.label_noise")


def impossible(method: Method, recipes: Mapping[str, Recipe]) -> Iterator[str]:
    """Why runs of these recipes, by name, could not be made one by a method, as far as their settings tell."""
    first, *others = recipes
    fitted = isinstance(method, SoupOf) or (method.fitted if isinstance(method, MeanOf) else method.fit_on == "val")
    for name, recipe in recipes.items():
        if fitted and recipe.train.refit:
            yield f"{name!r} is refitted on train and val together, so that no val is left to fit or choose on"
    for name in others:
        ours, theirs = flat(recipes[first]), flat(recipes[name])
        different = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
        if pictures := [key for key in different if key.startswith(_OF_THE_PICTURES)]:
            yield f"{first!r} and {name!r} are trained on other pictures or labels ({', '.join(pictures)})"
        if "data.crop.name" in different:
            yield f"of {first!r} and {name!r}, one sees whole pictures and the other boxes (data.crop)"
        if isinstance(method, SoupOf):
            alike = [key for key in different if key.startswith(("model.", *_OF_THE_VIEW)) and key not in NOT_OF_THE_NETWORK]
            if alike:
                yield f"{first!r} and {name!r} are not of one architecture and size, as the parts of a soup have to be ({', '.join(alike)})"
