"""One training from start to finish: data, model, run folder, loop, predictions, summary."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.batches.erased_classes import Erased, cautions_of, erased_classes
from fieldmark.core.console import Console, duration
from fieldmark.core.errors import FieldmarkError, InputError, Interrupted, TrainingFailed
from fieldmark.core.files import storage_error, write_text
from fieldmark.core.manifest import Manifest
from fieldmark.core.names import typed
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder, new_run_path, now, read_json_lines, refuse_existing, versions
from fieldmark.core.summary import DatasetSummary, ModelSummary, Summary, TrainingSummary
from fieldmark.datasets.cautions import data_cautions
from fieldmark.datasets.dataset import UNKNOWN
from fieldmark.datasets.loading import FoundData, LoadedData, find_data
from fieldmark.datasets.split_file import origin_of, rows_of, split_columns, write_split
from fieldmark.evaluation.run import Run
from fieldmark.models.cost import macs, parameters
from fieldmark.models.cost import summary as architecture_summary
from fieldmark.models.device import device_name
from fieldmark.models.weights import load_weights, save_weights
from fieldmark.scoring.decisions import Wanted, fit_decisions, trust_notes
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import evaluate_predictions, metrics_table
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.job import Job, phase
from fieldmark.training.loop import run_loop
from fieldmark.training.position import Position
from fieldmark.training.setup import Setup, prepare, restore
from fieldmark.training.stages import stage_accounts
from fieldmark.training.starting_weights import known_images

_STOPPING = "stopping after this step; a second Ctrl-C stops at once"


def train_run(data: str | Path | FoundData, recipe: Recipe, out: str | Path | None = None, console: Console | None = None) -> Run:
    """Train on DATA, or on data that were found already, by a recipe; leaves a run folder behind (`out`, or a new one under runs/).

    Raises:
        InputError: the data, the weights or the folder cannot be used; nothing was written.
        CheckFailed: the model is over `model.max_parameters`; nothing was written.
        TrainingFailed: the loss was not finite. Interrupted: a signal came. In both cases the state is saved.
    """
    console = console or Console()
    if out is not None:
        refuse_existing(Path(out))
    found = data if isinstance(data, FoundData) else find_data(data, recipe.data, console)
    setup = prepare(found, recipe, console)
    path = Path(out) if out is not None else new_run_path(Path("runs"), f"{setup.loaded.dataset.name}-{recipe.model.name}")
    with RunFolder.create(path) as folder:
        _describe(setup, folder, found.given, identity(recipe))
    folder = RunFolder(path)
    with folder.locked():
        return _guarded(setup, folder, None)


def _describe(setup: Setup, folder: RunFolder, given: str, asked_for: str) -> None:
    """What a run folder holds before its first step."""
    recipe, loaded = setup.recipe, setup.loaded
    folder.write_recipe(recipe)
    save_weights(setup.model, folder.initial_weights, {"architecture": recipe.model.name})
    write_split(loaded, folder.split_file)
    write_text(folder.architecture_file, architecture_summary(setup.model, recipe.data.size) + "\n")
    folder.write_manifest(
        Manifest(
            status="running",
            created=now(),
            versions=versions(),
            device=device_name(setup.execution.device),
            given=given,
            recipe=asked_for,
            data=origin_of(loaded.dataset),
            fingerprint=loaded.fingerprint,
            class_names=tuple(loaded.dataset.class_names),
            levels={level.name: level.of_classes() for level in loaded.dataset.levels},
            preprocess=setup.preprocess.record(),
            notes=setup.notes,
            weights=setup.weights,
            licence=setup.licence,
            cautions=(*known_images(setup.weights, loaded, recipe.data.split_seed), *cautions_of(_erased(setup))),
        )
    )


def _erased(setup: Setup) -> list[Erased]:
    """Classes that the recipe's augmentation makes alike."""
    tiles = setup.tiles
    train = tiles.of("train")
    return erased_classes(tiles.pixels, train, tiles.labels, setup.loaded.dataset.class_names, setup.recipe.augment)


