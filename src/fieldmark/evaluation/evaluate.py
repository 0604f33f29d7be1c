"""Evaluating a run on a split of its own data, or on other data with classes of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import typed
from fieldmark.core.summary import SplitMetrics
from fieldmark.datasets.corruptions import parse as parse_corruption
from fieldmark.datasets.dataset import SPLITS, UNLABELLED
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.split_file import restore_data
from fieldmark.evaluation.answers_table import write_answers
from fieldmark.evaluation.other_data import ALL, familiar, predictions_name, read_other
from fieldmark.evaluation.run import Crop, Run
from fieldmark.scoring.calibration import fit_calibration
from fieldmark.scoring.metrics import AbsentClasses, absent_classes
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import evaluate_predictions

CROPS: tuple[Crop, ...] = ("none", "box")


@dataclass(frozen=True)
class Evaluation:
    """The `metrics` of one split, which is "all" for other data without splits, and the file of its `predictions`; a bundle keeps none.

    `classes`: how many the run has; `absent`: those of them that no image has. `data` is None for the run's own data, `crop` where it was
    not asked for. Of other data, `in_train` and `in_val` of the images are in the run's own train and val, byte for byte; `unseen` are then
    the metrics of all others, None if there are none. `moved`: whether these seem to be the run's own data.
    """

    run: Path
    data: str | None
    split: str
    crop: Crop | None
    predictions: Path | None
    metrics: SplitMetrics
    classes: int
    absent: AbsentClasses
    in_train: int = 0
    in_val: int = 0
    unseen: SplitMetrics | None = None
    moved: bool = False

    @property
    def answers(self) -> Path | None:
        """The table of answers next to the predictions."""
        return None if self.predictions is None else self.predictions.with_suffix(".csv")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": str(self.run),
            "data": self.data,
            "split": self.split,
            "predictions": None if self.predictions is None else str(self.predictions),
            "answers": None if self.answers is None else str(self.answers),
            **self.metrics.model_dump(),
            "absent_classes": self.absent.number,
            "macro_f1_of_present_classes": 100 * self.absent.macro_f1_of_others,
            **self._of_other_data(),
        }

    def _of_other_data(self) -> dict[str, Any]:
        if self.data is None:
            return {}
        unseen = None if self.unseen is None else self.unseen.model_dump()
        return {"in_train": self.in_train, "in_val": self.in_val, "unseen": unseen}


def evaluate_run(
    run: Run,
    data: str | Path | None,
    split: str,
    console: Console,
    crop: Crop | None = None,
    corrupt: str | None = None,
    settings: Sequence[str] = (),
) -> Evaluation:
    """Predict a split, save the predictions and the table of answers in the run folder, and compute their metrics.

    Args:
        data: other data than the run's own, with classes of the same names.
        crop: on whole images ("none") or on their boxes ("box"); by default as the run was trained.
        corrupt: a corruption and its severity, such as "fog:3", or "none"; by default as the run was trained.
        settings: how other data are read, such as "data.columns=label=species"; by default as the run's own, where that fits.

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
        loaded = run_data(run, data, console, settings)
        if boxed and loaded.dataset.boxes is None:
            raise InputError(f"{loaded.dataset.name} has no boxes to crop to", hint="Leave --crop out, or give --crop none.")
        rows, has = loaded.rows(split), [each for each in SPLITS if len(loaded.rows(each))]
        if data is not None and has == ["train"]:
            split, rows = ALL, loaded.rows("train")
            console.say(f"{loaded.dataset.name} has no splits: all its {len(rows):,} images are evaluated")
        if not len(rows):
            raise _no_images(run, data, loaded.dataset.name, split, has)
        predictions = run.predict_rows(loaded, rows, console, crop, corrupt)
        changed = [*([] if crop is None else [f"crop-{crop}"]), *([] if corrupt is None else [corrupt.replace(":", "-")])]
        source = [] if data is None else [predictions_name(run, data, loaded.dataset)]
        target = run.folder.predictions / f"{'-'.join([*source, split, *changed])}.npz"
        predictions.save(target)
        write_answers(run, predictions, target.with_suffix(".csv"))
    calibrated = None
    if run.decisions is not None:
        # Val chose the calibration, so each of its images is judged by one without it.
        fitted = fit_calibration(predictions, run.decisions.record.scaling).cross_fitted if data is None and split == "val" else None
        calibrated = run.decisions.calibration(predictions.logits) if fitted is None else fitted
    resamples = run.recipe.evaluate.resamples
    with console.busy(f"figures and their intervals from {resamples:,} resamples"):
        metrics = evaluate_predictions(predictions, resamples, run.recipe.train.seed, calibrated)
    known = predictions.labelled()
    absent = absent_classes(known.logits, known.labels)
    found = Evaluation(run.path, None if data is None else str(data), split, crop, target, metrics, len(run.class_names), absent)
    return found if data is None else _without_the_familiar(found, run, loaded, predictions, calibrated)


def _without_the_familiar(
    found: Evaluation, run: Run, loaded: LoadedData, predictions: Predictions, calibrated: np.ndarray | None
) -> Evaluation:
    """The evaluation of other data, which says how many of them the run learnt from, and how it does on the rest."""
    hashes = dict(zip(loaded.dataset.paths, loaded.content.hashes, strict=True))
    known = familiar(run, [hashes[path] for path in predictions.ids.tolist()])
    labelled = predictions.labels >= 0
    rows = np.flatnonzero(known.unseen & labelled)
    unseen = None
    if 0 < len(rows) < labelled.sum():
        after = None if calibrated is None else calibrated[rows]
        unseen = evaluate_predictions(predictions.take(rows), run.recipe.evaluate.resamples, run.recipe.train.seed, after)
    in_train, in_val = int((known.train & labelled).sum()), int((known.val & labelled).sum())
    return replace(found, in_train=in_train, in_val=in_val, unseen=unseen, moved=familiar(run, loaded.content.hashes).whole)


def _no_images(run: Run, data: str | Path | None, name: str, split: str, has: list[str]) -> InputError:
    if not has:
        own = "" if data is None else f" --data {typed(data)}"
        hint = f"Images without labels: fieldmark submit {typed(run.path)} answers.csv{own}, or fieldmark predict."
        return InputError(f"{name} has no readable images with labels", hint=hint)
    return InputError(f"{name} has no readable images in {split}", hint=f"It has {', '.join(has)}: --split {has[-1]}, for example.")


def run_data(run: Run, data: str | Path | None, console: Console, settings: Sequence[str] = ()) -> LoadedData:
    """The run's own data as they were, or other data whose classes are all known to the run, read by these settings."""
    if data is None:
        if settings:
            raise InputError(
                "settings say how other data are read, and the run's own are read as it recorded them", hint="Add --data DATA."
            )
        return restore_data(run.folder, run.class_names, console)
    return read_other(run, data, console, settings)


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
        raise InputError(
            f"{run.path} is not finished ({status}): its test is opened once, at the end", hint=f"fieldmark resume {typed(run.path)}"
        )
