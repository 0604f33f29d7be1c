"""Evaluating a run on a split of its own data, or on other data with classes of the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.data.content import scan
from fieldmark.data.dataset import SPLITS
from fieldmark.data.layouts import read_dataset
from fieldmark.data.loading import LoadedData, restore_data
from fieldmark.data.pixels import View, default_cache_dir, open_pixels
from fieldmark.evaluation.inference import infer
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.summary import evaluate_predictions


def evaluate_run(run: Run, data: str | Path | None, split: str, console: Console) -> dict[str, Any]:
    """The figures of evaluate_predictions, with `split`, `data` and where the predictions were saved (`predictions`).

    Raises InputError where the data have moved, changed, know other classes, or have no such split.
    """
    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}", hint=f"Splits: {', '.join(SPLITS)}.")
    loaded = _own_data(run, console) if data is None else _other_data(run, data, console)
    rows = loaded.rows(split)
    if data is not None and set(loaded.dataset.splits) == {"train"}:
        console.say(f"{loaded.dataset.name} has no splits: all its {len(rows):,} pictures are evaluated")
        split = "all"
        rows = loaded.rows("train")
    if not len(rows):
        raise InputError(f"{loaded.dataset.name} has no readable pictures in {split}")
    with console.progress("decoding", "pictures") as advance:
        view = View(run.preprocess.size, run.preprocess.resize)
        cache = open_pixels(loaded.files(rows), loaded.hashes(rows), view, default_cache_dir(), advance)
    sound = np.setdiff1d(np.arange(len(rows)), list(cache.unreadable))
    for row, reason in [*((rows[i], r) for i, r in cache.unreadable.items()), *loaded.content.problems.items()]:
        console.say(f"left out: {loaded.dataset.paths[row]}: {reason}")
    with console.progress("predicting", "pictures") as advance:
        logits, features = infer(run.model, cache.array, run.normalisation, run.arithmetic, run.recipe.evaluate.batch, sound, advance)
    rows = rows[sound]
    columns = np.array([run.class_names.index(name) for name in loaded.dataset.class_names], np.int32)
    ids = np.array([loaded.dataset.paths[row] for row in rows], np.str_)
    predictions = Predictions(ids, columns[loaded.dataset.labels[rows]], logits, features, run.class_names)
    target = run.folder.predictions / (f"{split}.npz" if data is None else f"{loaded.dataset.name}-{split}.npz")
    predictions.save(target)
    figures = evaluate_predictions(predictions, run.recipe.evaluate.resamples, run.recipe.train.seed)
    return {"run": str(run.path), "data": str(data) if data is not None else None, "split": split, "predictions": str(target), **figures}


def _own_data(run: Run, console: Console) -> LoadedData:
    manifest = run.folder.manifest()
    origin = manifest["data"]
    return restore_data(Path(origin["root"]), origin["layout"], run.folder.split_file, run.class_names, origin["name"], console)


def _other_data(run: Run, data: str | Path, console: Console) -> LoadedData:
    dataset = read_dataset(data)
    unknown = [name for name in dataset.class_names if name not in set(run.class_names)]
    if unknown:
        named = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else "")
        raise InputError(f"{dataset.name} has {len(unknown):,} classes that {run.path} was not trained on: {named}")
    with console.progress("reading", "files") as advance:
        content = scan(dataset, advance, default_cache_dir())
    return LoadedData(dataset, content)
