"""The part of a report about how far answers can be trusted: calibration, abstaining, sets, unknown classes, levels, corruptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fieldmark.core.summary import SplitMetrics
from fieldmark.evaluation.assessment import RISKS, Assessment
from fieldmark.evaluation.unknowns import UnknownFigures
from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.rejection import rejection_charts
from fieldmark.reports.charts.reliability import reliability_charts
from fieldmark.reports.charts.selective import risk_coverage_chart
from fieldmark.reports.pages import as_computed, stated
from fieldmark.scoring.metrics import METRICS, Metric
from fieldmark.scoring.selective import coverage_at

_CHOSEN = {
    "held-out classes": "which separated classes of val, held out in turn, as well as the best score did, to within a point",
    "unknown images": "chosen by images of unknown classes",
    "by the user": "chosen by hand",
}


@dataclass(frozen=True)
class _Calibrated:
    """A figure before and after calibration, with its interval and, if that is corrected, the value as computed, written out."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class _Unknown:
    """One set of unknown images; `how` its score was chosen."""

    figures: UnknownFigures
    how: str
    charts: list[Chart]


def trust(found: Assessment, test: SplitMetrics) -> dict[str, Any]:
    """What the template shows; whatever needs calibration.json is None or empty without it."""
    decisions = found.decisions
    return {
        "decisions": None if decisions is None else decisions.record,
        "calibrates": decisions is not None and (decisions.record.vector is not None or decisions.record.temperature != 1),
        "scaling": "" if decisions is None else _scaling(found),
        "calibrated": [] if decisions is None else _calibrated(test),
        "corrected": [metric.name for metric in METRICS.values() if metric.calibrated and test.has(f"{metric.key}_corrected")],
        "reliability": reliability_charts(*found.reliability) if decisions is not None else [],
        "selective": risk_coverage_chart({"the run": found.risk_coverage}),
        "answered": [(risk, coverage_at(found.risk_coverage, risk / 100)) for risk in RISKS],
        "sets": found.sets,
        "set_coverage": found.set_coverage,
        "resplit": found.resplit,
        "acceptance": found.acceptance,
        "unknown": [_unknown(each, found) for each in found.unknown],
        "blindness": None if decisions is None else decisions.blindness,
        "levels": found.level_figures,
        "severity": found.severity,
        "backoff": found.backoff,
        "silent": [] if decisions is None else [(name, each.silent) for name, each in decisions.backoff.items() if each.silent],
        "tail": found.tail,
        "robustness": found.robustness,
        "severities": [] if found.robustness is None else found.robustness.severities,
    }


def _scaling(found: Assessment) -> str:
    assert found.decisions is not None
    record = found.decisions.record
    if record.vector is not None:
        return "a scale and a bias for each class"
    return f"a temperature of {record.temperature:.3f}"


def _calibrated(test: SplitMetrics) -> list[_Calibrated]:
    listed = [metric for metric in METRICS.values() if metric.calibrated and test.has(f"{metric.key}_calibrated")]
    return [_Calibrated(metric.title, _with_interval(metric, test), _with_interval(metric, test, "_calibrated")) for metric in listed]


def _with_interval(metric: Metric, test: SplitMetrics, state: str = "") -> str:
    value, interval = stated(metric, test, state)
    written = f"{value} ({interval})" if interval else value
    return ", ".join(filter(None, [written, as_computed(metric, test, state)]))


def _unknown(figures: UnknownFigures, found: Assessment) -> _Unknown:
    assert found.decisions is not None
    known, unknown = figures.values[figures.score]
    charts = rejection_charts(known, unknown, found.decisions.threshold, figures.score, figures.values, page_key=figures.name)
    return _Unknown(figures, _CHOSEN[found.decisions.record.rejection.chosen], charts)
