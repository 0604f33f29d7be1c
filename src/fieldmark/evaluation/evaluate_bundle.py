"""Evaluating a bundle on data with classes of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.bundles.bundle import Bundle
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.evaluate import Evaluate
from fieldmark.datasets.dataset import SPLITS
from fieldmark.evaluation.evaluate import Evaluation
from fieldmark.evaluation.other_data import ALL, read_other
from fieldmark.evaluation.split import open_split
from fieldmark.scoring.metrics import absent_classes
from fieldmark.scoring.summary import evaluate_predictions


def evaluate_bundle(bundle: Bundle, data: str | Path | None, split: str, console: Console, settings: Sequence[str] = ()) -> Evaluation:
    """Predict a split of the data, or all of them if they have no splits, and compute the metrics; nothing is written.

    Raises InputError if no data are named, or they know other classes or lack such a split or boxes.
    """
    if data is None:
        raise InputError(
            f"{bundle.path} is a bundle, which does not know the images of its run", hint="Name images with labels: --data DATA."
        )
    if split not in SPLITS:
        raise InputError(f"{split!r} is not a split that can be evaluated", hint=f"Splits: {', '.join(SPLITS)}.")
    loaded = read_other(bundle, data, console, settings)
    if bundle.preprocess.margin is not None and loaded.dataset.boxes is None:
        raise InputError(f"{loaded.dataset.name} has no boxes, and {bundle.path} was trained on images cropped to boxes")
    has = [each for each in SPLITS if len(loaded.rows(each))]
    rows = loaded.rows("train") if has == ["train"] else loaded.rows(split)
    name = ALL if has == ["train"] else split
    if not len(rows):
        raise InputError(
            f"{loaded.dataset.name} has no readable images in {split}", hint=f"It has {', '.join(has) or 'no labelled images'}."
        )
    bundle.load_runtime(console)
    pixels = open_split(loaded, rows, bundle.preprocess, "none", console)
    console.say(*pixels.remarks)
    predictions = pixels.predictions_of(*pixels.outputs_of(bundle.session, console), bundle.class_names)
    calibrated = None if bundle.decisions is None else bundle.decisions.calibration(predictions.logits)
    resamples = Evaluate().resamples
    with console.busy(f"figures and their intervals from {resamples:,} resamples"):
        metrics = evaluate_predictions(predictions, resamples, 0, calibrated)
    known = predictions.labelled()
    absent = absent_classes(known.logits, known.labels)
    return Evaluation(bundle.path, str(data), name, None, None, metrics, len(bundle.class_names), absent)
