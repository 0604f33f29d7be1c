"""One training from start to finish: data, model, run folder, loop, predictions, summary."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fieldmark.core.console import Console, duration
from fieldmark.core.errors import FieldmarkError, InputError, Interrupted, TrainingFailed
from fieldmark.core.files import storage_error, write_text
from fieldmark.core.manifest import Manifest
from fieldmark.core.recipe.load import with_settings
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder, new_run_path, now, read_json_lines, refuse_existing, versions
from fieldmark.core.summary import DatasetSummary, ModelSummary, SplitMetrics, Summary, TrainingSummary
from fieldmark.datasets.dataset import UNKNOWN
from fieldmark.datasets.split_file import origin_of, restore_data, write_split
from fieldmark.evaluation.run import Run
from fieldmark.models.arithmetic import Arithmetic
from fieldmark.models.cost import macs, parameters
from fieldmark.models.cost import summary as architecture_summary
from fieldmark.models.device import choose_device, device_name
from fieldmark.models.factory import build_model
from fieldmark.models.weights import load_weights, save_weights
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.decisions import Wanted, fit_decisions
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import evaluate_predictions, figures_table
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loop import Training, run_loop
from fieldmark.training.position import Position
from fieldmark.training.prepare import check_extras, fastest_arithmetic, prepare, prepare_machine, weights_seed
from fieldmark.training.stages import stage_accounts
from fieldmark.training.tiles import preprocessing, training_tiles
from fieldmark.training.work import Work, phase_of, save_best, save_predictions, validation


def train_run(data: str | Path, recipe: Recipe, out: str | Path | None = None, console: Console | None = None) -> Run:
    """Train on DATA by a recipe and leave a run folder behind (`out`, or a new folder under runs/).

    Raises:
        InputError: the data, the weights or the folder cannot be used; nothing was written.
        CheckFailed: the model is over `model.max_parameters`; nothing was written.
        TrainingFailed: the loss was not finite. Interrupted: a signal came. In both cases the state is saved.
    """
    console = console or Console()
    if out is not None:
        refuse_existing(Path(out))
    asked_for = identity(recipe)
    prepared = prepare(data, recipe, console)
    built = prepared.built
    loaded, cache = training_tiles(prepared.loaded, recipe, console)
    total, _ = parameters(built.model)
    console.say(f"{recipe.model.name}: {total / 1e6:.2f} M parameters, {macs(built.model, recipe.data.size) / 1e6:,.0f} M multiply-adds")
    console.say(*built.notes)
    preprocess = preprocessing(recipe.data, built, loaded, cache)
    arithmetic = fastest_arithmetic(prepared, recipe, console)
    device = arithmetic.device
    measured_choices = {"train.precision": arithmetic.precision, "train.memory_format": arithmetic.layout}
    recipe = with_settings(recipe, {**measured_choices, "train.device": device.type, "train.threads": torch.get_num_threads()})

    path = Path(out) if out is not None else new_run_path(Path("runs"), f"{loaded.dataset.name}-{recipe.model.name}")
    with RunFolder.create(path) as folder:
        folder.write_recipe(recipe)
        save_weights(built.model, folder.initial_weights, {"architecture": recipe.model.name})
        write_split(loaded, folder.split_file)
        write_text(folder.architecture_file, architecture_summary(built.model, recipe.data.size) + "\n")
        folder.write_manifest(
            Manifest(
                status="running",
                created=now(),
                versions=versions(),
                device=device_name(device),
                given=str(data),
                recipe=asked_for,
                data=origin_of(loaded.dataset),
                fingerprint=loaded.fingerprint,
                class_names=tuple(loaded.dataset.class_names),
                levels={level.name: level.of_classes() for level in loaded.dataset.levels},
                preprocess=preprocess.record(),
                notes=tuple(built.notes),
            )
        )
    folder = RunFolder(path)
    with folder.locked():
        work = Work(folder, recipe, loaded, built.model, arithmetic, _preprocess(folder), cache, console)
        return _guarded(work, None)


def resume_run(path: str | Path, console: Console | None = None, wait: float = 0) -> Run:
    """Continue a run where its newest sound checkpoint stands; the result equals that of a run never stopped.

    A process that is still writing the run is waited for, up to `wait` seconds.

    Raises InputError where the folder is not a run, is being written, or its data have moved or changed.
    """
    console = console or Console()
    folder = RunFolder.open(path)
    with folder.locked(wait):
        recipe, manifest = folder.recipe(), folder.manifest()
        if manifest.status == "finished":
            console.say(f"{folder.path} is finished; there is nothing to resume")
            return Run.load(folder.path)
        check_extras(recipe)
        prepare_machine(recipe)
        names = manifest.class_names
        loaded = restore_data(manifest.data, folder.split_file, names, console)
        if loaded.fingerprint != manifest.fingerprint:
            raise InputError(f"{folder.split_file} was changed after the run began", hint="Train a new run.")
        folder.remove_leftovers()
        state, damaged = Checkpoints(folder.checkpoints, recipe.train.keep_checkpoints).newest()
        console.say(*(f"{name} is damaged; the one before it is used" for name in damaged))
        console.say(f"resuming {folder.path}" + (_position_text(state["position"]) if state else " from the start"))
        for name, version in versions().items():
            if manifest.versions.get(name) != version:
                console.say(f"{name} was {manifest.versions.get(name)} when the run began and is {version} now: results may differ")
        loaded, cache = training_tiles(loaded, recipe, console)
        settings = recipe.model.model_copy(update={"weights": "none"})
        model = build_model(settings, len(names), recipe.data.size, weights_seed(recipe)).model
        arithmetic = Arithmetic.of(choose_device(recipe.train.device), recipe.train.precision, recipe.train.memory_format)
        folder.set_status("running")
        return _guarded(Work(folder, recipe, loaded, model, arithmetic, _preprocess(folder), cache, console), state)


def _preprocess(folder: RunFolder) -> Preprocess:
    return Preprocess.of(folder.manifest().preprocess)


def _guarded(work: Work, state: dict[str, Any] | None) -> Run:
    """Do the work from `state` on, or from the start; the manifest says how it ended."""
    with work.console.logging_to(work.folder.log_file):
        try:
            _finish(work, _train(work, state))
        except (Interrupted, KeyboardInterrupt) as stop:
            work.folder.set_status("interrupted")
            raise Interrupted(f"{stop or 'stopped'}. Continue with: fieldmark resume {work.folder.path}") from None
        except OSError as error:
            readable = storage_error(error, work.folder.log_file)
            work.folder.set_status("failed", str(readable))
            raise readable from error
        except Exception as error:
            shutil.rmtree(work.folder.features, ignore_errors=True)
            readable = _readable(error)
            work.folder.set_status("failed", str(readable) if isinstance(readable, FieldmarkError) else f"{type(error).__name__}: {error}")
            raise readable from error
    return Run.load(work.folder.path)


def _readable(error: Exception) -> Exception:
    """The error as the user should see it."""
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return InputError(
            "train.batch: a batch norm saw a single value of each channel, which has no spread",
            hint="Raise train.batch, train.micro_batch or data.size, in a new run.",
        )
    return error


def _train(work: Work, state: dict[str, Any] | None) -> Position:
    """Fit, then refit where the recipe asks for it; best.safetensors holds the weights to be used."""
    with Interrupt() as interrupt:
        if state is not None and state["position"]["phase"] == "refit":
            position = _refit(work, interrupt, Position(**state["position"]), state)
        else:
            position = _fit(work, interrupt, state)
            if work.recipe.train.refit:
                position = _refit(work, interrupt, replace(position, phase="refit", epoch=0, stale_epochs=0), None)
        if interrupt.requested:
            raise Interrupted("stopped after the last epoch; the state is saved")
    return position


def _fit(work: Work, interrupt: Interrupt, state: dict[str, Any] | None) -> Position:
    """Train on train, choose the best epoch on val, and save that epoch's predictions of val."""
    if state is None:
        load_weights(work.model, work.folder.initial_weights)
    training = phase_of(work, interrupt, Position("fit"), validation(work))
    _begin(training, state)
    run_loop(training)
    if training.position.best_epoch == 0:
        raise TrainingFailed(f"no epoch gave a finite val {work.recipe.evaluate.monitor}, so there is no best one to keep")
    load_weights(work.model, work.folder.best_weights)
    save_predictions(work, "val")
    return training.position


