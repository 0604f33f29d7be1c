"""The values of a recipe: by dotted key, as the digest that identifies a run, and as YAML."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from fieldmark.core.recipe.fields import fields
from fieldmark.core.recipe.recipe import Recipe

MEASURED = ("train.precision", "train.memory_format", "train.device", "train.threads")
"""Keys that a run resolves when it begins."""


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
