"""Evaluating a run on a split of its own data, or on other data with classes of the same names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import some
from fieldmark.core.summary import SplitMetrics
from fieldmark.datasets.content import scan
from fieldmark.datasets.corruptions import parse as parse_corruption
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, at_level
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.pixel_cache import default_cache_dir
from fieldmark.datasets.split_file import restore_data
from fieldmark.evaluation.run import Crop, Run
from fieldmark.scoring.calibration import fit_calibration
from fieldmark.scoring.summary import evaluate_predictions

CROPS: tuple[Crop, ...] = ("none", "box")


@dataclass(frozen=True)
class Evaluation:
    """The `metrics` of one split, which is "all" for other data without splits, and the file of its `predictions`.

    `data` is None for the run's own data, `crop` where it was not asked for.
    """

    run: Path
    data: str | None
    split: str
    crop: Crop | None
    predictions: Path
    metrics: SplitMetrics

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": str(self.run),
            "data": self.data,
            "split": self.split,
            "predictions": str(self.predictions),
            **self.metrics.model_dump(),
        }


def evaluate_run(
    run: Run, data: str | Path | None, split: str, console: Console, crop: Crop | None = None, corrupt: str | None = None
) -> Evaluation:
    """Predict a split, save the predictions in the run folder and compute their metrics.

    Args:
        data: other data than the run's own, with classes of the same names.
        crop: on whole images ("none") or on their boxes ("box"); by default as the run was trained.
        corrupt: a corruption and its severity, such as "fog:3", or "none"; by default as the run was trained.

    Raises InputError where the run is not finished, or the data have moved, changed, know other classes, or lack such a split or boxes.
    """
    if split not in SPLITS:
        hint = "`fieldmark submit` predicts images without labels." if split == UNLABELLED else f"Splits: {', '.join(SPLITS)}."
        raise InputError(f"{split!r} is not a split that can be evaluated", hint=hint)
    if corrupt not in (None, "none"):
        parse_corruption(corrupt)
    boxed = run.preprocess.margin is not None if crop is None else crop == "box"
    with run.folder.locked():
        require_finished(run)
        if data is None:
            _refuse_learnt(run, split)
        loaded = run_data(run, data, console)
        if boxed and loaded.dataset.boxes is None:
            raise InputError(f"{loaded.dataset.name} has no boxes to crop to", hint="Leave --crop out, or give --crop none.")
        rows = loaded.rows(split)
        if data is not None and set(loaded.dataset.splits) == {"train"}:
            split, rows = "all", loaded.rows("train")
            console.say(f"{loaded.dataset.name} has no splits: all its {len(rows):,} images are evaluated")
        if not len(rows):
            raise InputError(f"{loaded.dataset.name} has no readable images in {split}")
        predictions = run.predict_rows(loaded, rows, console, crop, corrupt)
        changed = [*([] if crop is None else [f"crop-{crop}"]), *([] if corrupt is None else [corrupt.replace(":", "-")])]
        target = run.folder.predictions / f"{'-'.join([*([] if data is None else [loaded.dataset.name]), split, *changed])}.npz"
        predictions.save(target)
    calibrated = None
    if run.decisions is not None:
        # Val chose the calibration, so each of its images is judged by one without it.
        fitted = fit_calibration(predictions, run.decisions.record.scaling).cross_fitted if data is None and split == "val" else None
        calibrated = run.decisions.calibration(predictions.logits) if fitted is None else fitted
    resamples = run.recipe.evaluate.resamples
    with console.busy(f"figures and their intervals from {resamples:,} resamples"):
        metrics = evaluate_predictions(predictions, resamples, run.recipe.train.seed, calibrated)
    return Evaluation(run.path, None if data is None else str(data), split, crop, target, metrics)


def run_data(run: Run, data: str | Path | None, console: Console) -> LoadedData:
    """The run's own data as they were, or other data whose classes are all known to the run."""
    if data is None:
        return restore_data(run.folder, run.class_names, console)
    dataset = read_dataset(data, console=console)
    if run.recipe.data.level is not None:
        dataset = at_level(dataset, run.recipe.data.level)
    unknown = [name for name in dataset.class_names if name not in set(run.class_names)]
    if unknown:
        raise InputError(f"{dataset.name} has {len(unknown):,} classes that {run.path} was not trained on: {some(unknown, 10)}")
    with console.progress("reading", "files") as advance:
        content = scan(dataset, advance, default_cache_dir())
    loaded = LoadedData(dataset, content).without_empty(run.preprocess.margin)
    console.say(*(f"left out: {dataset.paths[row]}: {reason}" for row, reason in loaded.content.problems.items()))
    return loaded


def _refuse_learnt(run: Run, split: str) -> None:
    """Raise InputError where val is no test of a run, because it was fitted on it, and where train is another for each of its networks."""
    if split == "train" and run.ensemble is not None and run.ensemble.folds:
        raise InputError(f"the folds of {run.path} were trained on other images each: there is no train that is that of all")
    if split != "val":
        return
    if run.ensemble is not None and run.ensemble.fitted_on in ("val", "out-of-fold"):
        raise InputError(
            f"the {run.ensemble.method} of {run.path} was fitted on val, so val is no test of it",
            hint="Its cross-fitted val figures are in summary.json.",
        )
    if run.ensemble is not None and run.ensemble.val_learnt:
        raise InputError(
            f"networks of {run.path} were trained on images of val, so val is no test of it",
            hint="What each said of images that it was not trained on is in summary.json.",
        )
    if run.recipe.train.refit:
        raise InputError(
            f"{run.path} was refitted on train and val together, so val is no test of it",
            hint="Its val figures from before are in summary.json.",
        )


def require_finished(run: Run) -> None:
    """Raise InputError where the run's training has not come to its end."""
    status = run.folder.manifest().status
    if status != "finished":
        raise InputError(f"{run.path} is not finished ({status}): its test is opened once, at the end", hint=f"fieldmark resume {run.path}")
