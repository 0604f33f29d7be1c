"""Recipes from layers: a preset extends another, a file extends a preset, `key=value` comes last.

Each layer is a set of dotted keys that remember where they were written, so that an error can say so. Choosing another variant of a
choice (`optim.name=adamw`) drops what earlier layers set for the old one.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.fields import choices, fields, item_keys, keys, sections
from fieldmark.core.presets import RECIPES, Source, suggest
from fieldmark.core.schema import Recipe
from fieldmark.core.yaml_text import line_of, parse, parse_value, plain, show

_DEEPEST = 8
_COMMAND_LINE = "command line"
MEASURED = ("train.precision", "train.memory_format", "train.device", "train.threads")
"""Keys that a run resolves when it begins."""


@dataclass(frozen=True)
class Setting:
    key: str
    value: Any
    origin: str


Layer = list[Setting]


def load_recipe(name: str | Path = "default", overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a preset name or a YAML file with `key=value` overrides applied.

    Raises InputError naming every problem at once, each with where it came from and the nearest valid name.
    """
    problems: list[Problem] = []
    layers = [*_file_layers(name, problems), command_line_layer(overrides, problems)]
    return _build(layers, problems)


def base_layers(base: str | dict[str, Any], source: Source, problems: list[Problem]) -> list[Layer]:
    """The layers of a recipe inside another file (`source`): its name, or a mapping as in a recipe file."""
    if isinstance(base, str):
        return _file_layers(source.beside(base), problems)
    return _extending_layers(base, source, problems, ())


def build_recipe(layers: Sequence[Layer]) -> Recipe:
    """The recipe that these layers make, the last one winning. Raises InputError naming every problem at once."""
    return _build(layers, [])


def recipe_from(values: dict[str, Any], origin: str = "the recipe given") -> Recipe:
    """The recipe of a nested dictionary, checked like a file."""
    problems: list[Problem] = []
    return _build([_flatten(values, origin, problems)], problems)


