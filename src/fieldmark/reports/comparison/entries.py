"""The runs that are compared: opened, and checked to be of the same classes and test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.core.names import distinct_names, some
from fieldmark.core.summary import Summary
from fieldmark.evaluation.evaluate import require_finished
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.run import Run
from fieldmark.scoring import metrics
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.selective import RiskCoverage, risk_coverage_of_answers


@dataclass(frozen=True, eq=False)
class Entry:
    """A run with the name that it has on the page, and its labelled images of test in the order of the first run's."""

    name: str
    evidence: Evidence
    test: Predictions

    @property
    def run(self) -> Run:
        return self.evidence.run

    @cached_property
    def summary(self) -> Summary:
        return self.run.summary

    @cached_property
    def hits(self) -> np.ndarray:
        """bool (n,)."""
        return metrics.top_k_hits(self.test.logits, self.test.labels, 1)

    @property
    def top1(self) -> float:
        """In per cent."""
        return 100 * float(self.hits.mean())

    def risk_coverage(self) -> RiskCoverage:
        """By the probability of the answer, calibrated if the run is."""
        decisions = self.run.decisions
        logits = self.test.logits if decisions is None else decisions.calibration(self.test.logits)
        return risk_coverage_of_answers(logits, self.test.labels)


def open_entries(runs: Sequence[Run]) -> list[Entry]:
    first, *others = found = [Evidence(run) for run in runs]
    for other in others:
        _check_classes(first.run, other.run, first.test.class_names, other.test.class_names)
        _check_images(first.run, other.run, _contents(first), _contents(other))
    names = distinct_names([run.path for run in runs])
    return [Entry(name, each, _ordered(each.test, first.test.ids)) for name, each in zip(names, found, strict=True)]


def check_runs(runs: Sequence[Run]) -> None:
    seen: dict[Path, Run] = {}
    for run in runs:
        if (place := run.path.resolve()) in seen:
            raise InputError(f"{run.path} is given twice: it is the same folder as {seen[place].path}", hint="Name every run once.")
        seen[place] = run
        require_finished(run)


def _contents(evidence: Evidence) -> dict[str, tuple[str, int]]:
    """By path, what decides whether an image is the same: its content and its label."""
    test, hashes = evidence.test, evidence.images.hashes
    return {path: (hashes.get(path, ""), label) for path, label in zip(test.ids.tolist(), test.labels.tolist(), strict=True)}


def _check_classes(first: Run, run: Run, expected: Sequence[str], actual: Sequence[str]) -> None:
    if expected == actual:
        return
    lacking, more = ([name for name in one if name not in set(other)] for one, other in ((expected, actual), (actual, expected)))
    problems = [f"{run.path} does not know {some(lacking)}"] if lacking else []
    problems += [f"{first.path} does not know {some(more)}"] if more else []
    raise InputError(
        *problems or [f"{run.path} has the classes of {first.path} in another order"], hint="Compare runs with the same classes."
    )


def _check_images(first: Run, run: Run, expected: Mapping[str, object], actual: Mapping[str, object]) -> None:
    if expected == actual:
        return
    hint = "Compare runs with the same test images: the same data and the same data.split_seed."
    if alone := sorted(expected.keys() ^ actual.keys()):
        raise InputError(f"{first.path} and {run.path} were not tested on the same images: only one was on {some(alone)}", hint=hint)
    changed = sorted(path for path in expected if expected[path] != actual[path])
    raise InputError(f"test images of {first.path} have another content or class in {run.path}: {some(changed)}", hint=hint)


def _ordered(test: Predictions, ids: np.ndarray) -> Predictions:
    places = {path: row for row, path in enumerate(test.ids.tolist())}
    return test.take(np.array([places[path] for path in ids.tolist()], np.int64))
