"""What a search tries: ranges and choices of recipe keys, from the section `space` of a study file.

    space:
      optim.lr: {from: 1e-4, to: 1e-2, log: true}
      train.batch: {from: 16, to: 64, step: 16}
      augment.crop.area: [[0.35, 1.0], [0.5, 1.0]]     # choices
      schedule.name: [cosine, constant]
      schedule.floor_factor: {from: 0, to: 0.1}        # only in trials that chose cosine: constant has none

A choice between variants may give each a space of its own:

      optim.name:
        sgd: {optim.lr: {from: 0.01, to: 1, log: true}, optim.momentum: [0.9, 0.95]}
        adamw: {optim.lr: {from: 1e-4, to: 1e-2, log: true}}
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import suggest
from fieldmark.core.recipe.fields import choices, fields
from fieldmark.core.recipe.layers import Layer, Setting
from fieldmark.core.recipe.merge import build_recipe
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import flat
from fieldmark.core.yaml_text import line_of, plain, show

_MOST_CORNERS = 2000
_MOST_PROBLEMS = 20
_RANGE_KEYS = ("from", "to", "log", "step")
_EXAMPLE = "a range such as {from: 1e-4, to: 1e-2, log: true}, or a list of choices"
_DECIDE_VAL = (
    "data.layout",
    "data.columns",
    "data.images",
    "data.suffix",
    "data.missing_labels",
    "data.several_objects",
    "data.class_depth",
    "data.level",
    "data.corrupt",
    "data.val_fraction",
    "data.test_fraction",
    "data.splits",
    "data.folds",
    "data.fold",
    "data.split_seed",
    "data.max_unreadable",
)
_TEACH_NOTHING = (
    "data.storage",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
    "train.log_every",
    "train.device",
    "train.threads",
    "train.tensorboard",
)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included: in steps, evenly on a logarithmic scale, or evenly. `whole`: integers only."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return self.step is None or _on_grid(value - self.low, self.step)

    @property
    def count(self) -> float:
        """How many values it has; infinite if it is continuous."""
        step = self.step or (1 if self.whole else None)
        return math.inf if step is None else round((self.high - self.low) / step) + 1

    @property
    def words(self) -> str:
        how = ", logarithmic" if self.log else "" if self.step is None else f" in steps of {self.step!r}"
        return f"{self.low!r} to {self.high!r}{how}"


@dataclass(frozen=True)
class Choices:
    """Values to choose from; `labels` are their names, all different."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label(value) for value in self.values)

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    def holds(self, value: Any) -> bool:
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values)

    @property
    def count(self) -> float:
        return len(self.values)

    @property
    def words(self) -> str:
        return ", ".join(self.labels)


@dataclass(frozen=True)
class Dimension:
    """A key that is searched over. `when`: the only variant under which it is, as (key, name), such as ("optim.name", "sgd")."""

    key: str
    domain: Range | Choices
    origin: str
    when: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """The key, with the variant if it is searched over only under that: two dimensions may share a key."""
        return self.key if self.when is None else f"{self.key} ({self.when[1]})"

    def applies(self, settings: dict[str, Any]) -> bool:
        """Whether it is searched over under the variants in `settings`."""
        return self.when is None or settings.get(self.when[0]) == self.when[1]


@dataclass(frozen=True)
class Space:
    """`dimensions` are in the order in which they are sampled, choices between variants first. `base` is what they change."""

    dimensions: tuple[Dimension, ...]
    base: tuple[Layer, ...]

    @property
    def largest(self) -> float:
        """At most how many recipes it holds; infinite if a dimension is continuous."""
        return math.prod(dimension.domain.count for dimension in self.dimensions)

    def settings(self, value_of: Callable[[Dimension], Any]) -> dict[str, Any]:
        """The dotted keys of one trial. `value_of` is only called for dimensions that the variants chosen before have."""
        chosen: dict[str, Any] = {}
        for dimension in self.dimensions:
            if self._exists(dimension, chosen):
                chosen[dimension.key] = value_of(dimension)
        return chosen

    def recipe(self, settings: dict[str, Any]) -> Recipe:
        """The base with the settings of a trial. Raises InputError if they are incompatible."""
        origins = {dimension.key: dimension.origin for dimension in self.dimensions}
        return build_recipe([*self.base, [Setting(key, value, origins.get(key, "search")) for key, value in settings.items()]])

    def base_settings(self) -> dict[str, Any] | None:
        """The settings that make the base itself; None if the base is not in the space."""
        values = flat(build_recipe(self.base))

        def value_of(dimension: Dimension) -> Any:
            value = values.get(dimension.key)
            return value if dimension.domain.holds(value) else ...

        settings = self.settings(value_of)
        return None if ... in settings.values() else settings

    def _exists(self, dimension: Dimension, chosen: dict[str, Any]) -> bool:
        if not dimension.applies(chosen):
            return False
        owners = [field.variant for field in fields() if field.key == dimension.key]
        if not owners or None in owners:
            return True
        section = f"{dimension.key.rpartition('.')[0]}.name"
        # If the space does not choose the variant, it is the base's; a key that this lacks is kept, to be refused.
        return section not in chosen or chosen[section] in owners


