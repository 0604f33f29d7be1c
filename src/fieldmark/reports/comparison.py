"""The report of several runs side by side: one HTML file that opens offline. The first run is the baseline of the others."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fieldmark.core.console import duration
from fieldmark.core.errors import InputError
from fieldmark.core.files import check_output, write_text
from fieldmark.core.names import distinct_names, some
from fieldmark.core.recipe.values import MEASURED, flat
from fieldmark.core.run_folder import read_json_lines, versions
from fieldmark.core.summary import Summary
from fieldmark.evaluation.evaluate import require_finished
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknowns import unknown_sets
from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.selective import risk_coverage_chart
from fieldmark.reports.charts.val_curves import val_curves_chart
from fieldmark.reports.gallery import Card, cards
from fieldmark.reports.pages import render, stated, with_interval
from fieldmark.scoring import metrics
from fieldmark.scoring.classes import ClassFigures, per_class
from fieldmark.scoring.comparison import Difference, compare, holm
from fieldmark.scoring.metrics import METRICS, Metric, headline_metrics
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.selective import RiskCoverage, risk_coverage_of_answers

_START = b"<!doctype html>\n<!-- a comparison of Fieldmark -->\n"
_IMAGES = 12
_ENDS = (1, 2, 5, 10, 20, 50, 100)
"""Where a scale of differences may end, in points."""


@dataclass(frozen=True, eq=False)
class _Entry:
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
        """By the probability of the answer, calibrated where the run is."""
        decisions = self.run.decisions
        logits = self.test.logits if decisions is None else decisions.calibration(self.test.logits)
        return risk_coverage_of_answers(logits, self.test.labels)


@dataclass(frozen=True)
class _Pair:
    """A run less the first one. `p` is corrected for the number of such pairs; `both` and `neither` count images."""

    name: str
    difference: Difference
    p: float
    both: int
    neither: int

    @property
    def significant(self) -> bool:
        return self.difference.significant and self.p < 0.05

    @property
    def digits(self) -> int:
        """Decimals with which an interval that leaves zero out does not seem to touch it."""
        nearest = min(abs(self.difference.low), abs(self.difference.high))
        return 2 if self.difference.significant and nearest < 0.05 else 1


@dataclass(frozen=True)
class _Cell:
    """`value` is written out with its unit; `interval` is empty where there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class _Row:
    """One figure of all runs; `meaning` stands below its name."""

    name: str
    meaning: str
    cells: list[_Cell]


@dataclass(frozen=True)
class _Class:
    """One class: its recall in each run in per cent, and that of the rival less that of the first, in points; None without images."""

    name: str
    images: int
    recalls: list[float | None]
    difference: float | None


@dataclass(frozen=True)
class _Said:
    """What one run said of an image, None where it is not a number; the probability is in [0, 1]."""

    name: str
    answer: str | None
    probability: float


@dataclass(frozen=True)
class _Image:
    card: Card
    said: list[_Said]


def write_comparison(runs: Sequence[Run], path: Path | None) -> Path:
    """Write the report of finished runs side by side to `path`, and give the path. The same runs give the same bytes.

    Every run is held against the first one, on the images of test. An image that cannot be shown any more is replaced by the reason.
    Raises InputError where there is no path or it cannot be written, where there are fewer than two runs or the same one twice, where one
    is not finished, and where they have other classes or were tested on other images.
    """
    if len(runs) < 2:
        raise InputError(f"a comparison takes two runs or more, not {len(runs)}", hint="Name the baseline first, then the others.")
    if path is None:
        raise InputError("several runs need a file to write", hint="Name it with --out FILE.")
    _check_runs(runs)
    check_output(path, _START, "--out")
    write_text(path, render("reports/comparison.html.j2", _content(_entries(runs))))
    return path


