"""Recipes from layers: a preset extends another, a file extends a preset, `key=value` comes last.

Each layer is a list of settings with dotted keys that remember where they were written, so that an error can say so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.arguments import described
from fieldmark.core.errors import InputError, Problem
from fieldmark.core.presets import RECIPES, Source
from fieldmark.core.recipe.fields import item_keys, sections
from fieldmark.core.yaml_text import line_of, parse, parse_value, plain, show

_DEEPEST = 8
_COMMAND_LINE = "command line"
_PYTHON = "the settings given"


@dataclass(frozen=True)
class Setting:
    """A value for a dotted key, and where it was written; `preset` if that is a recipe that comes with Fieldmark."""

    key: str
    value: Any
    origin: str
    preset: bool = False

    def wrong(self, what: str, *others: str) -> Problem:
        """A problem of this setting; `others` are further keys that are involved."""
        return Problem(what, place=self.key, origin=self.origin, keys=(self.key, *others))


Layer = list[Setting]


def base_layers(base: str | dict[str, Any], source: Source, problems: list[Problem]) -> list[Layer]:
    """The layers of a recipe that another file (`source`) names, or holds as a mapping. What is wrong is added to `problems`."""
    if isinstance(base, str):
        return file_layers(source.beside(base), problems)
    return _extending_layers(base, source, problems, ())


def file_layers(name: str | Path, problems: list[Problem], seen: tuple[str, ...] = ()) -> list[Layer]:
    """The layers of a preset or a file: those of what it extends first. What is wrong is added to `problems`."""
    source = RECIPES.read(name)
    if source.origin in seen:
        raise InputError(f"{source.origin} extends itself: {' -> '.join([*seen, source.origin])}")
    return _extending_layers(parse(source.text, source.origin), source, problems, (*seen, source.origin))


def _extending_layers(values: dict[str, Any], source: Source, problems: list[Problem], seen: tuple[str, ...]) -> list[Layer]:
    """The layers of the recipe that `values` extend, and their own."""
    parent = values.get("extends")
    if not isinstance(parent, str | None):
        raise InputError(Problem(f"expected the name of a recipe or a file, got {show(parent)}", place="extends", origin=source.origin))
    read = read_layer(values, source.origin, problems)
    layer = [replace(setting, preset=source.folder is None) for setting in read if setting.key != "extends"]
    return [layer] if parent is None else [*file_layers(source.beside(parent), problems, seen), layer]


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


def settings_layer(settings: Iterable[str | Mapping[str, Any]], problems: list[Problem]) -> Layer:
    """The settings that a user gives: texts `key=value`, or dictionaries from Python. What is wrong is added to `problems`."""
    layer: dict[str, Setting] = {}
    for given in settings:
        if isinstance(given, str):
            read = _of_text(given, problems)
        elif isinstance(given, Mapping):
            read = _flatten(_of_python(given), _PYTHON, problems)
        else:
            hint = 'it is a text such as "train.epochs=5" or a dictionary such as {"train.epochs": 5}'
            problems.append(Problem(f"{described(given)} is no setting", remedy=hint))
            continue
        for setting in read:
            if setting.key in layer:
                problems.append(Problem(f"{setting.key} is given twice", origin=setting.origin, keys=(setting.key,)))
            layer.setdefault(setting.key, setting)
    return list(layer.values())


def setting_texts(settings: Iterable[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """The same settings, all of them as texts `key=value`. Raises InputError for what is neither a text nor a dictionary."""
    texts: list[str] = []
    problems: list[Problem] = []
    for given in settings:
        read = [] if isinstance(given, str) else settings_layer([given], problems)
        texts += [given] if isinstance(given, str) else [f"{each.key}={json.dumps(each.value)}" for each in read]
    if problems:
        raise InputError(*problems)
    return tuple(texts)


def _of_text(text: str, problems: list[Problem]) -> Layer:
    """The setting of one `key=value`; none if it is wrong, which is added to `problems`."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*(\[\d+\]\.\w+)?", key):
        problems.append(Problem(f"{text!r} is not of the form key=value, such as train.epochs=12", origin=_COMMAND_LINE))
        return []
    setting = Setting(key, value.strip(), _COMMAND_LINE)
    try:
        parsed = parse_value(value)
    except ValueError as error:
        problems.append(setting.wrong(str(error)))
        return []
    if isinstance(parsed, dict) and item_keys(key):
        problems.append(setting.wrong(f"expected a list of sections, such as {key}=[{setting.value}]"))
        return []
    if isinstance(parsed, dict):
        problems.append(setting.wrong(f"give one key at a time, such as {key}.{next(iter(parsed), 'name')}=..."))
        return []
    return [replace(setting, value=plain(parsed, _COMMAND_LINE))]


def _of_python(value: Any) -> Any:
    """A value as a YAML file would hold it: paths are text, tuples are lists, NumPy's numbers are Python's."""
    if isinstance(value, Mapping):
        return {key: _of_python(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_of_python(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value
