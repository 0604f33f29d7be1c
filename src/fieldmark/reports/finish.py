"""What a run gets when it is finished: its figures and its report."""

from __future__ import annotations

from fieldmark.core.console import Console
from fieldmark.core.run_folder import read_json_lines
from fieldmark.evaluation.assessment import assess, write_assessment
from fieldmark.evaluation.run import Run
from fieldmark.reports.curves import write_curves
from fieldmark.reports.report import write_report


def finish(run: Run, console: Console) -> Run:
    """Say what the predictions of a finished run say, draw its figures and write its report."""
    write_assessment(run, assess(run))
    if epochs := read_json_lines(run.folder.metrics_file):  # ensembles have none
        run.folder.figures.mkdir(exist_ok=True)
        write_curves(epochs, run.folder.figures / "curves.png", run.summary["training"]["best_epoch"])
    console.say(f"the report is {write_report(run)}")
    return run