def _check_runs(runs: Sequence[Run]) -> None:
    seen: dict[Path, Run] = {}
    for run in runs:
        if (place := run.path.resolve()) in seen:
            raise InputError(f"{run.path} is given twice: it is the same folder as {seen[place].path}", hint="Name every run once.")
        seen[place] = run
        require_finished(run)


def _entries(runs: Sequence[Run]) -> list[_Entry]:
    first, *others = found = [Evidence(run) for run in runs]
    for other in others:
        _check_classes(first.run, other.run, first.test.class_names, other.test.class_names)
        _check_images(first.run, other.run, _contents(first), _contents(other))
    names = distinct_names([run.path for run in runs])
    return [_Entry(name, each, _ordered(each.test, first.test.ids)) for name, each in zip(names, found, strict=True)]


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


def _content(entries: Sequence[_Entry]) -> dict[str, Any]:
    """What the template shows. The rival is the run with the highest top-1 but for the first one."""
    first, *others = entries
    rival = max(others, key=lambda entry: entry.top1)  # of equals, the one that was named first
    pairs = _pairs(first, others)
    pair = pairs[others.index(rival)]
    classes = _classes(entries, rival)
    only_first, only_rival = np.flatnonzero(first.hits & ~rival.hits), np.flatnonzero(rival.hits & ~first.hits)
    return {
        "title": _title(entries, pair),
        "signed": _signed,
        "small": _small,
        "of_chance": _of_chance,
        "dataset": first.summary.dataset,
        "n": len(first.test),
        "entries": entries,
        "first": first,
        "rival": rival,
        "pair": pair,
        "pairs": pairs,
        "end": _end(pairs),
        "resamples": first.run.recipe.evaluate.resamples,
        "grouped": first.test.is_grouped,
        "seed_alone": _seed_alone(first, rival),
        "rows": _rows(entries),
        "calibrated": _calibrated(entries),
        "classes": classes,
        "charts": _charts(entries),
        "settings": _settings(entries),
        "conditions": _conditions(entries),
        "trained": [entry for entry in entries if entry.run.ensemble is None],
        "root": first.evidence.root,
        "moved": first.evidence.moved,
        "images": [
            (first, rival, _images(only_first, first, rival, (first, rival)), len(only_first)),
            (rival, first, _images(only_rival, first, first, (first, rival)), len(only_rival)),
        ],
        "command": shlex.join(["fieldmark", "report", *(os.path.abspath(entry.run.path) for entry in entries), "--out", "FILE"]),
        "version": versions()["fieldmark"],
    }


def _title(entries: Sequence[_Entry], pair: _Pair) -> str:
    if len(entries) == 2:
        return f"{pair.name} against {entries[0].name}: {_signed(pair.difference.points, pair.digits)} points"
    return f"{len(entries)} runs on {entries[0].summary.dataset.name}"


def _signed(value: float, digits: int = 1) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: not -0.0


def _small(p: float) -> str:
    return "<\u00a00.0001" if p < 0.0001 else f"{p:.2g}"


def _of_chance(p: float) -> str:
    """As it stands behind a p."""
    return _small(p) if p < 0.0001 else f"=\u00a0{_small(p)}"


# ---- differences --------------------------------------------------------------------------------------------------------------------


def _pairs(first: _Entry, others: Sequence[_Entry]) -> list[_Pair]:
    recipe = first.run.recipe
    found = [compare(entry.test, first.test, recipe.evaluate.resamples, recipe.train.seed) for entry in others]
    corrected = holm([each.p for each in found])
    return [
        _Pair(entry.name, each, p, int((entry.hits & first.hits).sum()), int((~entry.hits & ~first.hits).sum()))
        for entry, each, p in zip(others, found, corrected, strict=True)
    ]


def _end(pairs: Sequence[_Pair]) -> int:
    """Where the scale ends that holds all intervals."""
    reach = max(max(-pair.difference.low, pair.difference.high) for pair in pairs)
    return next(end for end in _ENDS if end >= reach or end == _ENDS[-1])