def resume_run(path: str | Path, console: Console | None = None, wait: float = 0) -> Run:
    """Continue a run from its newest sound checkpoint; the result equals that of an uninterrupted run.

    Waits up to `wait` seconds for a process that is still writing the run.

    Raises InputError if the folder is not a run, is being written, or its data have moved or changed.
    """
    console = console or Console()
    folder = RunFolder.open(path)
    with folder.locked(wait):
        manifest = folder.manifest()
        if manifest.status == "finished":
            _drop_working_files(folder)
            console.say(
                f"{folder.path} is finished; there is nothing to resume",
                f"Train on from its weights with: fieldmark train DATA model.weights={folder.path}",
            )
            return Run.load(folder.path)
        setup = restore(folder, console)
        folder.remove_leftovers()
        state, damaged = Checkpoints(folder.checkpoints, setup.recipe.train.keep_checkpoints).newest()
        console.say(*(f"{name} is damaged; the one before it is used" for name in damaged))
        console.say(f"resuming {folder.path}" + (_position_text(state["position"]) if state else " from the start"))
        for name, version in versions().items():
            if manifest.versions.get(name) != version:
                console.say(f"{name} was {manifest.versions.get(name)} when the run began and is {version} now: results may differ")
        folder.set_status("running")
        return _guarded(setup, folder, state)


def _guarded(setup: Setup, folder: RunFolder, state: dict[str, Any] | None) -> Run:
    """Train from `state` on, or from the start; the manifest says how it ended."""
    with setup.console.logging_to(folder.log_file):
        if state is None:
            setup.console.say(*(f"caution: {sentence}" for sentence in (*_cautions(setup.loaded), *folder.manifest().cautions)))
        try:
            _open_test(setup, folder, _train(setup, folder, state))
        except (Interrupted, KeyboardInterrupt) as stop:
            folder.set_status("interrupted")
            raise Interrupted(f"{stop or 'stopped'}. Continue with: fieldmark resume {typed(folder.path)}") from None
        except Exception as error:
            shutil.rmtree(folder.features, ignore_errors=True)
            readable = _readable(error, folder)
            reason = str(readable) if isinstance(readable, FieldmarkError) else f"{type(error).__name__}: {error}"
            with suppress(InputError):  # a disk that is full holds no reason either
                folder.set_status("failed", reason)
            raise readable from error
    return Run.load(folder.path)


def _cautions(loaded: LoadedData) -> list[str]:
    """What the report will say of the data before its figures are believed."""
    used = [row for row in rows_of(split_columns(loaded)) if not row["note"]]
    labels = loaded.dataset.labels[loaded.rows("test")]
    class_names = loaded.dataset.class_names
    return data_cautions(used, np.bincount(labels, minlength=len(class_names)), class_names)


def _readable(error: Exception, folder: RunFolder) -> Exception:
    """The error as the user should see it."""
    if isinstance(error, OSError):
        error = storage_error(error, folder.log_file)
    if isinstance(error, InputError) and any(problem.kind == "machine" for problem in error.problems):
        return InputError(*error.problems, hint=f"{error.hint or ''} Then continue with: fieldmark resume {typed(folder.path)}".lstrip())
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return InputError(
            "train.batch: a batch norm saw a single value per channel, which has no variance",
            hint="Raise train.batch, train.micro_batch or data.size, in a new run.",
        )
    return error


def _train(setup: Setup, folder: RunFolder, state: dict[str, Any] | None) -> Position:
    """Fit, then refit if the recipe asks for it; best.safetensors holds the weights to be used."""
    with Interrupt(lambda: setup.console.say(_STOPPING)) as interrupt:
        if state is not None and state["position"]["phase"] == "refit":
            at = _refit(setup, folder, interrupt, Position(**state["position"]), state)
        else:
            at = _fit(setup, folder, interrupt, state)
            if setup.recipe.train.refit:
                at = _refit(setup, folder, interrupt, replace(at, phase="refit", epoch=0, stale_epochs=0), None)
        if interrupt.requested:
            raise Interrupted("stopped after the last epoch; the state is saved")
    return at


def _fit(setup: Setup, folder: RunFolder, interrupt: Interrupt, state: dict[str, Any] | None) -> Position:
    """Train on train, choose the best epoch on val, and save that epoch's predictions of val."""
    if state is None:
        load_weights(setup.model, folder.initial_weights)

    def save_best(at: Position) -> None:
        setup.save_weights(folder.best_weights, epoch=at.best_epoch)

    job = phase(setup, folder, interrupt, Position("fit"), save_best, setup.recipe.train.epochs)
    at = _begin(job, Position("fit"), state)
    run_loop(job, at)
    if at.best_epoch == 0:
        raise TrainingFailed(f"no epoch reached a finite val {setup.recipe.evaluate.monitor}, so there is no best one to keep")
    load_weights(setup.model, folder.best_weights)
    save_predictions(setup, folder, "val")
    return at


