"""What a run will take, from a few steps of it: for plans of many runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.stages import Stage
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.datasets.loading import LoadedData
from fieldmark.evaluation.inference import Normalisation, logits_and_features
from fieldmark.models.weights import save_weights
from fieldmark.training.features import FeaturePlan, plan_features, trains_all
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loop import Training, run_loop
from fieldmark.training.position import Position
from fieldmark.training.prepare import fastest_arithmetic, prepare
from fieldmark.training.stages import apply_stage, stages_of
from fieldmark.training.tiles import preprocessing, training_tiles
from fieldmark.training.work import Work, phase_of

_STEPS = 4
_HARMLESS_LR = 1e-8
"""A recipe that will diverge takes as long as one that will not."""
_PREDICTED = 2
"""Batches of predictions that are timed."""


@dataclass(frozen=True)
class Cost:
    """One run, in seconds and bytes.

    start: reading the data and building the model; decode: of all images, which only the first run that sees them so has to do;
    train: all epochs; predict: validation after each, and the predictions at the end. `cache_bytes` of decoded images are shared too.
    `working_bytes` are those of the run folder while it trains, `run_bytes` those that stay.
    """

    steps: int
    start_seconds: float
    decode_seconds: float
    train_seconds: float
    predict_seconds: float
    cache_bytes: int
    working_bytes: int
    run_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(data: str | Path, recipe: Recipe, console: Console) -> Cost:
    """Train a few steps on a few of the images, in a temporary folder.

    Raises what train_run raises before its folder is made, so that what would fail there fails here.
    """
    started = time.perf_counter()
    prepared = prepare(data, recipe, console)
    start_seconds = time.perf_counter() - started
    loaded, built = prepared.loaded, prepared.built
    train, val, test = (len(loaded.rows(split)) for split in ("train", "val", "test"))
    arithmetic = fastest_arithmetic(prepared, recipe, console)
    batch = min(recipe.train.batch, train)
    folder = Path(tempfile.mkdtemp(prefix="fieldmark-"))
    try:
        started = time.perf_counter()
        sample, cache = training_tiles(_sample(loaded, _STEPS * batch), recipe, console, folder)
        decode_seconds = (time.perf_counter() - started) / len(cache.array)
        rehearsal = recipe.model_copy(
            update={
                "train": recipe.train.model_copy(update={"epochs": 2 * len(stages_of(recipe)), "keep_checkpoints": 1, "log_every": 1}),
                "optim": recipe.optim.model_copy(update={"lr": _HARMLESS_LR}),
            }
        )
        with RunFolder.create(folder / "run") as run:
            pass
        run = RunFolder(folder / "run")
        work = Work(run, rehearsal, sample, built.model, arithmetic, preprocessing(recipe.data, built, sample, cache), cache, console)
        training = phase_of(work, Interrupt(), Position(), None)
        plans = [_features(stage, epochs, training) for stage, (_, epochs) in zip(stages_of(recipe), recipe.stage_spans(), strict=True)]
        stages = tuple(
            stage.model_copy(update={"epochs": 2, "views": 1 if found else None})
            for stage, found in zip(stages_of(recipe), plans, strict=True)
        )
        training.recipe = rehearsal.model_copy(update={"stages": stages})
        run_loop(training)
        timed = np.array([row["seconds"] for row in read_json_lines(run.metrics_file)]) / training.batches.steps_per_epoch
        begin_seconds, step_seconds = timed[0::2] - timed[1::2], timed[1::2]
        state_bytes = training.checkpoints.paths()[0].stat().st_size
        save_weights(built.model, run.best_weights, {})
        weights_bytes = run.best_weights.stat().st_size
        count = min(_PREDICTED * recipe.evaluate.batch, train)
        pixels = np.zeros((count, 3, recipe.data.size, recipe.data.size), np.uint8)
        normalisation = Normalisation(work.preprocess.mean, work.preprocess.std)
        built.model.eval()
        logits_and_features(built.model, pixels[: recipe.evaluate.batch], normalisation, arithmetic, recipe.evaluate.batch)
        started = time.perf_counter()
        logits, features = logits_and_features(built.model, pixels, normalisation, arithmetic, recipe.evaluate.batch)
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
    answers_bytes = everything * (logits.shape[1] + features.shape[1]) * 4
    return Cost(
        steps=epochs * steps_per_epoch,
        start_seconds=start_seconds,
        decode_seconds=decode_seconds * (2 * train + 2 * val + test),
        train_seconds=steps_per_epoch * float(stage_seconds),
        predict_seconds=predict_seconds * (epochs * val + everything),
        cache_bytes=(train + val) * cache.array[0].nbytes + everything * pixels[0].nbytes,
        working_bytes=recipe.train.keep_checkpoints * state_bytes + 2 * weights_bytes + answers_bytes + feature_bytes,
        run_bytes=weights_bytes + answers_bytes,
    )


def _features(stage: Stage, epochs: int, training: Training) -> FeaturePlan | None:
    """What a stage of the recipe will compute only once."""
    apply_stage(training.model, stage)
    if trains_all(training.model):
        return None
    plan = plan_features(stage, epochs, training.batches.with_views(stage.views), training.model, training.arithmetic)
    return plan if isinstance(plan, FeaturePlan) else None


def _sample(loaded: LoadedData, count: int) -> LoadedData:
    """Some images of train, evenly spread over it."""
    rows = loaded.rows("train")
    return loaded.take(rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))])
