"""Everything that a run's saved predictions say about it, as one record: what evaluation.json, the tables and the report are made of."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.files import whole_file, write_json
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.robustness import Robustness, read_robustness
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknowns import UnknownFigures, assess_unknown
from fieldmark.scoring import metrics
from fieldmark.scoring.calibration import Reliability, reliability
from fieldmark.scoring.classes import Share, averages, head_to_tail, per_class
from fieldmark.scoring.conformal import CoverageReport, Resplit, coverage_report, resplit_coverage
from fieldmark.scoring.confusion import Pair, confusion_matrix, worst_pairs
from fieldmark.scoring.decisions import Decisions
from fieldmark.scoring.predictions import Predictions, softmax
from fieldmark.scoring.promises import Acceptance, SetCoverage
from fieldmark.scoring.selective import RiskCoverage, coverage_at, risk_coverage_of_answers
from fieldmark.scoring.taxonomy import BackoffReport, LevelFigures, Severity, backoff_report, level_figures, mistake_severity

SCHEMA = 1
RISKS = (1.0, 2.0, 5.0, 10.0)
"""Shares of wrong answers, in per cent, for which the report says how many images can be answered."""
_PAIRS = 50


@dataclass(frozen=True, eq=False)
class Assessment:
    """Of the labelled images of test, `test`. What needs calibration.json is None without it.

    logits: calibrated if the run is. trained: images of each class in train, int64 (C,). levels: by name, the parent of each class.
    """

    evidence: Evidence
    test: Predictions
    logits: np.ndarray
    trained: np.ndarray
    levels: Mapping[str, Sequence[str]]
    decisions: Decisions | None
    unknown: tuple[UnknownFigures, ...]
    robustness: Robustness | None

    @cached_property
    def answers(self) -> Predictions:
        """`test` with calibrated logits, as `predict` answers."""
        return replace(self.test, logits=self.logits)

    @cached_property
    def hits(self) -> np.ndarray:
        """Which images are classified correctly: bool (n,)."""
        return self.predicted == self.test.labels

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 (n,), -1 if a logit is not finite."""
        return metrics.predicted_classes(self.logits, self.test.labels)

    @cached_property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @cached_property
    def matrix(self) -> np.ndarray:
        return confusion_matrix(self.test.labels, self.predicted, len(self.test.class_names))

    @cached_property
    def pairs(self) -> list[Pair]:
        return worst_pairs(self.matrix, _PAIRS)

    @cached_property
    def reliability(self) -> tuple[Reliability, Reliability]:
        """Before and after calibration."""
        return reliability(self.test.logits, self.test.labels), reliability(self.logits, self.test.labels)

    @cached_property
    def risk_coverage(self) -> RiskCoverage:
        """By the calibrated probability of the answer."""
        return risk_coverage_of_answers(self.logits, self.test.labels)

    @cached_property
    def averages(self) -> dict[str, dict[str, float]]:
        return averages(self.answers)

    @cached_property
    def tail(self) -> list[Share]:
        return head_to_tail(self.answers, self.trained)

    @cached_property
    def level_figures(self) -> list[LevelFigures]:
        return level_figures(self.probabilities, self.test.labels, self.levels) if self.levels else []

    @cached_property
    def severity(self) -> Severity | None:
        return mistake_severity(self.predicted, self.test.labels, self.levels) if self.levels else None

    @cached_property
    def backoff(self) -> dict[str, BackoffReport]:
        """By the name of the level."""
        if self.decisions is None:
            return {}
        return {name: backoff_report(each, self.probabilities, self.test.labels) for name, each in self.decisions.backoff.items()}

    @cached_property
    def sets(self) -> CoverageReport | None:
        return None if self.decisions is None else coverage_report(self.decisions.sets.sets(self.probabilities), self.test.labels)

    @cached_property
    def set_coverage(self) -> SetCoverage | None:
        """The share of test whose sets hold the label, beside what chance allows."""
        return None if self.decisions is None else self.decisions.set_coverage(self.test)

    @cached_property
    def acceptance(self) -> Acceptance | None:
        """The share of test that the threshold accepts, beside what chance allows; None where it rejects nothing."""
        score = self.evidence.run.score
        return None if self.decisions is None or score is None else self.decisions.acceptance(score, self.test)

    @cached_property
    def resplit(self) -> Resplit | None:
        """Coverage over 100 halves of test, each with a rule of its own: whether such sets keep their promise on these images."""
        if self.decisions is None or len(self.test) < 2:
            return None
        groups = self.test.groups
        if groups is not None and (groups >= 0).all() and len(np.unique(groups)) < 2:
            return None
        rule = self.decisions.sets
        return resplit_coverage(self.probabilities, self.test.labels, rule.coverage, rule.method, groups=groups)

    def to_dict(self) -> dict[str, Any]:
        """For evaluation.json: shares in [0, 1] but for what is called top1, low, high, precision, recall, f1, accepted, rejected, the
        figures of scores, `set_coverage` and `acceptance`, which are in per cent."""
        names, curve = self.test.class_names, self.risk_coverage
        return {
            "schema": SCHEMA,
            "n": len(self.test),
            "averages": self.averages,
            "pairs": [{"one": names[pair.one], "other": names[pair.other]} | _counts(pair) for pair in self.pairs],
            "head_to_tail": [asdict(each) for each in self.tail],
            "reliability": {
                name: {part: values.tolist() for part, values in asdict(each).items()}
                for name, each in zip(("before", "after"), self.reliability, strict=True)
            },
            "risk_coverage": {
                "aurc": curve.aurc,
                "excess_aurc": curve.excess_aurc,
                "answered_at_risk": {f"{risk:g} %": coverage_at(curve, risk / 100) for risk in RISKS},
            },
            "levels": [asdict(each) for each in self.level_figures],
            "severity": None if self.severity is None else asdict(self.severity),
            "backoff": {name: asdict(each) for name, each in self.backoff.items()},
            "sets": None if self.sets is None else _without(asdict(self.sets), "class_coverage"),
            "set_coverage": None if self.set_coverage is None else asdict(self.set_coverage),
            "sets_resplit": None if self.resplit is None else asdict(self.resplit),
            "acceptance": None if self.acceptance is None else asdict(self.acceptance),
            "unknown": [each.to_dict() for each in self.unknown],
            "robustness": None if self.robustness is None else self.robustness.model_dump(),
        }