def _seed_alone(first: _Entry, rival: _Entry) -> bool:
    """Whether they are trainings of one recipe, with another seed each."""
    if first.run.ensemble is not None or rival.run.ensemble is not None:
        return False
    if _made_with(first.run) != _made_with(rival.run):
        return False
    one, other = (flat(entry.run.recipe) for entry in (first, rival))
    changed = {key for key in one.keys() | other.keys() if one.get(key, ...) != other.get(key, ...)}
    return "train.seed" in changed and changed <= {"train.seed", *MEASURED}


# ---- tables -------------------------------------------------------------------------------------------------------------------------


def _calibrated(entries: Sequence[_Entry]) -> bool:
    """Whether all runs have figures after calibration."""
    return all(entry.summary.test.has("nll_calibrated") for entry in entries)


def _rows(entries: Sequence[_Entry]) -> list[_Row]:
    """The figures of the runs, as their summaries have them."""
    after = "_calibrated" if _calibrated(entries) else ""
    state = "after calibration" if after else "before calibration"
    rows = [
        _row("Model", "", entries, lambda summary: summary.model.name),
        _row("Input", "pixels", entries, _input),
        _row("Parameters", "", entries, lambda summary: _scaled(summary.model.parameters)),
        _row("Multiply-adds", "an image", entries, lambda summary: _scaled(summary.model.macs)),
        _row("Training time", "", entries, lambda summary: duration(summary.training.seconds)),
        _measured("Val top-1", _of_val(entries), entries, "val", METRICS["top1"]),
        _measured("Test top-1", "", entries, "test", METRICS["top1"]),
    ]
    for metric in headline_metrics(entries[0].summary.dataset.classes)[1:]:
        of_probabilities = (after, f"{metric.meaning}, {state}") if metric.calibrated else ("", metric.meaning)
        rows.append(_measured(metric.title, of_probabilities[1], entries, "test", metric, of_probabilities[0]))
    if any(entry.run.ensemble is not None for entry in entries):
        rows.insert(0, _Row("Made of", "", [_Cell(_made_of(entry.run)) for entry in entries]))
    return [*rows, *_unknown_rows(entries)]


def _of_val(entries: Sequence[_Entry]) -> str:
    chose = all(entry.run.ensemble is None and entry.run.recipe.evaluate.monitor == "top1" for entry in entries)
    return "it chose the best epoch" if chose else ""


def _row(name: str, meaning: str, entries: Sequence[_Entry], value: Callable[[Summary], str]) -> _Row:
    return _Row(name, meaning, [_Cell(value(entry.summary)) for entry in entries])


def _measured(name: str, meaning: str, entries: Sequence[_Entry], split: Literal["val", "test"], metric: Metric, state: str = "") -> _Row:
    return _Row(name, meaning, [_Cell(*stated(metric, entry.summary.of(split), state)) for entry in entries])


def _input(summary: Summary) -> str:
    _, height, width = summary.model.input
    return f"{width} × {height}"


def _scaled(number: int) -> str:
    """1.23 M, 45.6 G: three digits or more."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}\u00a0{unit}"
    return str(number)


def _made_of(run: Run) -> str:
    return "one network" if run.ensemble is None else f"{run.ensemble.method} of {len(run.ensemble.members)} networks"


def _unknown_rows(entries: Sequence[_Entry]) -> Iterator[_Row]:
    """How well each tells unknown images from those of test, by its own score, for the sets that all were evaluated on."""
    sets = [_unknown_sets(entry.run) for entry in entries]
    for name, images in sets[0]:
        if all((name, images) in each for each in sets):
            known = [tuple(each[name, images][f"auroc{end}"] for end in ("", "_low", "_high")) for each in sets]
            meaning = f"telling {len(images):,} images of “{name}” from those of test"
            yield _Row(
                "AUROC",
                meaning,
                [_Cell(*with_interval(each, unit="\u00a0%")) for each in known],
            )


def _unknown_sets(run: Run) -> dict[tuple[str, frozenset[str]], dict[str, Any]]:
    """The figures of the run's score, by the name of the set and its images."""
    file = run.folder.evaluation_file
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["unknown"]
        figures = {each["name"]: next(score for score in each["scores"] if score["name"] == each["score"]) for each in found}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, StopIteration) as error:
        raise InputError(f"{file} cannot be read: {error!r}", hint=f"`fieldmark calibrate {run.path}` writes it anew.") from None
    saved = unknown_sets(run, features=False)
    return {(name, frozenset(saved[name].ids.tolist())): each for name, each in figures.items() if name in saved}


