"""Answers for the images of a dataset whose labels are not known, written in the columns that a competition asks for."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import check_output, whole_file
from fieldmark.core.names import some, suggest, typed
from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.layouts.table_files import sample_submissions
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
_ENDINGS = ("", ".csv", ".txt")
WHAT = (*NAMES, *_OF_ANSWER, _EACH)

Form = str | int
"""What stands in a column: one of WHAT but for "probabilities", "id" for what a sample calls the image, or the number of a class, whose
probability is meant."""


@dataclass(frozen=True)
class Submission:
    """The file that was written.

    Args:
        folders: the folders of the images that it answers for, each with how many.
        unanswered: images that could not be read, or whose probabilities are not finite.
        unasked: unlabelled images that the sample submission does not list.
        blank: folders of training images in which images without a label are left out, each with how many.
        samples: sample submissions that lie next to the data, if none was given.
    """

    file: Path
    folders: tuple[tuple[str, int], ...]
    unanswered: int
    unasked: int = 0
    blank: tuple[tuple[str, int], ...] = ()
    samples: tuple[Path, ...] = ()


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
    Where unlabelled images lie in folders of their own, those between labelled images are left out: they are training images that lack
    their label.

    Raises InputError where the columns are wrong or call two images alike, the run is not finished, or there are no such images.
    """
    chosen = _parse(columns or ("" if like else DEFAULT_COLUMNS), run.class_names)
    header = [title for title, _ in chosen] if like is None else list(read_sample(Path(like), ()).header)
    if like is not None and target.exists() and target.samefile(like):
        raise InputError(f"{target} is the sample submission itself", hint="Choose another name.")
    if target.suffix.lower() not in _ENDINGS:
        raise InputError(f"a submission is a CSV file, and {target.name} is called another kind", hint="Give OUT a name that ends in .csv.")
    check_output(target, _csv_line(header).encode(), "OUT")
    with run.folder.locked():
        require_finished(run)
        loaded = run_data(run, data, console, settings)
        dataset = loaded.dataset
        if target.exists() and target.resolve().is_relative_to(dataset.root.resolve()):
            raise InputError(f"{target} is a file of the data, which is not overwritten", hint="Choose another name.")
        paths, blank = _to_answer(dataset)
        if not paths:
            raise InputError(
                f"{dataset.name} has no unlabelled images", hint="`fieldmark predict` answers for images that are in no dataset."
            )
        images = [("", path) for path in paths]
        samples = [] if like is not None else sample_submissions(dataset.root if dataset.root.is_dir() else dataset.root.parent)
        if like is None:
            _refuse_alike(paths, chosen, samples)
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
    return Submission(
        target, _folders(asked), len(asked - answers.keys()), len(paths) - len(asked), blank=_folders(blank), samples=tuple(samples)
    )


def default_columns(dataset: Dataset) -> str:
    """The columns of a submission that nobody chose: ids are names without endings, or paths where these are alike."""
    paths, _ = _to_answer(dataset)
    return DEFAULT_COLUMNS if len(set(map(NAMES["stem"], paths))) == len(paths) else "id=path,label=class"


def _to_answer(dataset: Dataset) -> tuple[list[str], list[str]]:
    """The unlabelled images that are handed in, and those that are training images without a label."""
    labelled = {_folder(dataset.paths[row]) for row in np.flatnonzero(dataset.labels >= 0)}
    paths = [dataset.paths[row] for row in dataset.rows(UNLABELLED)]
    apart = [path for path in paths if _folder(path) not in labelled]
    return (apart, [path for path in paths if _folder(path) in labelled]) if apart else (paths, [])


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _folders(paths: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """The folders of these images, the fullest first, each with how many."""
    return tuple(Counter(map(_folder, sorted(paths))).most_common())


def _refuse_alike(paths: Sequence[str], chosen: Sequence[tuple[str, Form]], samples: Sequence[Path]) -> None:
    """Raise InputError if columns say which image is meant, and two images are called alike in all of them."""
    names = [NAMES[str(form)] for _, form in chosen if form in NAMES]
    called: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        called.setdefault(tuple(name(path) for name in names), []).append(path)
    alike = [paths for paths in called.values() if len(paths) > 1]
    if names and alike:
        folders = "; ".join(f"{folder}/ ({count:,})" for folder, count in _folders(paths))
        like = f"--like {typed(samples[0])} writes the ids of the sample submission" if samples else "--like SAMPLE the ids of a sample"
        raise InputError(
            f"{len(alike):,} ids would each be those of several images, such as {some(alike[0])}; the unlabelled images lie in {folders}",
            hint=f"--data DATA/FOLDER answers for one folder alone, {like}, and --columns id=path,label=class tells them apart.",
        )


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
