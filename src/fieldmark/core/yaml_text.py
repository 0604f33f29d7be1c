"""YAML 1.2 as users write it: read strictly, with what is wrong and in which line."""

from __future__ import annotations

import json
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fieldmark.core.errors import InputError, Problem


def parse(text: str, origin: str) -> dict[str, Any]:
    """The mapping that a file holds; it remembers the lines of its keys. Raises InputError if it is not YAML, or not a mapping."""
    try:
        values = _yaml().load(text)
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{origin}{where}: {_first_line(error.problem or error)}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{origin}: not valid YAML: {_first_line(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{origin}: expected sections such as 'train:', got {show(values)}")
    return values


def parse_value(text: str) -> Any:
    """One value, such as 1e-3 or [0.5, 1.0]. Raises ValueError saying what is wrong."""
    try:
        return _yaml().load(text) if text.strip() else ""
    except (YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{text!r} is not valid YAML: {_first_line(error)}") from None


def line_of(values: dict[Any, Any], key: Any, origin: str) -> str:
    """`origin` with the line of a key, where `values` come from a file and remember it."""
    if isinstance(values, CommentedMap) and key in (values.lc.data or {}):
        return f"{origin}, line {values.lc.data[key][0] + 1}"
    return origin


def plain(value: Any, origin: str) -> Any:
    """Python's own numbers, words, lists, and mappings within lists. Raises InputError for a value of another kind."""
    if isinstance(value, (list, CommentedSeq)):
        return [_entry(item, origin) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if type(value).__name__ == "ScalarBoolean":
        return bool(value)
    raise InputError(Problem(f"a value that a recipe cannot hold: {show(value)}", origin=origin))


def _entry(item: Any, origin: str) -> Any:
    return {str(key): plain(value, origin) for key, value in item.items()} if isinstance(item, dict) else plain(item, origin)


def show(value: Any) -> str:
    """A value as an error message quotes it: at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.version = (1, 2)
    return yaml


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else "cannot be read"
