"""Recipes by name, from files, from dictionaries, and from other recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldmark.core.arguments import fitting, path_of
from fieldmark.core.errors import Problem
from fieldmark.core.recipe.few_epochs import fitted
from fieldmark.core.recipe.layers import Setting, file_layers, read_layer, settings_layer
from fieldmark.core.recipe.merge import build_recipe
from fieldmark.core.recipe.recipe import Recipe


@fitting
def load_recipe(
    name: str | Path | Recipe = "default", overrides: Sequence[str | Mapping[str, Any]] = (), say: Callable[..., None] | None = None
) -> Recipe:
    """The recipe of a preset name or a YAML file, or a recipe, with overrides applied.

    An override is a text such as "train.epochs=5", or a dictionary such as {"train.epochs": 5} or {"train": {"epochs": 5}}.

    What only the preset or a default says is shortened if it does not fit into the epochs; `say` is called with a sentence for each.

    Raises InputError naming every problem at once, each with where it came from and the nearest valid name.
    """
    problems: list[Problem] = []
    if isinstance(name, Recipe):
        base = [read_layer(name.model_dump(mode="json"), "the recipe given", problems)]
    else:
        base = file_layers(path_of(name, "a recipe is a name that `fieldmark recipes` lists, a YAML file or a Recipe"), problems)
    layers = [*base, settings_layer(overrides, problems)]
    shorter, said = fitted(layers)
    recipe = build_recipe([*layers, shorter], problems)
    if say is not None:
        say(*said)
    return recipe


def recipe_from(values: dict[str, Any], origin: str = "the recipe given") -> Recipe:
    """The recipe of a nested dictionary, checked like a file."""
    problems: list[Problem] = []
    return build_recipe([read_layer(values, origin, problems)], problems)


def with_settings(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """The same recipe with some dotted keys set."""
    before = read_layer(recipe.model_dump(mode="json"), "recipe", [])
    return build_recipe([before, [Setting(key, value, "recipe") for key, value in values.items()]])