def label(value: Any) -> str:
    """A choice as it is written in tables."""
    return value if isinstance(value, str) else json.dumps(value)


def read_space(section: Any, base: Sequence[Layer], origin: str, problems: list[Problem]) -> Space:
    """The space of a study file's mapping. Problems are added to `problems`, each with its place in the file.

    Every corner of the space (the ends of ranges, each choice; in a large space, each pair of them) must make a valid recipe.
    """
    if not isinstance(section, dict) or not section:
        problems.append(Problem(f"expected recipe keys, each with {_EXAMPLE}, got {show(section)}", place="search.space", origin=origin))
        return Space((), tuple(base))
    found = list(_dimensions(section, origin, problems))
    space = Space(tuple(sorted(found, key=_order)), tuple(base))
    _check_keys(space, problems)
    # Without a choice of variants that could not be read, the keys of those variants would seem to be wrong.
    if not any(_is_tag(key) for problem in problems for key in problem.keys):
        _check_corners(space, problems)
    return space


# ---- reading ----------------------------------------------------------------------------------------------------------------------


def _dimensions(section: dict[Any, Any], origin: str, problems: list[Problem], when: tuple[str, str] | None = None) -> Iterator[Dimension]:
    for key, given, where in _entries(section, origin):
        if isinstance(given, dict) and _is_tag(key) and not {"from", "to"} & set(given):
            if when is not None:
                problems.append(
                    Problem("a space beneath a choice cannot hold another choice between variants", place=key, keys=(key,), origin=where)
                )
                continue
            names = _choices(key, [str(option) for option in given], where, problems)
            yield from [] if names is None else [Dimension(key, names, where)]
            for option, own in given.items():
                if isinstance(own, dict):
                    yield from _dimensions(own, origin, problems, (key, str(option)))
                elif own is not None:
                    here = line_of(given, option, origin)
                    problems.append(
                        Problem(
                            f"expected the keys searched over with it, or nothing, got {show(own)}",
                            place=f"{key}: {option}",
                            keys=(key,),
                            origin=here,
                        )
                    )
        elif domain := _domain(key, given, where, problems):
            if when is not None and _is_tag(key):
                problems.append(
                    Problem("a space beneath a choice cannot hold another choice between variants", place=key, keys=(key,), origin=where)
                )
            yield Dimension(key, domain, where, when)