def assess(run: Run) -> Assessment:
    """From what is saved in the run folder alone; nothing is predicted. Raises InputError if test has no labelled images."""
    decisions, evidence = run.decisions, Evidence(run)
    test = evidence.test
    trained = Counter(row["label"] for row in evidence.rows if row["split"] in evidence.learnt)
    return Assessment(
        evidence=evidence,
        test=test,
        logits=test.logits if decisions is None else decisions.calibration(test.logits),
        trained=np.array([trained[name] for name in test.class_names], np.int64),
        levels=run.levels,
        decisions=decisions,
        unknown=() if decisions is None else tuple(assess_unknown(run, test, decisions)),
        robustness=read_robustness(run),
    )


def write_assessment(found: Assessment) -> None:
    """Into the run's folder: evaluation.json, classes.csv (the classification report) and confusion.csv.

    The rows of confusion.csv are classes, its columns what they were predicted as.
    """
    folder = found.evidence.run.folder
    write_json(folder.evaluation_file, found.to_dict())
    fields = ("name", "n", "correct", "precision", "recall", "f1", "recall_low", "recall_high")
    rows = [[getattr(each, field) for field in fields] for each in per_class(found.answers)]
    _write_csv(folder.classes_file, ("class", "images", *fields[2:]), rows)
    names = found.test.class_names
    _write_csv(
        folder.confusion_file,
        ("class", *names, "(no answer)"),
        [[name, *counts] for name, counts in zip(names, found.matrix.tolist(), strict=True)],
    )


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def _counts(pair: Pair) -> dict[str, int]:
    return {name: getattr(pair, name) for name in ("one_as_other", "other_as_one", "total")}


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}
