"""Answers for the images of a dataset whose labels are not known, written in the columns that a competition asks for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import check_output, whole_file
from fieldmark.core.names import suggest
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.evaluation.evaluate import require_finished, run_data
from fieldmark.evaluation.other_data import predictions_name
from fieldmark.evaluation.run import Run
from fieldmark.scoring.predictions import Predictions

DEFAULT_COLUMNS = "id=stem,label=class"
_OF_PATH: dict[str, Callable[[str], str]] = {
    "path": str,
    "name": lambda path: PurePosixPath(path).name,
    "stem": lambda path: PurePosixPath(path).stem,
}
_OF_ANSWER: dict[str, Callable[[np.ndarray, tuple[str, ...]], list[str]]] = {
    "class": lambda probabilities, names: [names[probabilities.argmax()]],
    "index": lambda probabilities, names: [str(probabilities.argmax())],
    "number": lambda probabilities, names: [str(probabilities.argmax() + 1)],
    "probability": lambda probabilities, names: [f"{probabilities.max():.6f}"],
    "probabilities": lambda probabilities, names: [f"{probability:.6f}" for probability in probabilities],
}


@dataclass(frozen=True)
class Submission:
    """The file that was written; `unanswered`: images that could not be read, or whose probabilities are not finite."""

    file: Path
    unanswered: int


def submit_run(run: Run, target: Path, data: str | Path | None, columns: str, console: Console) -> Submission:
    """Predict the unlabelled images of the run's data, or of other data, into a CSV file.

    `columns` are "header=what" separated by commas. What is path, name (of the file), stem (the name without its ending), class, index
    (of the class, from 0), number (from 1), probability (of that class), or probabilities: a column for each class, named after it. The
    predictions are saved in the run folder too. An image that cannot be read, or whose answer is not a number, has empty answers.

    Raises InputError where the columns are wrong, the run is not finished, or there are no such images.
    """
    chosen = _parse(columns)
    header = [title for title, what in chosen for title in (run.class_names if what == "probabilities" else [title])]
    check_output(target, _csv_line(header).encode(), "OUT")
    with run.folder.locked():
        require_finished(run)
        loaded = run_data(run, data, console)
        dataset = loaded.dataset
        if target.resolve().is_relative_to(dataset.root.resolve()):
            raise InputError(f"{target} is inside the data, where nothing is written", hint="Choose another folder.")
        all_rows = dataset.rows(UNLABELLED)
        if not len(all_rows):
            raise InputError(
                f"{dataset.name} has no unlabelled images", hint="`fieldmark predict` answers for images that are in no dataset."
            )
        predictions = run.predict_rows(loaded, loaded.rows(UNLABELLED), console)
        name = UNLABELLED if data is None else f"{predictions_name(run, data, dataset)}-{UNLABELLED}"
        predictions.save(run.folder.predictions / f"{name}.npz")
    paths, probabilities = [dataset.paths[row] for row in all_rows], run.probabilities(predictions.logits)
    return Submission(target, _write(target, header, chosen, paths, predictions, probabilities))


def _parse(columns: str) -> list[tuple[str, str]]:
    """Header and what stands below it."""
    known = [*_OF_PATH, *_OF_ANSWER]
    chosen: list[tuple[str, str]] = []
    problems = []
    for entry in columns.split(","):
        header, equals, what = (part.strip() for part in entry.partition("="))
        if not equals or not header:
            problems.append(f"--columns: {entry!r} should be HEADER=WHAT")
        elif what not in known:
            problems.append(f"--columns: there is no {what!r}{suggest(what, known)}")
        elif header in dict(chosen):
            problems.append(f"--columns: {header!r} is there twice")
        chosen.append((header, what))
    if problems:
        raise InputError(*problems, hint=f"WHAT is one of {', '.join(known)}; such as {DEFAULT_COLUMNS}.")
    return chosen


def _csv_line(cells: list[str]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    return stream.getvalue()


def _write(
    target: Path, header: list[str], columns: list[tuple[str, str]], paths: list[str], predictions: Predictions, probabilities: np.ndarray
) -> int:
    names = predictions.class_names
    finite = np.isfinite(probabilities).all(axis=1)
    answers = dict(zip(predictions.ids[finite].tolist(), probabilities[finite], strict=True))
    width = {what: len(names) if what == "probabilities" else 1 for _, what in columns}
    with whole_file(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        stream.write(_csv_line(header))
        table = csv.writer(stream)
        for path in paths:
            cells: list[str] = []
            for _, what in columns:
                if what in _OF_PATH:
                    cells.append(_OF_PATH[what](path))
                elif path in answers:
                    cells += _OF_ANSWER[what](answers[path], names)
                else:
                    cells += [""] * width[what]
            table.writerow(cells)
    return len(paths) - len(answers)
