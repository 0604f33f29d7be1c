"""What a study tells a worker process to do: to train one run, or to measure the cost of some recipes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from fieldmark.core.recipe.load import with_settings
from fieldmark.core.recipe.recipe import Recipe


class TrainTask(BaseModel):
    """Train in the run folder `path`, or continue the run that is there."""

    model_config = ConfigDict(frozen=True)

    task: Literal["train"] = "train"
    data: str
    recipe: Recipe
    path: Path


class MeasureTask(BaseModel):
    """Answer with the cost of each recipe on standard output, as one line of JSON each."""

    model_config = ConfigDict(frozen=True)

    task: Literal["measure"] = "measure"
    data: str
    recipes: tuple[Recipe, ...]


Task = TrainTask | MeasureTask
_TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Field(discriminator="task")])


def read_task(line: bytes) -> Task:
    return _TASK.validate_json(line)


def train_task(data: str, recipe: Recipe, path: Path, threads: int) -> TrainTask:
    return TrainTask(data=data, recipe=_with_threads(recipe, threads), path=path)


def measure_task(data: str, recipes: Sequence[Recipe], threads: int) -> MeasureTask:
    return MeasureTask(data=data, recipes=tuple(_with_threads(recipe, threads) for recipe in recipes))


def _with_threads(recipe: Recipe, threads: int) -> Recipe:
    """A recipe that leaves the threads open gets its share of the cores."""
    return recipe if recipe.train.threads is not None else with_settings(recipe, {"train.threads": threads})