def _refit(work: Work, interrupt: Interrupt, position: Position, state: dict[str, Any] | None) -> Position:
    """Train from the initial weights on train and val together, for the epochs that val chose."""
    work.console.say(f"refitting on train and val together for {position.best_epoch} epochs, as val chose")
    load_weights(work.model, work.folder.initial_weights)
    training = phase_of(work, interrupt, position, None)
    _begin(training, state)
    run_loop(training)
    with training.weights(training.position.best_weights):
        save_best(work, training.position)
    return training.position


def _begin(training: Training, state: dict[str, Any] | None) -> None:
    """Take up the state, or save the first one."""
    if state is not None:
        training.load_state(state)
    else:
        training.cut_records()
        training.checkpoints.save(training.position.steps, training.state())


def _position_text(position: dict[str, Any]) -> str:
    return f" in {position['phase']}, epoch {position['epoch'] + 1}, after step {position['step']}"


def _finish(work: Work, position: Position) -> None:
    """Open test once, with the chosen weights, and write the answer."""
    folder, recipe, dataset = work.folder, work.recipe, work.loaded.dataset
    load_weights(work.model, folder.best_weights)
    train, val = save_predictions(work, "train"), Predictions.load(folder.predictions / "val.npz")
    fitted = fit_decisions(None if recipe.train.refit else train, val, folder.manifest().levels, Wanted())
    fitted.save(folder)
    test = save_predictions(work, "test")
    resamples, seed = recipe.evaluate.resamples, recipe.train.seed
    figures = {
        "val": evaluate_predictions(val, resamples, seed, fitted.calibration.cross_fitted),
        "test": evaluate_predictions(test, resamples, seed, fitted.decisions.calibration(test.logits)),
    }
    if len(work.loaded.rows(UNKNOWN)):
        save_predictions(work, UNKNOWN)
    rows = read_json_lines(folder.metrics_file)
    stages = stage_accounts(work.model, recipe)
    summary = Summary(
        status="finished",
        dataset=DatasetSummary(
            name=dataset.name,
            classes=len(dataset.class_names),
            train=len(work.loaded.rows("train")),
            val=len(work.loaded.rows("val")),
            test=len(work.loaded.rows("test")),
        ),
        model=ModelSummary(
            name=recipe.model.name,
            parameters=parameters(work.model)[0],
            trainable=stages[-1].trainable_parameters,
            macs=macs(work.model, recipe.data.size),
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
        val=SplitMetrics.model_validate(figures["val"]),
        test=SplitMetrics.model_validate(figures["test"]),
    )
    summary.write(folder.summary_file)
    folder.set_status("finished")
    folder.initial_weights.unlink(missing_ok=True)
    shutil.rmtree(folder.features, ignore_errors=True)
    work.console.say("", figures_table(figures))
    work.console.say(f"trained {position.samples_in_all:,} images in {duration(position.seconds)}; everything is in {folder.path}")
