from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elements import Page

from fieldmark.core.console import Console
from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import SplitMetrics
from fieldmark.evaluation.assessment import assess
from fieldmark.evaluation.calibrate import calibrate_run
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknown_images import evaluate_unknown
from fieldmark.reports.report import write_report
from fieldmark.reports.trust import trust
from fieldmark.scoring.decisions import Wanted

QUIET = Console(quiet=True)


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(finished_run.path, tmp_path / "run")
    return Run.load(tmp_path / "run")


def test_figures_before_and_after_calibration_are_those_of_the_summary(run: Run) -> None:
    test = run.summary.test
    shown = trust(assess(run), run.summary.test)
    assert [each.name for each in shown["calibrated"]] == ["NLL", "Brier score", "ECE", "Adaptive ECE"]
    nll, _, ece, _ = shown["calibrated"]
    assert ece.before == f"{test.ece:.1f}\u00a0% ({test.ece_low:.1f}–{test.ece_high:.1f})"
    corrected = test.model_copy(update={"ece_corrected": 7.5, "ece_calibrated_corrected": 0.0})
    _, _, ece, _ = trust(assess(run), SplitMetrics.model_validate(corrected.model_dump()))["calibrated"]
    assert ece.before == f"7.5\u00a0% ({test.ece_low:.1f}–{test.ece_high:.1f}), {test.ece:.1f}\u00a0% as computed"
    assert ece.after.startswith("0.0\u00a0% (") and ece.after.endswith(f", {test.ece_calibrated:.1f}\u00a0% as computed")
    after = test.interval("nll_calibrated")
    assert nll.after == f"{after[0]:.3f} ({after[1]:.3f}–{after[2]:.3f})"
    assert shown["scaling"] == f"a temperature of {run.decisions.record.temperature:.3f}"  # type: ignore[union-attr]
    assert len(shown["reliability"]) == 2 and shown["unknown"] == [] and shown["robustness"] is None and shown["severities"] == []


def test_calibration_that_changes_nothing_is_said_and_shown_once(run: Run) -> None:
    record = json.loads(run.folder.calibration_file.read_text())
    run.folder.calibration_file.write_text(json.dumps(record | {"temperature": 1.0}))
    test = run.summary.test
    same = {f"{name}_calibrated{end}": getattr(test, f"{name}{end}") for name in ("nll", "ece") for end in ("", "_low", "_high")}
    run.summary.model_copy(update={"test": test.model_copy(update=same)}).write(run.folder.summary_file)
    unchanged = Run.load(run.path)
    shown = trust(assess(unchanged), unchanged.summary.test)
    assert not shown["calibrates"] and len(shown["reliability"]) == 1
    text = Page(write_report(unchanged).read_text(encoding="utf-8")).text
    assert "calibration left them as they are (a temperature of 1)" in text
    assert "After" not in text and "after calibration" not in text


def test_a_run_without_calibration_has_what_needs_none(run: Run) -> None:
    run.folder.calibration_file.unlink()
    bare = Run.load(run.path)
    shown = trust(assess(bare), bare.summary.test)
    assert shown["decisions"] is None and shown["scaling"] == "" and shown["calibrated"] == [] and shown["reliability"] == []
    assert shown["sets"] is None and shown["resplit"] is None and shown["unknown"] == []
    assert shown["selective"] and len(shown["answered"]) == 4
    page = Page(write_report(bare).read_text(encoding="utf-8")).text
    assert "The run has no calibration.json" in page


def test_the_share_that_can_be_answered_is_the_largest_whose_answers_hold(run: Run) -> None:
    """Against every prefix of the images, the surest first."""
    found = assess(run)
    order = np.argsort(-found.probabilities.max(axis=1), kind="stable")
    wrong = np.cumsum(~found.hits[order]) / np.arange(1, len(order) + 1)
    for risk, share in trust(found, run.summary.test)["answered"]:
        kept = np.flatnonzero(wrong <= risk / 100)
        assert share == pytest.approx((kept[-1] + 1) / len(order) if len(kept) else 0)


def test_a_run_that_cannot_tell_unknown_images_says_so(run: Run) -> None:
    blind = "This run cannot tell images of none of its classes: "
    assert run.decisions is not None and run.decisions.record.n < 19
    assert blind in Page(write_report(run).read_text(encoding="utf-8")).text
    assert assess(run).acceptance is None
    calibrate_run(run, Wanted(accept=0.5), (), QUIET)
    again = Run.load(run.path)
    accepted, text = assess(again).acceptance, Page(write_report(again).read_text(encoding="utf-8")).text
    assert accepted is not None and f"{accepted.rejected} of 12 images of known classes come out unknown." in text
    assert accepted.fitted_on == again.decisions.record.n  # type: ignore[union-attr]
    allowed = f"{accepted.allowed_low:.1f} to {accepted.allowed_high:.1f} %"
    assert f"a threshold fitted on {accepted.fitted_on} images of it may accept {allowed} of all images of known classes." in text
    assert again.decisions is not None and (again.decisions.blindness is None or "chance" in again.decisions.blindness)
    assert (blind in Page(write_report(again).read_text(encoding="utf-8")).text) == (again.decisions.blindness is not None)


def test_vector_scaling_is_named(run: Run) -> None:
    calibrate_run(run, replace(Wanted(), scaling="vector"), (), QUIET)
    again = Run.load(run.path)
    assert trust(assess(again), again.summary.test)["scaling"] == "a scale and a bias for each class"


def test_each_set_of_unknown_images_says_how_its_score_was_chosen(run: Run, birds: Path) -> None:
    photos = birds / "test"
    evaluate_unknown(run, [photos], QUIET)
    (found,) = trust(assess(run), run.summary.test)["unknown"]
    assert found.figures.name == "test" and found.figures.n == 12 and not found.figures.chose
    assert found.how.startswith("which separated classes of val, held out in turn, as well") and found.charts
    calibrate_run(run, replace(Wanted(), score="energy"), (), QUIET)
    again = Run.load(run.path)
    (found,) = trust(assess(again), again.summary.test)["unknown"]
    assert found.figures.score == "energy" and found.how == "chosen by hand"
    calibrate_run(again, Wanted(), [photos], QUIET)
    again = Run.load(run.path)
    (found,) = trust(assess(again), again.summary.test)["unknown"]
    assert found.figures.chose and found.how == "chosen by images of unknown classes"


def test_the_report_has_each_corruption_at_each_severity_that_was_measured(run: Run) -> None:
    measured = {"n": 12, "none": 91.7, "corruptions": {"fog": {"5": 50.0, "1": 83.3}, "jpeg": {"1": 91.7}}}
    RunFolder(run.path).robustness_file.write_text(json.dumps(measured))
    shown = trust(assess(run), run.summary.test)
    assert shown["severities"] == ["1", "5"]
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "fog 83.3 50.0" in text and "jpeg 91.7" in text
