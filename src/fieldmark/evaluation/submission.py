"""Answers for the images of a dataset whose labels are not known, written in the columns that a competition asks for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import check_output, whole_file
from fieldmark.core.names import suggest
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.evaluation.evaluate import require_finished, run_data
from fieldmark.evaluation.other_data import predictions_name
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.sample_submission import NAMES, Sample, read_sample

DEFAULT_COLUMNS = "id=stem,label=class"
_OF_ANSWER: dict[str, Callable[[np.ndarray, tuple[str, ...]], str]] = {
    "class": lambda probabilities, names: names[probabilities.argmax()],
    "index": lambda probabilities, names: str(probabilities.argmax()),
    "number": lambda probabilities, names: str(probabilities.argmax() + 1),
    "probability": lambda probabilities, names: f"{probabilities.max():.6f}",
}
_EACH = "probabilities"
WHAT = (*NAMES, *_OF_ANSWER, _EACH)

Form = str | int
"""What stands in a column: one of WHAT but for "probabilities", "id" for what a sample calls the image, or the number of a class, whose
probability is meant."""


@dataclass(frozen=True)
class Submission:
    """The file that was written; `unanswered`: images that could not be read, or whose probabilities are not finite.

    `unasked`: unlabelled images that the sample submission does not list.
    """

    file: Path
    unanswered: int
    unasked: int = 0


def submit_run(
    run: Run,
    target: Path,
    data: str | Path | None,
    columns: str | None,
    console: Console,
    like: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Submission:
    """Predict the unlabelled images of the run's data, or of other data, into a CSV file.

    `columns` are "header=what" separated by commas. What is path, name (of the file), stem (the name without its ending), class, index
    (of the class, from 0), number (from 1), probability (of that class), or probabilities: a column for each class, named after it.
    `like` is a sample submission, whose ids and columns are written in their order; `columns` may then say what stands in some of them.
    The predictions are saved in the run folder too. An image that cannot be read, or whose answer is not a number, has empty answers.

    Raises InputError where the columns are wrong, the run is not finished, or there are no such images.
    """
    chosen = _parse(columns or ("" if like else DEFAULT_COLUMNS), run.class_names)
    header = [title for title, _ in chosen] if like is None else list(read_sample(Path(like), ()).header)
    if like is not None and target.exists() and target.samefile(like):
        raise InputError(f"{target} is the sample submission itself", hint="Choose another name.")
    check_output(target, _csv_line(header).encode(), "OUT")
    with run.folder.locked():
        require_finished(run)
        loaded = run_data(run, data, console, settings)
        dataset = loaded.dataset
        if target.exists() and target.resolve().is_relative_to(dataset.root.resolve()):
            raise InputError(f"{target} is a file of the data, which is not overwritten", hint="Choose another name.")
        paths = [dataset.paths[row] for row in dataset.rows(UNLABELLED)]
        if not paths:
            raise InputError(
                f"{dataset.name} has no unlabelled images", hint="`fieldmark predict` answers for images that are in no dataset."
            )
        images = [("", path) for path in paths]
        if like is not None:
            sample = read_sample(Path(like), paths)
            images, chosen = sample.images(paths), _as_in(sample, dict(chosen), run.class_names)
        predictions = run.predict_rows(loaded, loaded.rows(UNLABELLED), console)
        name = UNLABELLED if data is None else f"{predictions_name(run, data, dataset)}-{UNLABELLED}"
        predictions.save(run.folder.predictions / f"{name}.npz")
    probabilities = run.probabilities(predictions.logits)
    finite = np.isfinite(probabilities).all(axis=1)
    answers = dict(zip(predictions.ids[finite].tolist(), probabilities[finite], strict=True))
    with whole_file(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        stream.write(_csv_line(header))
        table = csv.writer(stream)
        for called, path in images:
            table.writerow([_cell(form, called, path, answers.get(path), run.class_names) for _, form in chosen])
    asked = {path for _, path in images}
    return Submission(target, len(asked - answers.keys()), len(paths) - len(asked))


def _parse(columns: str, class_names: Sequence[str]) -> list[tuple[str, Form]]:
    """Headers and what stands below them."""
    chosen: list[tuple[str, Form]] = []
    problems = []
    for entry in columns.split(",") if columns else []:
        header, equals, what = (part.strip() for part in entry.partition("="))
        if not equals or not header:
            problems.append(f"--columns: {entry!r} should be HEADER=WHAT")
        elif what not in WHAT:
            problems.append(f"--columns: there is no {what!r}{suggest(what, WHAT)}")
        elif header in dict(chosen):
            problems.append(f"--columns: {header!r} is there twice")
        chosen += [(name, number) for number, name in enumerate(class_names)] if what == _EACH else [(header, what)]
    if problems:
        raise InputError(*problems, hint=f"WHAT is one of {', '.join(WHAT)}; such as {DEFAULT_COLUMNS}.")
    return chosen


def _as_in(sample: Sample, asked: dict[str, Form], class_names: Sequence[str]) -> list[tuple[str, Form]]:
    """The columns of a sample, and what stands in them: as is asked, or as the sample shows it."""
    if unknown := [title for title in asked if title not in sample.header]:
        raise InputError(*(f"--columns: {sample.file} has no column {title!r}{suggest(title, sample.header)}" for title in unknown))
    others = [title for column, title in enumerate(sample.header) if column != sample.ids]
    forms = asked if set(others) <= asked.keys() else {**sample.forms(class_names), **asked}
    return [(title, "id" if column == sample.ids else forms[title]) for column, title in enumerate(sample.header)]


def _cell(form: Form, called: str, path: str, answer: np.ndarray | None, class_names: tuple[str, ...]) -> str:
    if form == "id":
        return called
    if form in NAMES:
        return NAMES[str(form)](path)
    if answer is None:
        return ""
    return f"{answer[form]:.6f}" if isinstance(form, int) else _OF_ANSWER[form](answer, class_names)


def _csv_line(cells: Sequence[str]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    return stream.getvalue()
