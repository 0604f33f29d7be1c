"""The same from Python and a notebook: train, resume, evaluate, report and submit. The command line is a shell over this."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fieldmark.core.console import Console
from fieldmark.core.recipe import load_recipe
from fieldmark.core.run_folder import read_json_lines
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.submission import DEFAULT_COLUMNS, submit_run
from fieldmark.reports.curves import write_curves
from fieldmark.reports.report import write_report
from fieldmark.training.train import resume_run, train_run


def train(
    data: str | Path,
    *settings: str,
    recipe: str | Path = "default",
    out: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Train a classifier and give its run.

    Args:
        data: a folder whose layout is recognised, or "birds" for the built-in set.
        settings: recipe keys, such as "train.epochs=12".
        recipe: a preset's name or a YAML file.
        out: the run folder to make; a new one under runs/ by default.
        quiet: print nothing.

    Raises:
        InputError: something given cannot be used; nothing was written.
        CheckFailed: the model is over model.max_parameters. TrainingFailed: the loss was not finite.
    """
    console = Console(quiet)
    return finish(train_run(data, load_recipe(recipe, settings), out, console), console)


def resume(run: str | Path, quiet: bool = False) -> Run:
    """Continue a run that was interrupted, killed or failed; the result equals that of a run never stopped."""
    console = Console(quiet)
    return finish(resume_run(run, console), console)


def finish(run: Run, console: Console) -> Run:
    """Draw the figures of a finished run and write its report."""
    run.folder.figures.mkdir(exist_ok=True)
    write_curves(read_json_lines(run.folder.metrics_file), run.folder.figures / "curves.png", run.summary["training"]["best_epoch"])
    console.say(f"the report is {write_report(run)}")
    return run


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a finished run, one HTML file that opens offline, into its folder or to `out`; gives the file."""
    return write_report(Run.load(run), None if out is None else Path(out))


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    split: str = "test",
    crop: Literal["none", "box"] | None = None,
    corrupt: str = "none",
    quiet: bool = True,
) -> dict[str, Any]:
    """Figures of a run on a split of its own data or of other data; the predictions are saved in the run folder.

    Args:
        crop: on whole pictures ("none") or on the boxes of their objects ("box"); by default as the run was trained.
        corrupt: a corruption and its severity, such as "fog:3".

    Classes are matched by name. Raises InputError for data with classes that the run does not know.
    """
    return evaluate_run(Run.load(run), data, split, Console(quiet), crop, corrupt)


def submit(run: str | Path, out: str | Path, data: str | Path | None = None, columns: str = DEFAULT_COLUMNS, quiet: bool = True) -> Path:
    """Predict the pictures without labels of a run's data, or of other data, into a CSV file, and give the file.

    `columns` are "header=what", separated by commas, as in evaluation.submission.submit_run. Raises InputError where there are none.
    """
    submit_run(Run.load(run), Path(out), data, columns, Console(quiet))
    return Path(out)
