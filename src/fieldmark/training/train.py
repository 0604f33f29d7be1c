"""One training from start to finish: data, model, run folder, loop, predictions, summary."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldmark.core.console import Console, duration, table
from fieldmark.core.device import choose_device, device_name, keep_freed_memory, set_threads
from fieldmark.core.errors import FieldmarkError, InputError, Interrupted, TrainingFailed
from fieldmark.core.files import storage_error, write_json, write_text
from fieldmark.core.randomness import key
from fieldmark.core.recipe import with_settings
from fieldmark.core.run_folder import RunFolder, new_run_path, now, read_json_lines, refuse_existing, versions
from fieldmark.core.schema import Recipe
from fieldmark.data.batches import TrainBatches
from fieldmark.data.geometry import Frame, leaves_picture
from fieldmark.data.loading import LoadedData, check_readable, load_data, restore_data, write_split
from fieldmark.data.pixels import PixelCache, View, default_cache_dir, open_pixels
from fieldmark.evaluation.inference import Normalisation, infer
from fieldmark.evaluation.metrics import macro_f1, nll, top_k
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.summary import evaluate_predictions
from fieldmark.models.arithmetic import Arithmetic, choose_arithmetic
from fieldmark.models.cost import check_budget, macs, parameters
from fieldmark.models.cost import summary as architecture_summary
from fieldmark.models.factory import Classifier, build_model
from fieldmark.models.weights import load_weights, save_weights
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loop import Position, Training, run_loop
from fieldmark.training.optimizer import build_optimizer

SUMMARY_SCHEMA = 1


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
    check_extras(recipe)
    prepare_machine(recipe)
    device = choose_device(recipe.train.device)
    loaded = load_data(data, recipe.data, console)
    classes = len(loaded.dataset.class_names)
    built = build_model(recipe.model, classes, recipe.data.size, _weights_seed(recipe))
    total, _ = parameters(built.model)
    if recipe.model.max_parameters is not None:
        check_budget(built.model, recipe.model.max_parameters, f"{recipe.model.name} with {classes:,} classes")
    check_readable(loaded, recipe.data.max_unreadable, console)
    loaded, cache = _training_tiles(loaded, recipe, console)
    console.say(f"{recipe.model.name}: {total / 1e6:.2f} M parameters, {macs(built.model, recipe.data.size) / 1e6:,.0f} M multiply-adds")
    console.say(*built.notes)
    arithmetic, speeds = choose_arithmetic(
        built.model,
        recipe.data.size,
        recipe.train.batch,
        device,
        recipe.train.precision,
        recipe.train.memory_format,
        default_cache_dir(),
        recipe.model.name,
    )
    measured = f" (images/s: {', '.join(f'{name} {speed:.0f}' for name, speed in speeds.items())})" if speeds else ""
    console.say(f"training in {arithmetic.precision}, {arithmetic.layout}, on {device_name(device)}{measured}")
    recipe = with_settings(recipe, {"train.precision": arithmetic.precision, "train.memory_format": arithmetic.layout})

    path = Path(out) if out is not None else new_run_path(Path("runs"), f"{loaded.dataset.name}-{recipe.model.name}")
    with RunFolder.create(path) as folder:
        folder.write_recipe(recipe)
        write_split(loaded, folder.split_file)
        write_text(folder.architecture_file, architecture_summary(built.model, recipe.data.size) + "\n")
        folder.update_manifest(
            status="running",
            created=now(),
            versions=versions(),
            device=device_name(device),
            data={"name": loaded.dataset.name, "root": str(loaded.dataset.root.resolve()), "layout": loaded.dataset.layout},
            fingerprint=loaded.fingerprint,
            class_names=list(loaded.dataset.class_names),
            preprocess=Preprocess(recipe.data.size, recipe.data.resize, built.mean, built.std).to_dict(),
            notes=list(built.notes),
        )
    folder = RunFolder(path)
    with folder.locked():
        work = _Work(folder, recipe, loaded, built.model, arithmetic, _preprocess(folder), cache, console)
        return _guarded(work, resumed=False)


def resume_run(path: str | Path, console: Console | None = None) -> Run:
    """Continue a run where its newest sound checkpoint stands; the result equals that of a run never stopped.

    Raises InputError where the folder is not a run, is being written, or its data have moved or changed.
    """
    console = console or Console()
    folder = RunFolder.open(path)
    with folder.locked():
        recipe, manifest = folder.recipe(), folder.manifest()
        if manifest.get("status") == "finished":
            console.say(f"{folder.path} is finished; there is nothing to resume")
            return Run.load(folder.path)
        check_extras(recipe)
        prepare_machine(recipe)
        origin = manifest["data"]
        names = manifest["class_names"]
        loaded = restore_data(Path(origin["root"]), origin["layout"], folder.split_file, names, origin["name"], console)
        if loaded.fingerprint != manifest["fingerprint"]:
            raise InputError(f"{folder.split_file} was changed after the run began", hint="Train a new run.")
        loaded, cache = _training_tiles(loaded, recipe, console)
        started = bool(Checkpoints(folder.checkpoints, recipe.train.keep_checkpoints).paths())
        settings = recipe.model.model_copy(update={"weights": "none"}) if started else recipe.model
        model = build_model(settings, len(names), recipe.data.size, _weights_seed(recipe)).model
        arithmetic = Arithmetic(choose_device(recipe.train.device), recipe.train.precision, recipe.train.memory_format)  # type: ignore[arg-type]
        folder.set_status("running")
        return _guarded(_Work(folder, recipe, loaded, model, arithmetic, _preprocess(folder), cache, console), resumed=True)


def prepare_machine(recipe: Recipe) -> None:
    keep_freed_memory()
    set_threads(recipe.train.threads)


def check_extras(recipe: Recipe) -> None:
    """Raise InputError now rather than after the first epoch where an optional library is missing."""
    if recipe.train.tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise InputError("train.tensorboard=true needs TensorBoard", hint="pip install 'fieldmark[tensorboard]'") from None


def _preprocess(folder: RunFolder) -> Preprocess:
    return Preprocess.from_dict(folder.manifest()["preprocess"])


def _training_tiles(loaded: LoadedData, recipe: Recipe, console: Console) -> tuple[LoadedData, PixelCache]:
    """Decode train and val into tiles; files that fail are set aside."""
    rows = loaded.rows("train", "val")
    sides = np.maximum(loaded.content.widths[rows], loaded.content.heights[rows])
    side = min(math.ceil(recipe.data.size * recipe.data.cache_scale), max(int(np.median(sides)), 1))
    with console.progress("decoding", "pictures") as advance:
        cache = open_pixels(loaded.files(rows), loaded.hashes(rows), View(side, "squash"), default_cache_dir(), advance)
    broken = {int(rows[index]): reason for index, reason in cache.unreadable.items()}
    if broken:
        loaded = loaded.without(broken)
        check_readable(loaded, recipe.data.max_unreadable, console)
    return loaded, cache


@dataclass
class _Work:
    """What one process needs to carry a run to its end."""

    folder: RunFolder
    recipe: Recipe
    loaded: LoadedData
    model: Classifier
    arithmetic: Arithmetic
    preprocess: Preprocess
    cache: PixelCache
    console: Console


def _guarded(work: _Work, resumed: bool) -> Run:
    """Do the work; the manifest says how it ended."""
    with work.console.logging_to(work.folder.log_file):
        try:
            _train_and_finish(work, resumed)
        except (Interrupted, KeyboardInterrupt) as stop:
            work.folder.set_status("interrupted")
            raise Interrupted(f"{stop or 'stopped'}. Continue with: fieldmark resume {work.folder.path}") from None
        except OSError as error:
            readable = storage_error(error, work.folder.log_file)
            work.folder.set_status("failed", str(readable))
            raise readable from error
        except Exception as error:
            work.folder.set_status("failed", str(error) if isinstance(error, FieldmarkError) else f"{type(error).__name__}: {error}")
            raise
    return Run.load(work.folder.path)


def _train_and_finish(work: _Work, resumed: bool) -> None:
    folder, recipe, console = work.folder, work.recipe, work.console
    checkpoints = Checkpoints(folder.checkpoints, recipe.train.keep_checkpoints)
    state, damaged = checkpoints.newest()
    for name in damaged:
        console.say(f"{name} is damaged; the one before it is used")
    if resumed:
        console.say(f"resuming {folder.path}" + (_position_text(state["position"]) if state else " from the start"))
    with Interrupt() as interrupt:
        if state is None or state["position"]["phase"] == "fit":
            fit = _phase(work, checkpoints, interrupt, Position("fit"))
            _begin(fit, state)
            run_loop(fit)
            chosen, state = fit.position, None
            if chosen.best_epoch == 0:
                raise TrainingFailed(f"no epoch gave a finite val {recipe.evaluate.monitor}, so there is no best one to keep")
            load_weights(work.model, folder.best_weights)
            _save_predictions(work, "val")
            if recipe.train.refit:
                console.say(f"refitting on train and val together for {chosen.best_epoch} epochs, as val chose")
                work.model = build_model(recipe.model, len(work.loaded.dataset.class_names), recipe.data.size, _weights_seed(recipe)).model
        else:
            chosen = Position(**state["position"])
        if recipe.train.refit:
            refit = _phase(work, checkpoints, interrupt, replace(chosen, phase="refit", epoch=0, stale_epochs=0))
            _begin(refit, state)
            run_loop(refit)
            chosen = refit.position
            _save_best(work, chosen)
        if interrupt.requested:
            raise Interrupted("stopped after the last epoch; the state is saved")
    _finish(work, chosen)


def _weights_seed(recipe: Recipe) -> int:
    return key(recipe.train.seed, "weights")


def _begin(training: Training, state: dict[str, Any] | None) -> None:
    """Take up the state, or write the first checkpoint: from then on initial weights never need to be found again."""
    if state is not None:
        training.load_state(state)
    else:
        training.checkpoints.save(training.position.steps, training.state())


def _position_text(position: dict[str, Any]) -> str:
    return f" in {position['phase']}, epoch {position['epoch'] + 1}, after step {position['step']}"


def _phase(work: _Work, checkpoints: Checkpoints, interrupt: Interrupt, position: Position) -> Training:
    """`fit` trains on train and validates after each epoch; `refit` trains on train and val up to the best epoch."""
    recipe, loaded, phase = work.recipe, work.loaded, position.phase
    work.arithmetic.prepare(work.model)
    pool = loaded.rows("train", "val")
    trained = np.flatnonzero(loaded.dataset.splits[pool] == "train") if phase == "fit" else np.arange(len(pool))
    batches = TrainBatches(
        placed_tiles(work.cache, work.arithmetic.device, recipe.data.storage),
        trained,
        loaded.dataset.labels[pool],
        Frame.of(recipe.data.resize, loaded.content.widths[pool], loaded.content.heights[pool]),
        recipe.augment,
        size=recipe.data.size,
        batch=recipe.train.batch,
        seed=key(recipe.train.seed, phase),
        mean=work.preprocess.mean,
        std=work.preprocess.std,
        fill=leaves_picture(recipe.augment, recipe.data.resize),
        device=work.arithmetic.device,
        dtype=work.arithmetic.dtype,
        memory_format=work.arithmetic.memory_format,
    )
    return Training(
        model=work.model,
        optimizer=build_optimizer(work.model, recipe.optim),
        batches=batches,
        recipe=recipe,
        arithmetic=work.arithmetic,
        folder=work.folder,
        checkpoints=checkpoints,
        console=work.console,
        interrupt=interrupt,
        validate=_validation(work) if phase == "fit" else None,
        save_best=lambda best: _save_best(work, best),
        epochs=recipe.train.epochs if phase == "fit" else position.best_epoch,
        position=position,
    )


def placed_tiles(cache: PixelCache, device: torch.device, storage: str) -> torch.Tensor:
    """The tiles mapped from disk, or resident on the device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tiles = torch.from_numpy(cache.array)
    if storage == "auto":
        fits = device.type == "cuda" and tiles.nbytes < torch.cuda.mem_get_info(device)[0] / 2
        storage = "resident" if fits else "mapped"
    return tiles.to(device, copy=True) if storage == "resident" else tiles