def with_settings(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """The same recipe with some dotted keys set."""
    layers = [_flatten(recipe.model_dump(mode="json"), "recipe", []), [Setting(key, value, "recipe") for key, value in values.items()]]
    return _build(layers, [])


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every dotted key of a recipe with its value."""
    values = recipe.model_dump(mode="json")
    found = {}
    for key in dict.fromkeys(each.key for each in fields() if not each.in_list):
        level: Any = values
        for part in key.split("."):
            level = level.get(part, ...) if isinstance(level, dict) else ...
        if level is not ...:
            found[key] = level
    return found


def identity(recipe: Recipe) -> str:
    """A digest of what decides a run, its seed included; what a run measures or takes from its machine when it begins is left out."""
    values = {key: value for key, value in flat(recipe).items() if key not in MEASURED}
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def to_yaml(recipe: Recipe) -> str:
    """The fully resolved recipe as YAML 1.2; loading it gives an equal recipe."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(_in_flow_style(recipe.model_dump(mode="json")), stream)
    return stream.getvalue()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, for editors: every key optional, `extends` allowed."""
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "the preset or file that this recipe changes"}
    schema["title"] = "Fieldmark recipe"
    return schema


# ---- layers -----------------------------------------------------------------------------------------------------------------------


def _file_layers(name: str | Path, problems: list[Problem], seen: tuple[str, ...] = ()) -> list[Layer]:
    source = RECIPES.read(name)
    if source.origin in seen:
        raise InputError(f"{source.origin} extends itself: {' -> '.join([*seen, source.origin])}")
    return _extending_layers(parse(source.text, source.origin), source, problems, (*seen, source.origin))


def _extending_layers(values: dict[str, Any], source: Source, problems: list[Problem], seen: tuple[str, ...]) -> list[Layer]:
    """The layers of the recipe that `values` extend, and their own."""
    parent = values.get("extends")
    if not isinstance(parent, str | None):
        raise InputError(Problem(f"expected the name of a recipe or a file, got {show(parent)}", place="extends", origin=source.origin))
    layer = [setting for setting in read_layer(values, source.origin, problems) if setting.key != "extends"]
    return [layer] if parent is None else [*_file_layers(source.beside(parent), problems, seen), layer]


def read_layer(values: dict[str, Any], origin: str, problems: list[Problem]) -> Layer:
    """The settings of a nested mapping; keys may be dotted. What is wrong is added to `problems`."""
    layer = _flatten(values, origin, problems)
    keys = [setting.key for setting in layer]
    problems += [Problem(f"{key} is given twice", origin=origin, keys=(key,)) for key in dict.fromkeys(keys) if keys.count(key) > 1]
    return layer


def _flatten(values: dict[Any, Any], origin: str, problems: list[Problem], prefix: str = "", depth: int = 0) -> list[Setting]:
    """Dotted settings of a nested mapping; lists and scalars are leaves."""
    if depth > _DEEPEST:
        raise InputError(f"{origin}: nested too deeply at {prefix.rstrip('.')}")
    found: list[Setting] = []
    for name, value in values.items():
        key, where = f"{prefix}{name}", line_of(values, name, origin)
        if isinstance(value, dict):
            if not value:
                continue
            found += _flatten(value, origin, problems, key + ".", depth + 1)
        elif value is None and key in sections():
            continue
        else:
            found.append(Setting(key, plain(value, where), where))
    return found


def command_line_layer(overrides: Iterable[str], problems: list[Problem]) -> Layer:
    """The settings of `key=value` texts. What is wrong is added to `problems`."""
    layer: dict[str, Setting] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*(\[\d+\]\.\w+)?", key):
            problems.append(Problem(f"{text!r} is not of the form key=value, such as train.epochs=12", origin=_COMMAND_LINE))
            continue
        if key in layer:
            problems.append(Problem(f"{key} is given twice", origin=_COMMAND_LINE, keys=(key,)))
            continue
        try:
            parsed = parse_value(value)
        except ValueError as error:
            problems.append(_of_key(key, str(error), _COMMAND_LINE))
            continue
        if isinstance(parsed, dict) and item_keys(key):
            problems.append(_of_key(key, f"expected a list of sections, such as {key}=[{value.strip()}]", _COMMAND_LINE))
            continue
        if isinstance(parsed, dict):
            problems.append(_of_key(key, f"give one key at a time, such as {key}.{next(iter(parsed), 'name')}=...", _COMMAND_LINE))
            continue
        layer[key] = Setting(key, plain(parsed, _COMMAND_LINE), _COMMAND_LINE)
    return list(layer.values())


# ---- merging and checking -----------------------------------------------------------------------------------------------------------


def _build(layers: Sequence[Layer], problems: list[Problem]) -> Recipe:
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
            if setting.key not in keys():
                problems.append(_unknown_key(setting))
            else:
                merged[setting.key] = setting
    problems += _unused_variant_keys(merged)
    rejected = {problem.place for problem in problems}
    try:
        recipe = Recipe.model_validate_json(json.dumps(_nest(s for s in merged.values() if s.key not in rejected)))
    except ValidationError as error:
        problems += _validation_problems(error, merged)
        recipe = None
    if problems or recipe is None:
        raise InputError(*dict.fromkeys(problems), hint="`fieldmark fields` lists every key with its type, default and meaning.")
    return recipe


def _as_variant(setting: Setting) -> Setting:
    """`optim=adamw` is short for `optim.name=adamw`."""
    if setting.key in choices() and isinstance(setting.value, str):
        return Setting(f"{setting.key}.name", setting.value, setting.origin)
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
                problems.append(Problem(said, place=setting.key, origin=setting.origin, keys=(setting.key, f"{section}.name")))
    return problems


def _unknown_key(setting: Setting) -> Problem:
    return _of_key(setting.key, _what_is_known(setting), setting.origin)


def _what_is_known(setting: Setting) -> str:
    if setting.key in choices():
        names = ", ".join(choices()[setting.key].variants)
        return f"expected one of {names}, got {show(setting.value)}"
    if setting.key in sections():
        example = next(key for key in sorted(keys()) if key.startswith(setting.key + "."))
        return f"expected keys beneath it, such as {example}, got {show(setting.value)}"
    if (listed := next((key for key in keys() if setting.key.startswith((f"{key}.", f"{key}[")) and item_keys(key)), None)) is not None:
        example = f"{listed}=[{{{item_keys(listed)[0]}: ...}}]"
        return f"{listed} is a list of sections, which is set as a whole, such as {example}"
    last = setting.key.rpartition(".")[2]
    same_ending = sorted(key for key in keys() if key.rpartition(".")[2] == last)
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
            problems.append(replace(detail["ctx"]["error"].problem, origin=origin))
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


def _of_key(key: str, what: str, origin: str) -> Problem:
    return Problem(what, place=key, origin=origin, keys=(key,))


def _is_prefix(key: str) -> bool:
    return any(field.key == key or field.key.startswith(key + ".") for field in fields())


def _expectation(detail: Any, key: str, within: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    wanted = next((field.type for field in fields() if field.key == key + re.sub(r"\d+", "", within)), "")
    if kind == "tuple_type" and wanted.startswith("list"):
        return f"expected a {wanted}"
    if kind in ("model_type", "model_attributes_type", "dict_type") and within:
        return f"expected settings such as {{{item_keys(key)[0]}: ...}}"
    named = {
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "finite_number": "expected a finite number",
        "bool_type": "expected true or false",
        "string_type": "expected text",
        "tuple_type": "expected two numbers, such as [0.5, 1.0]",
        "missing": "expected two numbers, such as [0.5, 1.0]",
        "too_long": "expected two numbers, such as [0.5, 1.0]",
    }
    if kind in named:
        return named[kind]
    if kind == "literal_error":
        return f"expected one of {context['expected']}".replace("'", "")
    if kind == "union_tag_invalid":
        return f"expected one of {context['expected_tags']}".replace("'", "")
    comparison = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in comparison:
        words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}[comparison[kind]]
        return f"expected a number {words} {context[comparison[kind]]:g}"
    return str(detail["msg"])


def _nest(settings: Iterable[Setting]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for setting in settings:
        *parents, last = setting.key.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = setting.value
    for section, choice in choices().items():
        level = nested
        *parents, last = section.split(".")
        for parent in parents:
            level = level.get(parent, {})
        if last in level:
            level[last].setdefault("name", choice.default)
    return nested


def _in_flow_style(value: Any) -> Any:
    """Lists of values on one line, sections as blocks."""
    if isinstance(value, dict):
        return {key: _in_flow_style(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_in_flow_style(item) for item in value]
    if isinstance(value, list):
        sequence = CommentedSeq(value)
        sequence.fa.set_flow_style()
        return sequence
    return value