def _entries(section: dict[Any, Any], origin: str, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted keys with their values and origins; sections may be nested as in a recipe."""
    known = {field.key for field in fields()}
    for name, given in section.items():
        key, where = f"{prefix}{name}", line_of(section, name, origin)
        if isinstance(given, dict) and any(other.startswith(f"{key}.") for other in known):
            yield from _entries(given, origin, f"{key}.")
        else:
            yield f"{key}.name" if key in choices() else key, given, where


def _domain(key: str, given: Any, where: str, problems: list[Problem]) -> Range | Choices | None:
    if isinstance(given, list):
        return _choices(key, given, where, problems)
    if isinstance(given, dict):
        return _range(key, given, where, problems)
    problems.append(
        Problem(
            f"expected {_EXAMPLE}, got {show(given)}",
            place=key,
            keys=(key,),
            remedy="a value that stays the same belongs in the base",
            origin=where,
        )
    )
    return None


def _choices(key: str, given: list[Any], where: str, problems: list[Problem]) -> Choices | None:
    try:
        values = tuple(plain(value, where) for value in given)
    except InputError as error:
        problems += [problem.within(key) for problem in error.problems]
        return None
    labels = [label(value) for value in values]
    twice = [text for text in dict.fromkeys(labels) if labels.count(text) > 1]
    problems += [Problem(f"{text} is given twice", place=key, keys=(key,), origin=where) for text in twice]
    if len(values) < 2:
        problems.append(
            Problem(
                f"expected two choices or more, got {show(given)}",
                place=key,
                keys=(key,),
                remedy="a value that stays the same belongs in the base",
                origin=where,
            )
        )
    return None if twice or len(values) < 2 else Choices(values)


def _range(key: str, given: dict[Any, Any], where: str, problems: list[Problem]) -> Range | None:
    before = len(problems)
    for name in given:
        if name not in _RANGE_KEYS:
            nearest = suggest(str(name), _RANGE_KEYS)
            problems.append(
                Problem(
                    f"a range has no {name!r}{nearest}", place=key, keys=(key,), remedy="it has from, to, and log or step", origin=where
                )
            )
    missing = [name for name in ("from", "to") if name not in given]
    if missing and len(problems) == before:
        problems.append(
            Problem(
                f"a range needs {' and '.join(missing)}, such as {{from: 1e-4, to: 1e-2, log: true}}", place=key, keys=(key,), origin=where
            )
        )
    types = {part for field in fields() if field.key == key for part in field.type.split(" | ")}
    if types and not types & {"integer", "number"}:
        problems.append(
            Problem(
                f"a range is for numbers, and this is {' | '.join(sorted(types))}",
                place=key,
                keys=(key,),
                remedy="give a list of choices",
                origin=where,
            )
        )
    whole = "number" not in types and "integer" in types
    for name in ("from", "to", "step"):
        value: Any = given.get(name)
        if name in given and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            problems.append(Problem(f"expected a number, got {show(value)}", place=f"{key}: {name}", origin=where))
        elif name in given and whole and value != int(value):
            problems.append(Problem(f"expected a whole number, got {show(value)}", place=f"{key}: {name}", origin=where))
    log = given.get("log", False)
    if not isinstance(log, bool):
        problems.append(Problem(f"expected true or false, got {show(log)}", place=f"{key}: log", origin=where))
    if len(problems) > before:
        return None
    kind: type[int] | type[float] = int if whole else float
    low, high = kind(given["from"]), kind(given["to"])
    step = kind(given["step"]) if "step" in given else None
    if low >= high:
        problems.append(Problem(f"from ({low:g}) is not below to ({high:g})", place=key, keys=(key,), origin=where))
    if log and low <= 0:
        problems.append(Problem(f"a logarithmic range begins above 0, not at {low:g}", place=key, keys=(key,), origin=where))
    if log and step is not None:
        problems.append(Problem("log and step do not go together", place=key, keys=(key,), remedy="leave one out", origin=where))
    if step is not None and step <= 0:
        problems.append(Problem(f"expected a number above 0, got {step:g}", place=f"{key}: step", origin=where))
    elif step is not None and low < high and not _on_grid(high - low, step):
        last = low + math.floor((high - low) / step) * step
        problems.append(
            Problem(f"steps of {step:g} from {low:g} do not reach {high:g}; the last is {last:g}", place=key, keys=(key,), origin=where)
        )
    return None if len(problems) > before else Range(low, high, log, step, whole)


def _on_grid(distance: float, step: float) -> bool:
    return math.isclose(distance / step, round(distance / step), abs_tol=1e-6)


def _is_tag(key: str) -> bool:
    return key.endswith(".name") and key.removesuffix(".name") in choices()


def _order(dimension: Dimension) -> tuple[bool, int]:
    return not _is_tag(dimension.key), dimension.key.count(".") if _is_tag(dimension.key) else 0


# ---- checking ---------------------------------------------------------------------------------------------------------------------


def _check_keys(space: Space, problems: list[Problem]) -> None:
    """Each key searched over must be a setting of the recipe, given once, and not set on the command line."""
    given = {setting.key: setting.origin for layer in space.base for setting in layer if setting.origin == "command line"}
    for index, dimension in enumerate(space.dimensions):
        key, where = dimension.key, dimension.origin
        earlier = [other for other in space.dimensions[:index] if other.key == key]
        if any(_together(dimension.when, other.when) for other in earlier):
            problems.append(Problem(f"{key} is given twice", origin=where))
        if key in given or key.removesuffix(".name") in given:
            problems.append(Problem(f"{key} is searched over ({where}), and set on the command line", remedy="leave one out"))
        if key == "train.seed":
            problems.append(
                Problem(
                    "the luckiest seed teaches nothing; `fieldmark study run` shows the spread over seeds", place="train.seed", origin=where
                )
            )
        elif key.startswith("evaluate.") or key in _DECIDE_VAL:
            problems.append(
                Problem(
                    "it decides what val measures, so that trials could not be compared",
                    place=key,
                    keys=(key,),
                    remedy="set it in the base",
                    origin=where,
                )
            )
        elif key in _TEACH_NOTHING:
            problems.append(Problem("it does not change what is learnt", place=key, keys=(key,), remedy="set it in the base", origin=where))


def _together(one: tuple[str, str] | None, other: tuple[str, str] | None) -> bool:
    """Whether dimensions under these conditions can be in one trial."""
    return one is None or other is None or one[0] != other[0] or one[1] == other[1]


def _check_corners(space: Space, problems: list[Problem]) -> None:
    try:
        build_recipe(space.base)
    except InputError as error:
        problems += error.problems
        return
    tried: set[str] = set()
    reached: set[str] = set()
    found: dict[Problem, None] = {}
    for corner in _corners(space.dimensions):
        in_use: set[str] = set()

        def value_of(dimension: Dimension, corner: dict[str, Any] = corner, in_use: set[str] = in_use) -> Any:
            in_use.add(dimension.name)
            return corner[dimension.name]

        settings = space.settings(value_of)
        reached |= in_use
        text = json.dumps(settings, sort_keys=True)
        if text in tried:
            continue
        tried.add(text)
        try:
            space.recipe(settings)
        except InputError as error:
            found |= dict.fromkeys(_in_the_space(problem, settings, space) for problem in error.problems)
    for dimension in space.dimensions:
        if dimension.name not in reached:
            owners = [field.variant for field in fields() if field.key == dimension.key and field.variant]
            beneath = f" of {dimension.when[1]}" if dimension.when else ""
            said = f"no trial would use it{beneath}: it belongs to {', '.join(owners)}"
            found[Problem(said, place=dimension.key, origin=dimension.origin)] = None
    problems += list(found)[:_MOST_PROBLEMS]
    if len(found) > _MOST_PROBLEMS:
        problems.append(Problem(f"and {len(found) - _MOST_PROBLEMS} more problems like these"))


def _in_the_space(problem: Problem, settings: dict[str, Any], space: Space) -> Problem:
    """The problem, with the line in the space of each of its keys that is searched over."""
    named = [dimension for dimension in space.dimensions if dimension.key in settings and dimension.key in problem.keys]
    of_the_space = any(dimension.origin == problem.origin for dimension in space.dimensions)
    if of_the_space and len(named) == 1:
        return problem
    where = ", ".join(f"{dimension.key}={label(settings[dimension.key])} in {dimension.origin}" for dimension in named)
    trial = where or f"in a trial with {json.dumps(settings)}"
    return replace(problem, origin=trial) if of_the_space else problem.written(trial)


def _corners(dimensions: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Values by name of dimension: all combinations of ends, or if there are too many, all pairs of ends for each choice of variants."""
    if math.prod(len(dimension.domain.ends) for dimension in dimensions) <= _MOST_CORNERS:
        for values in itertools.product(*(dimension.domain.ends for dimension in dimensions)):
            yield {dimension.name: value for dimension, value in zip(dimensions, values, strict=True)}
        return
    tags = [dimension for dimension in dimensions if _is_tag(dimension.key)]
    others = [dimension for dimension in dimensions if not _is_tag(dimension.key)]
    first = {dimension.name: dimension.domain.ends[0] for dimension in others}
    for names in itertools.product(*(tag.domain.ends for tag in tags)):
        variants = {tag.name: name for tag, name in zip(tags, names, strict=True)}
        yield variants | first
        for one, other in itertools.combinations(others, 2):
            for pair in itertools.product(one.domain.ends, other.domain.ends):
                yield variants | first | {one.name: pair[0], other.name: pair[1]}
