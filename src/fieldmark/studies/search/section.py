"""The section `search` of a study file.

search:
  sampler: tpe                # or random
  seed: 0                     # of the sampler
  halving: true               # or {min_epochs: 3, factor: 3}, or false
  space: ...                  # see space.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import suggest
from fieldmark.core.recipe.layers import Layer
from fieldmark.core.recipe.merge import build_recipe
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.section import Monitor
from fieldmark.core.yaml_text import line_of, show
from fieldmark.studies.search.space import Space, read_space

_KEYS = ("sampler", "seed", "halving", "space")
_HALVING_KEYS = ("min_epochs", "factor")
_FACTOR = 3

Sampler = Literal["tpe", "random"]


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (Li et al., MLSys 2020) in its stopping form.

    After `min_epochs`, and `factor`, `factor` ** 2 … times as many, a trial goes on only if its val figure is among the best 1/`factor`
    of those that trials have had at that point.
    """

    min_epochs: int
    factor: int


@dataclass(frozen=True)
class Search:
    """The section `search` of a study file, with the base recipe that it varies."""

    space: Space
    sampler: Sampler
    halving: Halving | None
    seed: int

    @cached_property
    def base(self) -> Recipe:
        return build_recipe(self.space.base)

    @property
    def monitor(self) -> Monitor:
        """The val figure by which trials are chosen."""
        return self.base.evaluate.monitor

    @property
    def maximise(self) -> bool:
        """Whether more of the monitored figure is better."""
        from fieldmark.scoring.metrics import METRICS

        return METRICS[self.monitor].higher_is_better


def read_search(section: dict[str, Any], base: Sequence[Layer], origin: str) -> Search:
    """The section `search` of a study file; `base` are the layers of the recipe that it changes.

    Raises InputError naming every problem at once, each with its place in the file.
    """
    problems: list[Problem] = []
    for name in section:
        if name not in _KEYS:
            where = line_of(section, name, origin)
            problems.append(
                Problem(
                    f"there is no such key{suggest(str(name), _KEYS)}",
                    place=f"search.{name}",
                    remedy=f"it has {', '.join(_KEYS)}",
                    origin=where,
                )
            )
    sampler = section.get("sampler", "tpe")
    if sampler not in get_args(Sampler):
        options = ", ".join(get_args(Sampler))
        problems.append(
            Problem(f"expected one of {options}, got {show(sampler)}", place="search.sampler", origin=line_of(section, "sampler", origin))
        )
    seed = section.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        problems.append(
            Problem(
                f"expected a whole number of at least 0, got {show(seed)}", place="search.seed", origin=line_of(section, "seed", origin)
            )
        )
    space = read_space(section.get("space"), base, origin, problems)
    halving = _halving(section, space, origin, problems)
    if problems:
        raise InputError(*dict.fromkeys(problems), hint="`fieldmark fields` lists every key with its type, default and meaning.")
    search = Search(space, cast("Sampler", sampler), halving, int(seed))
    _check_models(search)
    return search


def _halving(section: dict[str, Any], space: Space, origin: str, problems: list[Problem]) -> Halving | None:
    """By default two decisions, after a ninth and a third of the epochs, if there are enough epochs."""
    given, where = section.get("halving", True), line_of(section, "halving", origin)
    if given is False:
        return None
    if given is not True and not isinstance(given, dict):
        problems.append(
            Problem(f"expected true, false or {{min_epochs: 3, factor: 3}}, got {show(given)}", place="search.halving", origin=where)
        )
        return None
    values = given if isinstance(given, dict) else {}
    before = len(problems)
    for name, value in values.items():
        here = line_of(values, name, origin)
        if name not in _HALVING_KEYS:
            nearest = suggest(str(name), _HALVING_KEYS)
            problems.append(
                Problem(
                    f"there is no such key{nearest}",
                    place=f"search.halving.{name}",
                    remedy=f"it has {', '.join(_HALVING_KEYS)}",
                    origin=here,
                )
            )
            continue
        least = 2 if name == "factor" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            problems.append(
                Problem(f"expected a whole number of at least {least}, got {show(value)}", place=f"search.halving.{name}", origin=here)
            )
    fewest = _fewest_epochs(space)
    if len(problems) > before or fewest is None:
        return None
    factor = int(values.get("factor", _FACTOR))
    first = int(values.get("min_epochs", math.ceil(fewest / factor**2)))
    if first < fewest:
        return Halving(first, factor)
    if "halving" in section:
        problems.append(
            Problem(
                f"no trial would be stopped before its end: the first decision is after epoch {first}, and train.epochs is {fewest}",
                place="search.halving",
                remedy="lower min_epochs, raise train.epochs, or set halving to false",
                origin=where,
            )
        )
    return None


def _fewest_epochs(space: Space) -> int | None:
    """Epochs of the shortest trial; None if the base is not a valid recipe, which is reported elsewhere."""
    searched = [dimension for dimension in space.dimensions if dimension.key == "train.epochs"]
    try:
        return int(min(end for each in searched for end in each.domain.ends)) if searched else build_recipe(space.base).train.epochs
    except (InputError, TypeError, ValueError):
        return None


def _check_models(search: Search) -> None:
    """Raises InputError for an unknown architecture."""
    names = [name for dimension in search.space.dimensions if dimension.key == "model.name" for name in dimension.domain.ends]
    if names:
        from fieldmark.models.factory import check_name

        for name in names:
            check_name(name)
