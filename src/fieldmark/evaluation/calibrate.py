"""Fitting a run's decisions anew, with other promises or with images of unknown classes to choose the score by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import typed
from fieldmark.evaluation.evaluate import require_finished
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknown_images import predict_unknown
from fieldmark.scoring.decisions import Decisions, Wanted, fit_decisions, trust_notes
from fieldmark.scoring.summary import evaluate_predictions


def calibrate_run(run: Run, wanted: Wanted, unknown: Sequence[str | Path], console: Console) -> Decisions:
    """Write calibration.json, rejection.safetensors and the calibrated figures of summary.json, from saved predictions of train and val.

    unknown: images of no class of the run, files, folders or patterns, which choose the score of rejection.
    Raises InputError if the run is not finished, or has no predictions of val.
    """
    require_finished(run)
    val = run.predictions("val")
    if val is None:
        raise InputError(
            f"{run.path} has no predictions of val to be calibrated on", hint=f"fieldmark evaluate {typed(run.path)} --split val"
        )
    if run.ensemble is not None and run.ensemble.folds:
        problem = f"nothing can be fitted for {run.path}: each image of val was answered by some of its networks, and others are by all"
        raise InputError(problem, hint="Calibrate an ensemble of runs that were trained on the same images.")
    train = None if run.has_learnt_val else run.predictions("train")
    given = dict([predict_unknown(run, unknown, console)]) if unknown else {}
    with console.busy("fitting what the run decides with"):
        fitted = fit_decisions(train, val, run.levels, wanted, given)
    decisions = fitted.decisions
    if wanted.scaling == "vector" and not fitted.calibration.calibration.bias.any():
        console.say("warning: on images of val that it was not fitted on, a vector is no better than a temperature, so it stays at that")
    with run.folder.locked():
        fitted.save(run.folder)
        run.forget_decisions()
        resamples, seed = run.recipe.evaluate.resamples, run.recipe.train.seed
        with console.busy(f"figures and their intervals from {resamples:,} resamples"):
            metrics = {"val": evaluate_predictions(val, resamples, seed, fitted.calibration.cross_fitted)}
            if (test := run.predictions("test")) is not None:
                metrics["test"] = evaluate_predictions(test, resamples, seed, decisions.calibration(test.logits))
        summary = run.summary.model_copy(update=metrics)
        summary.write(run.folder.summary_file)
        if test is not None:
            console.say(*trust_notes(fitted, test, summary.test))
    return decisions
