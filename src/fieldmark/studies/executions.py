"""One precision and memory format for each network of a study, so that its runs differ in nothing but what the study changes.

Runs that choose for themselves, next to one another, choose by what the other leaves of the processor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import with_settings
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.studies.plan import PlannedRun

_PRECISION, _FORMAT = "train.precision", "train.memory_format"


def with_executions(runs: Sequence[PlannedRun], measured: Mapping[Path, tuple[str, str]]) -> dict[Path, Recipe]:
    """The recipes of the runs in `measured`, by path, with what they leave open decided.

    runs: all of the study; what one of them was begun with is that of all others of its network. measured: precision and memory format
    that were fastest in the plan, of the runs still to be done.
    """
    chosen: dict[str, tuple[str, str]] = {}
    for run in runs:
        if (begun := _begun_with(run)) is not None:
            chosen.setdefault(_network(run), begun)
    for run in runs:
        if run.path in measured:
            chosen.setdefault(_network(run), measured[run.path])
    return {run.path: _decided(run.recipe, *chosen[_network(run)]) for run in runs if run.path in measured}


def _begun_with(run: PlannedRun) -> tuple[str, str] | None:
    try:
        train = RunFolder(run.path).recipe().train
    except InputError:
        return None
    return train.precision, train.memory_format


def _network(run: PlannedRun) -> str:
    """Equal for runs in which the same execution is fastest, and which leave the same open."""
    recipe, train = run.recipe, run.recipe.train
    model = recipe.model.structure().model_dump(mode="json")
    decides = (
        run.dataset.given,
        model,
        recipe.data.size,
        train.batch,
        train.micro_batch,
        train.device,
        train.precision,
        train.memory_format,
    )
    return json.dumps(decides, sort_keys=True)


def _decided(recipe: Recipe, precision: str, memory_format: str) -> Recipe:
    open_keys = {_PRECISION: (recipe.train.precision, precision), _FORMAT: (recipe.train.memory_format, memory_format)}
    return with_settings(recipe, {key: found for key, (asked, found) in open_keys.items() if asked == "auto"})