def _classes(entries: Sequence[_Entry], rival: _Entry) -> list[_Class]:
    """Those in which the first and the rival differ most come first; those without images last."""
    reports: list[list[ClassFigures]] = [per_class(entry.test) for entry in entries]
    place = entries.index(rival)
    rows = []
    for figures in zip(*reports, strict=True):
        recalls = [each.recall for each in figures]
        baseline, held = recalls[0], recalls[place]
        difference = None if baseline is None or held is None else held - baseline
        rows.append(_Class(figures[0].name, figures[0].n, recalls, difference))
    return sorted(rows, key=lambda row: (row.difference is None, -round(abs(row.difference or 0), 6)))


def _settings(entries: Sequence[_Entry]) -> list[tuple[str, list[str]]]:
    """The settings in which trainings differ, with their values; ensembles have none of their own."""
    recipes = [flat(entry.run.recipe) for entry in entries if entry.run.ensemble is None]
    return _differing(recipes)


def _conditions(entries: Sequence[_Entry]) -> list[tuple[str, list[str]]]:
    """What else the runs were made with, where that differs."""
    return _differing([_made_with(entry.run) | {"device": entry.run.folder.manifest().device} for entry in entries])


def _made_with(run: Run) -> dict[str, Any]:
    """What decides the result beside the recipe."""
    manifest = run.folder.manifest()
    versions = {f"{name} version": version for name, version in manifest.versions.items() if name != "platform"}
    return {"data fingerprint": manifest.fingerprint} | versions


def _differing(values: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for each in values for key in each)
    rows = [(key, [_written(each[key]) if key in each else "–" for each in values]) for key in keys]
    return [(key, cells) for key, cells in rows if len(set(cells)) > 1]


def _written(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ---- charts and images ------------------------------------------------------------------------------------------------------------


def _charts(entries: Sequence[_Entry]) -> list[Chart]:
    risks = risk_coverage_chart({entry.name: entry.risk_coverage() for entry in entries})
    epochs = val_curves_chart({entry.name: _epochs(entry.run) for entry in entries})
    return [risks] if epochs is None else [risks, epochs]


def _epochs(run: Run) -> list[dict[str, Any]]:
    return read_json_lines(run.folder.metrics_file) if run.ensemble is None else []


def _images(rows: np.ndarray, first: _Entry, wrong: _Entry, both: Sequence[_Entry]) -> list[_Image]:
    """Some of these rows with what both say, those first on which `wrong` is surest of its mistake."""
    order = np.argsort(-metrics.confidences(wrong.test.logits[rows]), kind="stable")[:_IMAGES]
    chosen = rows[order]
    found = cards(first.test, chosen, first.evidence.images)
    said = [_said(entry, chosen) for entry in both]
    return [_Image(card, list(each)) for card, each in zip(found, zip(*said, strict=True), strict=True)]


def _said(entry: _Entry, rows: np.ndarray) -> list[_Said]:
    if not len(rows):
        return []
    test = entry.test.take(rows)
    answers, probabilities = metrics.predicted_classes(test.logits, test.labels), test.probabilities()
    return [
        _Said(entry.name, test.class_names[answer] if answer >= 0 else None, float(probability[answer]))
        for answer, probability in zip(answers.tolist(), probabilities, strict=True)
    ]
