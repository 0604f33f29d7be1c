"""How the runs of a comparison were made, as far as they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fieldmark.core.recipe.values import MEASURED, flat
from fieldmark.evaluation.run import Run
from fieldmark.reports.comparison.entries import Entry


def differing_settings(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """The settings in which trainings differ, with their values; ensembles have none of their own."""
    recipes = [flat(entry.run.recipe) for entry in entries if entry.run.ensemble is None]
    return _differing(recipes)


def differing_conditions(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """What else the runs were made with, if that differs."""
    return _differing([_made_with(entry.run) | {"device": entry.run.folder.manifest().device} for entry in entries])


def seed_alone(first: Entry, rival: Entry) -> bool:
    """Whether they are trainings of one recipe, with different seeds."""
    if first.run.ensemble is not None or rival.run.ensemble is not None:
        return False
    if _made_with(first.run) != _made_with(rival.run):
        return False
    one, other = (flat(entry.run.recipe) for entry in (first, rival))
    changed = {key for key in one.keys() | other.keys() if one.get(key, ...) != other.get(key, ...)}
    return "train.seed" in changed and changed <= {"train.seed", *MEASURED}


def _made_with(run: Run) -> dict[str, Any]:
    """What decides the result apart from the recipe."""
    manifest = run.folder.manifest()
    versions = {f"{name} version": version for name, version in manifest.versions.items() if name != "platform"}
    weights = {} if manifest.weights is None else {"starting weights, SHA-256": manifest.weights.sha256}
    return {"data fingerprint": manifest.fingerprint} | weights | versions


def _differing(values: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for each in values for key in each)
    rows = [(key, [_written(each[key]) if key in each else "–" for each in values]) for key in keys]
    return [(key, cells) for key, cells in rows if len(set(cells)) > 1]


def _written(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
