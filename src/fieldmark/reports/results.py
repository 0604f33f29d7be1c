"""What a finished run says, written into its folder: evaluation.json, tables, charts and the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.names import some
from fieldmark.core.run_folder import read_json_lines
from fieldmark.evaluation.answers_table import write_answers
from fieldmark.evaluation.assessment import Assessment, assess, write_assessment
from fieldmark.evaluation.run import Run
from fieldmark.reports.charts.chart import save_png
from fieldmark.reports.charts.confusion import confusion_charts
from fieldmark.reports.charts.curves import curve_charts
from fieldmark.reports.charts.rejection import rejection_charts
from fieldmark.reports.charts.reliability import reliability_charts
from fieldmark.reports.charts.selective import risk_coverage_chart
from fieldmark.reports.report import write_report


def write_results(run: Run, console: Console) -> Run:
    """Write them from what is saved in the run's folder, and return the run."""
    with run.folder.locked():
        with console.busy("assessing what was predicted"):
            found = assess(run)
            write_assessment(found)
            write_answers(run, found.evidence.saved_test, run.folder.answers_file)
        with console.busy("drawing charts and the report"):
            numbered = [path for path in _draw(run, found) if path is not None]
            report = write_report(run, found=found)
        if numbered:
            listed = some([f"figures/{path.name}" for path in numbered], 3)
            what = "some names have letters that no font here has, so the figures number them"
            console.say(f"{what} ({listed}); a font for their script, such as a Noto font, draws them")
        console.say(f"the report is {report}")
    return run


def _draw(run: Run, found: Assessment) -> Iterator[Path | None]:
    """What save_png returns for each figure."""
    figures = run.folder.figures
    figures.mkdir(exist_ok=True)
    if epochs := read_json_lines(run.folder.metrics_file):  # ensembles have none
        yield save_png([curve_charts(epochs, run.summary.training.best_epoch)], figures / "curves.png", legend=True)
    matrix, *close_ups = confusion_charts(found.matrix, found.test.class_names)
    yield save_png([[matrix], *(close_ups[k : k + 2] for k in range(0, len(close_ups), 2))], figures / "confusion.png")
    yield save_png([[risk_coverage_chart({run.name: found.risk_coverage})]], figures / "risk-coverage.png")
    if found.decisions is None:
        return
    yield save_png([reliability_charts(*found.reliability)], figures / "reliability.png")
    for each in found.unknown:
        known, unknown = each.values[each.score]
        charts = rejection_charts(known, unknown, found.decisions.threshold, each.score, each.values)
        yield save_png([charts], figures / f"unknown-{each.name}.png")
