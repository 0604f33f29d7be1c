"""Evaluating a run on a split of its own data, or on other data with classes of the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.data.content import scan
from fieldmark.data.dataset import SPLITS
from fieldmark.data.layouts import read_dataset
from fieldmark.data.loading import LoadedData, restore_data
from fieldmark.data.pixels import default_cache_dir
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.split import open_split
from fieldmark.evaluation.summary import evaluate_predictions


def evaluate_run(run: Run, data: str | Path | None, split: str, console: Console) -> dict[str, Any]:
    """The figures of evaluate_predictions, with `split`, `data` and where the predictions were saved (`predictions`).

    Raises InputError where the run is not finished, or the data have moved, changed, know other classes, or have no such split.
    """
    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}", hint=f"Splits: {', '.join(SPLITS)}.")
    with run.folder.locked():
        status = run.folder.manifest().get("status")
        if status != "finished":
            raise InputError(
                f"{run.path} is not finished ({status}): its test is opened once, at the end", hint=f"fieldmark resume {run.path}"
            )
        if data is None and split == "val" and run.recipe.train.refit:
            raise InputError(
                f"{run.path} was refitted on train and val together, so val is no test of it",
                hint="Its val figures from before are in summary.json.",
            )
        loaded = _own_data(run, console) if data is None else _other_data(run, data, console)
        rows = loaded.rows(split)
        if data is not None and set(loaded.dataset.splits) == {"train"}:
            split, rows = "all", loaded.rows("train")
            console.say(f"{loaded.dataset.name} has no splits: all its {len(rows):,} pictures are evaluated")
        if not len(rows):
            raise InputError(f"{loaded.dataset.name} has no readable pictures in {split}")
        pixels = open_split(loaded, rows, run.preprocess, console)
        predictions = pixels.predict(run.model, run.arithmetic, run.recipe.evaluate.batch, console, run.class_names)
        target = run.folder.predictions / (f"{split}.npz" if data is None else f"{loaded.dataset.name}-{split}.npz")
        predictions.save(target)
    figures = evaluate_predictions(predictions, run.recipe.evaluate.resamples, run.recipe.train.seed)
    return {"run": str(run.path), "data": str(data) if data is not None else None, "split": split, "predictions": str(target), **figures}


def _own_data(run: Run, console: Console) -> LoadedData:
    origin = run.folder.manifest()["data"]
    return restore_data(Path(origin["root"]), origin["layout"], run.folder.split_file, run.class_names, origin["name"], console)


def _other_data(run: Run, data: str | Path, console: Console) -> LoadedData:
    dataset = read_dataset(data)
    unknown = [name for name in dataset.class_names if name not in set(run.class_names)]
    if unknown:
        named = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else "")
        raise InputError(f"{dataset.name} has {len(unknown):,} classes that {run.path} was not trained on: {named}")
    with console.progress("reading", "files") as advance:
        content = scan(dataset, advance, default_cache_dir())
    console.say(*(f"left out: {dataset.paths[row]}: {reason}" for row, reason in content.problems.items()))
    return LoadedData(dataset, content)
