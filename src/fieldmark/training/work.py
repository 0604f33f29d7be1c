"""What one process needs to carry a run to its end: the data, the model and the folder, and a phase of training made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.randomness import key
from fieldmark.core.recipe.ema import ExponentialAverage
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.pixel_cache import PixelCache
from fieldmark.evaluation.split import SplitPixels, open_split
from fieldmark.models.arithmetic import Arithmetic
from fieldmark.models.factory import Classifier
from fieldmark.models.weights import save_weights
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.metrics import macro_f1, nll, top_k
from fieldmark.scoring.predictions import Predictions
from fieldmark.training.average import AveragedWeights
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.features import Infer
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loop import Training, Validate
from fieldmark.training.optimizer import build_optimizer
from fieldmark.training.position import Position
from fieldmark.training.tiles import train_batches


@dataclass
class Work:
    """What one process needs to carry a run to its end."""

    folder: RunFolder
    recipe: Recipe
    loaded: LoadedData
    model: Classifier
    arithmetic: Arithmetic
    preprocess: Preprocess
    cache: PixelCache
    console: Console


def phase_of(work: Work, interrupt: Interrupt, position: Position, validate: Validate | None) -> Training:
    """The training of one phase: `fit` on train, validated after each epoch; `refit` on train and val, up to the best epoch."""
    recipe, loaded, phase = work.recipe, work.loaded, position.phase
    work.arithmetic.prepare(work.model)
    pool = loaded.rows("train", "val")
    trained = np.flatnonzero(loaded.dataset.splits[pool] == "train") if phase == "fit" else np.arange(len(pool))
    seed = key(recipe.train.seed, phase)
    batches = train_batches(loaded, work.cache, recipe, work.preprocess, work.arithmetic, trained, seed)
    return Training(
        model=work.model,
        optimizer=build_optimizer(work.model, recipe.optim),
        batches=batches,
        recipe=recipe,
        arithmetic=work.arithmetic,
        folder=work.folder,
        checkpoints=Checkpoints(work.folder.checkpoints, recipe.train.keep_checkpoints),
        console=work.console,
        interrupt=interrupt,
        validate=validate,
        save_best=lambda best: save_best(work, best),
        epochs=recipe.train.epochs if phase == "fit" else position.best_epoch,
        average=AveragedWeights(recipe.ema, work.model) if isinstance(recipe.ema, ExponentialAverage) else None,
        position=position,
    )


def validation(work: Work) -> Validate:
    """What gives the figures of val as the model stands."""
    split = _open_split(work, "val")
    labels = split.labels

    def validate(infer: Infer) -> dict[str, float]:
        logits, _ = infer(split, work.recipe.evaluate.batch, work.console)
        return {"top1": 100 * top_k(logits, labels, 1), "macro_f1": 100 * macro_f1(logits, labels), "nll": nll(logits, labels)}

    return validate


def _open_split(work: Work, split: str) -> SplitPixels:
    pixels = open_split(work.loaded, work.loaded.rows(split), work.preprocess, work.recipe.data.corrupt, work.console)
    work.loaded = work.loaded.without(pixels.unreadable)
    return pixels


def save_best(work: Work, position: Position) -> None:
    metadata = {
        "class_names": list(work.loaded.dataset.class_names),
        "preprocess": work.preprocess.to_dict(),
        "architecture": work.recipe.model.name,
        "epoch": position.best_epoch,
    }
    save_weights(work.model, work.folder.best_weights, metadata)


def save_predictions(work: Work, split: str) -> Predictions:
    names = work.loaded.dataset.class_names
    predictions = _open_split(work, split).predict(work.model, work.arithmetic, work.recipe.evaluate.batch, work.console, names)
    predictions.save(work.folder.predictions / f"{split}.npz")
    return predictions
