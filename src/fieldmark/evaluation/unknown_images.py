"""Images of none of a run's classes: predicting them, and saving that in the run."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fieldmark.answering.images import find_images, readable, without_answer
from fieldmark.answering.networks import Outputs
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import typed
from fieldmark.datasets.dataset import UNKNOWN
from fieldmark.evaluation.evaluate import require_finished
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknowns import UnknownEvaluation, that_chose, unknown_figures, unknown_sets
from fieldmark.models.libraries import load_libraries
from fieldmark.scoring.decisions import Decisions
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import fitted_scores


def evaluate_unknown(run: Run, sources: Sequence[str | Path], console: Console) -> UnknownEvaluation:
    """Predict images of none of the run's classes (files, folders or patterns), and count how many it rejects.

    Raises InputError where the run is not finished or not calibrated.
    """
    require_finished(run)
    decisions, test = require_decisions(run), run.predictions("test")
    if test is None:
        raise InputError(
            f"{run.path} has no predictions of test to hold unknown images against", hint=f"fieldmark evaluate {typed(run.path)}"
        )
    name, predictions = predict_unknown(run, sources, console)
    chose = that_chose(decisions, unknown_sets(run, features=False))
    with console.busy("fitting and measuring the scores of rejection"):
        figures = unknown_figures(name, fitted_scores(run.predictions("train")), test, predictions, decisions, chose)
    return UnknownEvaluation(run.path, _unknown_file(run, name), figures)


def predict_unknown(run: Run, sources: Sequence[str | Path], console: Console) -> tuple[str, Predictions]:
    """Predict images of no class of the run, and save that as predictions/unknown/NAME.npz; returns NAME and what was saved.

    NAME is that of the first source. The same images keep it, and others of the same name get a number behind it. Raises CheckFailed, and
    saves nothing, if a file that was named itself cannot be read.
    """
    for caution in run.cautions(boxes=False):
        console.say(f"warning: {caution}; test, which they are held against, it saw cropped")
    files = [Path(os.path.abspath(path)) for path in find_images(sources)]
    with run.folder.locked():
        with console.timed("predicting unknown images"):
            predictions, problems = _predict_files(run, files, console)
        if failed := without_answer([os.path.abspath(source) for source in sources], problems):
            raise failed
        own, taken = set(predictions.ids.tolist()), {name: set(each.ids.tolist()) for name, each in unknown_sets(run, False).items()}
        base = re.sub(r"\W+", "-", os.path.basename(os.path.abspath(sources[0]))).strip("-") or "images"
        names = (base if number == 1 else f"{base}-{number}" for number in itertools.count(1))
        name = next(name for name in names if name != UNKNOWN and taken.get(name, own) == own)
        _unknown_file(run, name).parent.mkdir(exist_ok=True)
        predictions.save(_unknown_file(run, name))
    return name, predictions


def _predict_files(run: Run, files: Iterable[Path], console: Console) -> tuple[Predictions, dict[str, str]]:
    """Predictions of images without labels, by their paths, and why the others were left out."""
    ids: list[str] = []
    problems: dict[str, str] = {}
    parts: list[Outputs] = []
    load_libraries(console)
    with console.progress("predicting", "files") as advance:
        for chunk, outputs in run.networks.stream(files):
            console.say(*(f"left out: {looked.image}: {looked.problem}" for looked in chunk if looked.problem))
            problems |= {readable(looked.image): looked.problem for looked in chunk if looked.problem}
            ids += [readable(looked.image) for looked in chunk if not looked.problem]
            parts += [outputs] if outputs else []
            advance(len(ids), None)
    if not ids:
        raise InputError("none of the images can be read")
    labels = np.full(len(ids), -1, np.int32)
    logits, features = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Predictions(np.array(ids, np.str_), labels, logits, features, run.class_names), problems


def _unknown_file(run: Run, name: str) -> Path:
    return run.folder.predictions / UNKNOWN / f"{name}.npz"


def require_decisions(run: Run) -> Decisions:
    if run.decisions is None:
        raise InputError(f"{run.path} has no calibration.json", hint=f"fieldmark calibrate {typed(run.path)}")
    return run.decisions
