"""What a run gets when it is finished: its figures and its report."""

from __future__ import annotations

from fieldmark.core.console import Console
from fieldmark.core.run_folder import read_json_lines
from fieldmark.evaluation.assessment import Assessment, assess, write_assessment
from fieldmark.evaluation.run import Run
from fieldmark.reports.confusion_figure import write_confusion
from fieldmark.reports.curves import write_curves
from fieldmark.reports.rejection_figure import write_rejection
from fieldmark.reports.reliability_figure import write_reliability
from fieldmark.reports.report import write_report
from fieldmark.reports.selective_figure import write_risk_coverage


def finish(run: Run, console: Console) -> Run:
    """Say what the predictions of a finished run say, draw its figures and write its report."""
    with run.folder.locked():
        found = assess(run)
        write_assessment(run, found)
        _draw(run, found)
        console.say(f"the report is {write_report(run, found=found)}")
    return run


def _draw(run: Run, found: Assessment) -> None:
    figures = run.folder.figures
    figures.mkdir(exist_ok=True)
    if epochs := read_json_lines(run.folder.metrics_file):  # ensembles have none
        write_curves(epochs, figures / "curves.png", run.summary["training"]["best_epoch"])
    write_confusion(found.matrix, found.test.class_names, figures / "confusion.png")
    write_risk_coverage({run.name: found.risk_coverage}, figures / "risk-coverage.png")
    if found.decisions is None:
        return
    write_reliability(*found.reliability, figures / "reliability.png")
    for each in found.unknown:
        known, unknown = each.values[each.score]
        write_rejection(known, unknown, found.decisions.threshold, each.score, figures / f"unknown-{each.name}.png", each.values)
