"""One recipe from layers: the last one wins, and everything that is wrong in any of them is reported at once.

Choosing another variant of a choice (`optim.name=adamw`) drops what earlier layers set for the old one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import suggest
from fieldmark.core.recipe.fields import choices, fields, item_keys, keys, sections
from fieldmark.core.recipe.layers import Layer, Setting
from fieldmark.core.recipe.other_tools import key_elsewhere
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.yaml_text import show

_TWO_NUMBERS = "two numbers, such as [0.5, 1.0]"
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": _TWO_NUMBERS,
    "missing": _TWO_NUMBERS,
    "too_long": _TWO_NUMBERS,
}
"""What pydantic's errors of these types expect."""
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}
"""The words for a bound, and its name in pydantic's errors of these types."""


def build_recipe(layers: Sequence[Layer], reading: Sequence[Problem] = ()) -> Recipe:
    """The recipe that these layers make. Raises InputError naming every problem at once, those of `reading` the layers first."""
    problems = list(reading)
    merged = merged_settings(layers, problems)
    problems += _unused_variant_keys(merged)
    rejected = {problem.place for problem in problems}
    try:
        recipe = Recipe.model_validate_json(json.dumps(nested(setting for setting in merged.values() if setting.key not in rejected)))
    except ValidationError as error:
        problems += _validation_problems(error, merged)
    if problems:
        raise InputError(*dict.fromkeys(problems), hint="`fieldmark fields` lists every key with its type, default and meaning.")
    return recipe


def merged_settings(layers: Sequence[Layer], problems: list[Problem]) -> dict[str, Setting]:
    """By key, the last setting of each; those of a variant that a later layer no longer chooses are dropped."""
    merged: dict[str, Setting] = {}
    for layer in layers:
        named = [_as_variant(setting) for setting in layer]
        for setting in named:
            section = setting.key.removesuffix(".name")
            if setting.key.endswith(".name") and section in choices():
                before = merged[setting.key].value if setting.key in merged else choices()[section].default
                if before != setting.value:
                    merged = {key: kept for key, kept in merged.items() if not key.startswith(section + ".")}
                merged[setting.key] = setting
        for setting in named:
            if setting.key in keys():
                merged[setting.key] = setting
            else:
                problems.append(setting.wrong(_no_such_key(setting)))
    return merged


def _as_variant(setting: Setting) -> Setting:
    """`optim=adamw` is short for `optim.name=adamw`."""
    if setting.key in choices() and isinstance(setting.value, str):
        return replace(setting, key=f"{setting.key}.name")
    return setting


def _unused_variant_keys(merged: dict[str, Setting]) -> list[Problem]:
    problems = []
    for section, choice in choices().items():
        name = merged[f"{section}.name"].value if f"{section}.name" in merged else choice.default
        if not isinstance(name, str) or name not in choice.variants:
            continue
        own = choice.variants[name].model_fields
        for setting in merged.values():
            prefix, _, field = setting.key.rpartition(".")
            if prefix == section and field not in own:
                owners = [other for other, model in choice.variants.items() if field in model.model_fields]
                said = f"{name} has no {field} (it belongs to {', '.join(owners)}); {name} has {', '.join(own)}"
                problems.append(setting.wrong(said, f"{section}.name"))
    return problems


def _no_such_key(setting: Setting) -> str:
    """What is wrong with a key that cannot be set."""
    if setting.key in choices():
        names = ", ".join(choices()[setting.key].variants)
        return f"expected one of {names}, got {show(setting.value)}"
    if setting.key in sections():
        example = key_elsewhere(setting.key) or next(key for key in sorted(keys()) if key.startswith(setting.key + "."))
        return f"expected keys beneath it, such as {example}, got {show(setting.value)}"
    if (listed := next((key for key in keys() if setting.key.startswith((f"{key}.", f"{key}[")) and item_keys(key)), None)) is not None:
        example = f"{listed}=[{{{item_keys(listed)[0]}: ...}}]"
        return f"{listed} is a list of sections, which is set as a whole, such as {example}"
    last, elsewhere = setting.key.rpartition(".")[2], key_elsewhere(setting.key)
    same_ending = sorted(key for key in keys() if key.rpartition(".")[2] == last) if elsewhere is None else [elsewhere]
    suggestion = f"; did you mean {' or '.join(same_ending)}?" if same_ending else suggest(setting.key, sorted(keys()))
    return f"there is no such key{suggestion}"


def _validation_problems(error: ValidationError, merged: dict[str, Setting]) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False):
        key, within = _place(detail["loc"])
        if key in choices():
            key += ".name"
        setting = merged.get(key)
        origin = setting.origin if setting else ""
        if detail["type"] == "value_error":
            problem: Problem = detail["ctx"]["error"].problem
            problems.append(replace(problem, origin=merged[problem.place].origin) if problem.place in merged else problem)
        elif detail["type"] == "extra_forbidden":
            item = item_keys(key)
            name = within.rpartition(".")[2]
            known = f"one of {key} has {', '.join(item)}"
            problems.append(Problem(f"there is no such key{suggest(name, item)}", f"{key}{within}", known, origin, (key,)))
        else:
            given = setting.value if setting is not None and not within else detail["input"]
            said = f"{_expectation(detail, key, within)}, got {show(given)}"
            problems.append(Problem(said, place=f"{key}{within}", origin=origin, keys=(key,)))
    return problems


def _place(location: Iterable[int | str]) -> tuple[str, str]:
    """The recipe's key that an error is about, and where in its list, such as "stages" and "[0].epochs"."""
    key, rest = "", list(location)
    while rest:
        part = str(rest[0])
        if key not in choices() or part not in choices()[key].variants:
            longer = f"{key}.{part}" if key else part
            if longer not in choices() and not _is_prefix(longer):
                break
            key = longer
        rest.pop(0)
    return key, "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest) if item_keys(key) else ""


def _is_prefix(key: str) -> bool:
    return any(field.key == key or field.key.startswith(key + ".") for field in fields())


def _expectation(detail: Any, key: str, within: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    wanted = next((field.type for field in fields() if field.key == key + re.sub(r"\d+", "", within)), "")
    if kind == "tuple_type" and wanted.startswith("list"):
        return f"expected a {wanted}"
    if kind in ("model_type", "model_attributes_type", "dict_type") and within:
        return f"expected settings such as {{{item_keys(key)[0]}: ...}}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if kind == "literal_error":
        return f"expected one of {context['expected']}".replace("'", "")
    if kind == "union_tag_invalid":
        return f"expected one of {context['expected_tags']}".replace("'", "")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"expected a number {words} {context[bound]:g}"
    return str(detail["msg"])


def nested(settings: Iterable[Setting]) -> dict[str, Any]:
    """The settings as nested mappings, in which every choice has a name."""
    values: dict[str, Any] = {}
    for setting in settings:
        *parents, last = setting.key.split(".")
        level = values
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = setting.value
    for section, choice in choices().items():
        level = values
        *parents, last = section.split(".")
        for parent in parents:
            level = level.get(parent, {})
        if last in level:
            level[last].setdefault("name", choice.default)
    return values
