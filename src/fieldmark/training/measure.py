"""The time and disk space that a run will take, estimated from a few steps: for plans of many runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.batches.tiles import Tiles
from fieldmark.core.console import Console
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.datasets.loading import LoadedData, find_data
from fieldmark.evaluation.inference import Normalisation, logits_and_features
from fieldmark.models.weights import save_weights
from fieldmark.training.features import FeaturePlan, plan_features, trains_all
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.job import phase
from fieldmark.training.loop import run_loop
from fieldmark.training.position import Position
from fieldmark.training.setup import Setup, read_and_build, setup_of
from fieldmark.training.stages import apply_stage, stages_of

_STEPS = 4
_HARMLESS_LR = 1e-8
"""Low enough that no recipe diverges, which would stop the measurement."""
_PREDICTED = 2
"""Number of batches of predictions that are timed."""


@dataclass(frozen=True)
class Cost:
    """The cost of one run, in seconds and bytes.

    start: reading the data and building the model; decode: of all images, which only the first run that sees them so has to do;
    train: all epochs; predict: validation after each, and the predictions at the end. `cache_bytes` of decoded images are shared too.
    `working_bytes` are those of the run folder while it trains, `run_bytes` those that stay. `precision` and `memory_format` are those of
    the measurement, the fastest if the recipe leaves them open.
    """

    steps: int
    start_seconds: float
    decode_seconds: float
    train_seconds: float
    predict_seconds: float
    cache_bytes: int
    working_bytes: int
    run_bytes: int
    precision: str
    memory_format: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(data: str | Path, recipe: Recipe, console: Console) -> Cost:
    """Train a few steps on a few of the images, in a temporary folder.

    Raises whatever train_run raises before it makes its folder.
    """
    started = time.perf_counter()
    loaded, built = read_and_build(find_data(data, recipe.data, console), recipe, console)
    start_seconds = time.perf_counter() - started
    train, val, test = (len(loaded.rows(split)) for split in ("train", "val", "test"))
    batch = min(recipe.train.batch, train)
    folder = Path(tempfile.mkdtemp(prefix="fieldmark-"))
    try:
        started = time.perf_counter()
        tiles = Tiles.decode(_sample(loaded, _STEPS * batch), recipe.data, console, folder)
        decode_seconds = (time.perf_counter() - started) / len(tiles.rows)
        setup = setup_of(tiles, built, recipe, console)
        with RunFolder.create(folder / "run") as run:
            pass
        run = RunFolder(folder / "run")
        plans = _plans(setup)
        epochs = 2 * len(plans)
        job = phase(replace(setup, recipe=_rehearsal(setup.recipe, plans)), run, Interrupt(), Position(), None, epochs)
        run_loop(job, Position())
        timed = np.array([row["seconds"] for row in read_json_lines(run.metrics_file)]) / job.steps_per_epoch
        begin_seconds, step_seconds = timed[0::2] - timed[1::2], timed[1::2]
        state_bytes = job.keeper.checkpoints.paths()[0].stat().st_size
        save_weights(built.model, run.best_weights, {})
        weights_bytes = run.best_weights.stat().st_size
        count = min(_PREDICTED * recipe.evaluate.batch, train)
        pixels = np.zeros((count, 3, recipe.data.size, recipe.data.size), np.uint8)
        normalisation = Normalisation(setup.preprocess.mean, setup.preprocess.std)
        built.model.eval()
        logits_and_features(setup.model, pixels[: recipe.evaluate.batch], normalisation, setup.execution, recipe.evaluate.batch)
        started = time.perf_counter()
        logits, features = logits_and_features(setup.model, pixels, normalisation, setup.execution, recipe.evaluate.batch)
        predict_seconds = (time.perf_counter() - started) / count
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    epochs = recipe.train.epochs
    steps_per_epoch = train // batch + ((train + val) // batch if recipe.train.refit else 0)
    stage_epochs = [epochs for _, epochs in recipe.stage_spans()]
    views = [plan.views if plan else 0 for plan in plans]
    stage_seconds = np.dot(stage_epochs, step_seconds) + np.dot(views, begin_seconds.clip(0))
    feature_bytes = max((plan.views * train + val) * plan.prefix.like.nbytes if plan else 0 for plan in plans)
    everything = train + val + test
    rejection_bytes = train * features.shape[1] * 4  # of rejection scores that use neighbours
    answers_bytes = everything * (logits.shape[1] + features.shape[1]) * 4 + rejection_bytes
    return Cost(
        steps=epochs * steps_per_epoch,
        start_seconds=start_seconds,
        decode_seconds=decode_seconds * (2 * train + 2 * val + test),
        train_seconds=steps_per_epoch * float(stage_seconds),
        predict_seconds=predict_seconds * (epochs * val + everything),
        cache_bytes=(train + val) * tiles.pixels[0].nbytes + everything * pixels[0].nbytes,
        working_bytes=job.keeper.checkpoints.most * state_bytes + 2 * weights_bytes + answers_bytes + feature_bytes,
        run_bytes=recipe.train.keep_checkpoints * state_bytes + weights_bytes + answers_bytes,
        precision=setup.execution.precision,
        memory_format=setup.execution.layout,
    )


def _plans(setup: Setup) -> list[FeaturePlan | None]:
    """The features that each stage of the recipe will compute only once."""
    recipe, model = setup.recipe, setup.model
    setup.execution.prepare(model)
    batches, plans = setup.batches("fit"), list[FeaturePlan | None]()
    for stage, (_, epochs) in zip(stages_of(recipe), recipe.stage_spans(), strict=True):
        apply_stage(model, stage)
        plan = "" if trains_all(model) else plan_features(stage, epochs, batches.with_views(stage.views), model, setup.execution)
        plans.append(plan if isinstance(plan, FeaturePlan) else None)
    return plans


def _rehearsal(recipe: Recipe, plans: list[FeaturePlan | None]) -> Recipe:
    """Two epochs of each stage, the first of which computes the features, at a harmless learning rate."""
    stages = (
        stage.model_copy(update={"epochs": 2, "views": 1 if plan else None}) for stage, plan in zip(stages_of(recipe), plans, strict=True)
    )
    train = recipe.train.model_copy(update={"epochs": 2 * len(plans), "log_every": 1})
    return recipe.model_copy(
        update={"stages": tuple(stages), "train": train, "optim": recipe.optim.model_copy(update={"lr": _HARMLESS_LR})}
    )


def _sample(loaded: LoadedData, count: int) -> LoadedData:
    """Some images of train, evenly spread over it."""
    rows = loaded.rows("train")
    return loaded.take(rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))])