def _validation(work: _Work) -> Any:
    pixels, sound, rows = _evaluation_pixels(work, "val")
    labels = work.loaded.dataset.labels[rows]

    def validate() -> dict[str, float]:
        logits, _ = infer(work.model, pixels, _normalisation(work), work.arithmetic, work.recipe.evaluate.batch, sound)
        return {"top1": 100 * top_k(logits, labels, 1), "macro_f1": 100 * macro_f1(logits, labels), "nll": nll(logits, labels)}

    return validate


def _normalisation(work: _Work) -> Normalisation:
    return Normalisation(work.preprocess.mean, work.preprocess.std)


def _evaluation_pixels(work: _Work, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of a split as the model sees them in evaluation; which of them could be decoded; and the dataset's rows of those."""
    rows = work.loaded.rows(split)
    view = View(work.preprocess.size, work.preprocess.resize)
    with work.console.progress("decoding", "pictures") as advance:
        cache = open_pixels(work.loaded.files(rows), work.loaded.hashes(rows), view, default_cache_dir(), advance)
    sound = np.setdiff1d(np.arange(len(rows)), list(cache.unreadable))
    work.loaded = work.loaded.without({int(rows[index]): reason for index, reason in cache.unreadable.items()})
    work.console.say(*(f"set aside: {work.loaded.dataset.paths[rows[index]]}: {reason}" for index, reason in cache.unreadable.items()))
    return cache.array, sound, rows[sound]


def _save_best(work: _Work, position: Position) -> None:
    metadata = {
        "class_names": list(work.loaded.dataset.class_names),
        "preprocess": work.preprocess.to_dict(),
        "architecture": work.recipe.model.name,
        "epoch": position.best_epoch,
    }
    save_weights(work.model, work.folder.best_weights, metadata)


def _save_predictions(work: _Work, split: str) -> Predictions:
    pixels, sound, rows = _evaluation_pixels(work, split)
    with work.console.progress(f"predicting {split}", "pictures") as advance:
        logits, features = infer(work.model, pixels, _normalisation(work), work.arithmetic, work.recipe.evaluate.batch, sound, advance)
    dataset = work.loaded.dataset
    ids = np.array([dataset.paths[row] for row in rows], np.str_)
    predictions = Predictions(ids, dataset.labels[rows], logits, features, dataset.class_names)
    predictions.save(work.folder.predictions / f"{split}.npz")
    return predictions


def _finish(work: _Work, position: Position) -> None:
    """Open test once, with the chosen weights, and write the answer."""
    folder, recipe, dataset = work.folder, work.recipe, work.loaded.dataset
    load_weights(work.model, folder.best_weights)
    _save_predictions(work, "train")
    figures = {
        "val": evaluate_predictions(Predictions.load(folder.predictions / "val.npz"), recipe.evaluate.resamples, recipe.train.seed),
        "test": evaluate_predictions(_save_predictions(work, "test"), recipe.evaluate.resamples, recipe.train.seed),
    }
    rows = read_json_lines(folder.metrics_file)
    total, trainable = parameters(work.model)
    summary = {
        "schema": SUMMARY_SCHEMA,
        "status": "finished",
        "dataset": {"name": dataset.name, "classes": len(dataset.class_names)}
        | {split: len(work.loaded.rows(split)) for split in ("train", "val", "test")},
        "model": {
            "name": recipe.model.name,
            "parameters": total,
            "trainable": trainable,
            "macs": macs(work.model, recipe.data.size),
            "input": [3, recipe.data.size, recipe.data.size],
        },
        "training": {
            "epochs": sum(row["phase"] == "fit" for row in rows),
            "best_epoch": position.best_epoch,
            "refit": recipe.train.refit,
            "steps": position.steps,
            "samples_seen": position.samples_in_all,
            "seconds": round(position.seconds, 2),
            "images_per_second": round(position.samples_in_all / position.seconds, 1),
            "device": work.folder.manifest()["device"],
            "precision": recipe.train.precision,
        },
        **figures,
    }
    write_json(folder.summary_file, summary)
    folder.set_status("finished")
    work.console.say("", *answer(summary))
    work.console.say(f"trained {position.samples_in_all:,} pictures in {duration(position.seconds)}; everything is in {folder.path}")


def answer(summary: dict[str, Any]) -> list[Any]:
    """The figures of val and test as a table with 95 % intervals."""

    def cell(figures: dict[str, float], name: str, digits: int) -> str:
        return f"{figures[name]:.{digits}f}  [{figures[f'{name}_low']:.{digits}f}, {figures[f'{name}_high']:.{digits}f}]"

    columns = ("top-1 %", "top-5 %", "macro F1 %", "NLL", "ECE %")
    digits = {"top1": 1, "top5": 1, "macro_f1": 1, "nll": 3, "ece": 1}
    rows = [
        (split, int(summary[split]["n"]), *(cell(summary[split], name, count) for name, count in digits.items()))
        for split in ("val", "test")
        if split in summary
    ]
    return [table("with 95 % intervals", ("split", "pictures", *columns), rows)]