def _refit(setup: Setup, folder: RunFolder, interrupt: Interrupt, at: Position, state: dict[str, Any] | None) -> Position:
    """Train from the initial weights on train and val together, for the epochs that val chose."""
    setup.console.say(f"refitting on train and val together for {at.best_epoch} epochs, as val chose")
    load_weights(setup.model, folder.initial_weights)
    job = phase(setup, folder, interrupt, at, None, at.best_epoch)
    at = _begin(job, at, state)
    run_loop(job, at)
    with job.averaging.in_model(at.best_weights):
        setup.save_weights(folder.best_weights, epoch=at.best_epoch)
    return at


def _begin(job: Job, at: Position, state: dict[str, Any] | None) -> Position:
    """Restore the state, or save the first one; returns the position."""
    if state is not None:
        at = job.keeper.restore(state)
    job.log.cut_back(at)
    if state is None:
        job.keeper.save(at)
    return at


def _position_text(position: dict[str, Any]) -> str:
    done = f", after {position['step']:,} of its steps" if position["step"] else ""
    return f" in {position['phase']}, at epoch {position['epoch'] + 1}{done}"


def _open_test(setup: Setup, folder: RunFolder, position: Position) -> None:
    """Evaluate test once, with the chosen weights, and write the results."""
    recipe, dataset, console = setup.recipe, setup.loaded.dataset, setup.console
    load_weights(setup.model, folder.best_weights)
    train, val = save_predictions(setup, folder, "train"), Predictions.load(folder.predictions / "val.npz")
    with console.busy("fitting what the run decides with"):
        fitted = fit_decisions(None if recipe.train.refit else train, val, folder.manifest().levels, Wanted())
        fitted.save(folder)
    test = save_predictions(setup, folder, "test")
    resamples, seed = recipe.evaluate.resamples, recipe.train.seed
    with console.busy(f"figures and their intervals from {resamples:,} resamples"):
        metrics = {
            "val": evaluate_predictions(val, resamples, seed, fitted.calibration.cross_fitted),
            "test": evaluate_predictions(test, resamples, seed, fitted.decisions.calibration(test.logits)),
        }
    if len(setup.loaded.rows(UNKNOWN)):
        save_predictions(setup, folder, UNKNOWN)
    rows = read_json_lines(folder.metrics_file)
    stages = stage_accounts(setup.model, recipe)
    summary = Summary(
        status="finished",
        dataset=DatasetSummary(
            name=dataset.name,
            classes=len(dataset.class_names),
            train=len(train.ids),
            val=len(val.ids),
            test=len(test.ids),
        ),
        model=ModelSummary(
            name=recipe.model.name,
            parameters=parameters(setup.model)[0],
            trainable=stages[-1].trainable_parameters,
            macs=macs(setup.model, recipe.data.size),
            input=(3, recipe.data.size, recipe.data.size),
        ),
        training=TrainingSummary(
            epochs=sum(row["phase"] == "fit" for row in rows),
            best_epoch=position.best_epoch,
            refit=recipe.train.refit,
            steps=position.steps,
            samples_seen=position.samples_in_all,
            seconds=round(position.seconds, 2),
            images_per_second=round(position.samples_in_all / position.seconds, 1),
            device=folder.manifest().device,
            precision=recipe.train.precision,
            stages=stages,
        ),
        val=metrics["val"],
        test=metrics["test"],
    )
    summary.write(folder.summary_file)
    folder.set_status("finished")
    _drop_working_files(folder)
    console.say("", metrics_table(metrics, summary.dataset.classes))
    console.say(*trust_notes(fitted, test, summary.test))
    trained = f"trained in {duration(position.seconds)}, seeing {position.samples_in_all:,} images over all epochs"
    console.say(f"{trained}; everything is in {folder.path}")


def _drop_working_files(folder: RunFolder) -> None:
    """Delete what only a run under way needs."""
    folder.initial_weights.unlink(missing_ok=True)
    Checkpoints(folder.checkpoints, folder.recipe().train.keep_checkpoints).drop()
    shutil.rmtree(folder.features, ignore_errors=True)


def save_predictions(setup: Setup, folder: RunFolder, split: str) -> Predictions:
    names = setup.loaded.dataset.class_names
    with setup.console.timed(f"predicting {split}"):
        predictions = setup.split(split).predict(setup.model, setup.execution, setup.recipe.evaluate.batch, setup.console, names)
        predictions.save(folder.predictions / f"{split}.npz")
    return predictions
