"""The methods of combining runs, and the options of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import flat
from fieldmark.scoring.combination import Of


@dataclass(frozen=True)
class MeanOf:
    """The mean of probabilities or logits, with equal weights or weights fitted on val."""

    of: Of = "probabilities"
    fitted: bool = False


@dataclass(frozen=True)
class StackOn:
    """A linear layer on all logits; fitted on images that the networks were not trained on, or on their training images."""

    fit_on: Literal["val", "train"] = "val"


@dataclass(frozen=True)
class SoupOf:
    """One network of averaged weights: of all runs, or of those that do not lower val, the best first."""

    greedy: bool = True


Method = MeanOf | StackOn | SoupOf
_NAMES = ("mean", "stack", "soup")
_OPTIONS = {
    "of": ("mean", ("probabilities", "logits")),
    "weights": ("mean", ("equal", "fitted")),
    "fit_on": ("stack", ("val", "train")),
    "ingredients": ("soup", ("greedy", "all")),
}
"""The method that has each option, and the option's values, the default first."""


def method_of(
    name: str, of: str | None = None, weights: str | None = None, fit_on: str | None = None, ingredients: str | None = None
) -> Method:
    """The method of this name with the given options. Raises InputError for an option that it does not have."""
    given = {"of": of, "weights": weights, "fit_on": fit_on, "ingredients": ingredients}
    if name not in _NAMES:
        raise InputError(f"there is no method {name!r}", hint=f"Methods: {', '.join(_NAMES)}.")
    if fit_on == "test":
        raise InputError("a stack cannot be fitted on test: its test figures would be of images that it has seen", hint="Fit it on val.")
    unused, unknown = [], []
    for key, value in given.items():
        owner, values = _OPTIONS[key]
        option = f"--{key.replace('_', '-')}"
        if value and owner != name:
            unused.append(f"{option} is for a {owner}, and has no effect on a {name}")
        if value and value not in values:
            unknown.append(f"{option}: expected {' or '.join(values)}, got {value!r}")
    if problems := [*unused, *unknown]:
        raise InputError(*problems)
    if name == "mean":
        return MeanOf("logits" if of == "logits" else "probabilities", weights == "fitted")
    if name == "stack":
        return StackOn("train" if fit_on == "train" else "val")
    return SoupOf(ingredients != "all")


_NOT_OF_THE_NETWORK = ("model.weights", "model.max_parameters", "model.max_latency_ms", "model.dropout", "model.drop_path")
_OF_THE_VIEW = ("data.size", "data.resize", "data.crop", "data.normalise")
_OF_THE_IMAGES = ("data.classes", "data.level", "data.subset", "data.label_noise")


def impossible(method: Method, recipes: Mapping[str, Recipe]) -> Iterator[str]:
    """Why a method could not combine runs of these recipes, by name, as far as their settings tell."""
    first, *others = recipes
    fitted = isinstance(method, SoupOf) or (method.fitted if isinstance(method, MeanOf) else method.fit_on == "val")
    for name, recipe in recipes.items():
        if fitted and recipe.train.refit:
            yield f"{name!r} is refitted on train and val together, so no val is left to fit or choose on"
    for name in others:
        different = _differences(recipes[first], recipes[name])
        if images := [key for key in different if key.startswith(_OF_THE_IMAGES)]:
            yield f"{first!r} and {name!r} are trained on different images or labels ({', '.join(images)})"
        if "data.crop.name" in different:
            yield f"one of {first!r} and {name!r} sees whole images and the other boxes (data.crop)"
        if isinstance(method, SoupOf):
            seen = (key for key in different if key.startswith(_OF_THE_VIEW))
            keys = sorted([*unlike_networks(recipes[first], recipes[name]), *seen])
            if keys:
                yield f"{first!r} and {name!r} are not of one architecture and size, as the parts of a soup must be ({', '.join(keys)})"


def unlike_networks(one: Recipe, other: Recipe) -> list[str]:
    """The keys whose values differ such that the weights of the two recipes' networks cannot be averaged."""
    return [key for key in _differences(one, other) if key.startswith("model.") and key not in _NOT_OF_THE_NETWORK]


def _differences(one: Recipe, other: Recipe) -> list[str]:
    ours, theirs = flat(one), flat(other)
    return [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
