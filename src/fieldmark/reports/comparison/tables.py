"""The tables of a comparison: the metrics of the runs, and the recall of each class."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fieldmark.core.console import duration
from fieldmark.core.errors import InputError
from fieldmark.core.names import typed
from fieldmark.core.summary import Summary
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknowns import unknown_sets
from fieldmark.reports.comparison.entries import Entry
from fieldmark.reports.pages import as_computed, stated, with_interval
from fieldmark.scoring.classes import ClassFigures, per_class
from fieldmark.scoring.metrics import METRICS, Metric, headline_metrics


@dataclass(frozen=True)
class Cell:
    """`value` is written out with its unit; `interval` is empty if there is none, `computed` if the value is not corrected."""

    value: str
    interval: str = ""
    computed: str = ""


@dataclass(frozen=True)
class Row:
    """One figure of all runs; `meaning` is written below its name."""

    name: str
    meaning: str
    cells: list[Cell]


@dataclass(frozen=True)
class ClassRow:
    """One class: its recall in each run in per cent, and that of the rival minus that of the first, in points; None without images."""

    name: str
    images: int
    recalls: list[float | None]
    difference: float | None


def metric_rows(entries: Sequence[Entry]) -> list[Row]:
    """The figures of the runs, as their summaries have them."""
    after = "_calibrated" if all_calibrated(entries) else ""
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
        rows.insert(0, Row("Made of", "", [Cell(_made_of(entry.run)) for entry in entries]))
    return [*rows, *_unknown_rows(entries)]


def all_calibrated(entries: Sequence[Entry]) -> bool:
    """Whether all runs have figures after calibration."""
    return all(entry.summary.test.has("nll_calibrated") for entry in entries)


def _of_val(entries: Sequence[Entry]) -> str:
    chose = all(entry.run.ensemble is None and entry.run.recipe.evaluate.monitor == "top1" for entry in entries)
    return "it chose the best epoch" if chose else ""


def _row(name: str, meaning: str, entries: Sequence[Entry], value: Callable[[Summary], str]) -> Row:
    return Row(name, meaning, [Cell(value(entry.summary)) for entry in entries])


def _measured(name: str, meaning: str, entries: Sequence[Entry], split: Literal["val", "test"], metric: Metric, state: str = "") -> Row:
    figures = [entry.summary.of(split) for entry in entries]
    cells = [Cell(*stated(metric, each, state), as_computed(metric, each, state)) for each in figures]
    return Row(name, meaning + "; corrected for few images" * any(cell.computed for cell in cells), cells)


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


def _unknown_rows(entries: Sequence[Entry]) -> Iterator[Row]:
    """How well each separates unknown images from those of test, by its own score, for the sets that all were evaluated on."""
    sets = [_unknown_sets(entry.run) for entry in entries]
    for name, images in sets[0]:
        if all((name, images) in each for each in sets):
            known = [tuple(each[name, images][f"auroc{end}"] for end in ("", "_low", "_high")) for each in sets]
            meaning = f"separating {len(images):,} images of “{name}” from those of test"
            yield Row(
                "AUROC",
                meaning,
                [Cell(*with_interval(each, unit="\u00a0%")) for each in known],
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
        raise InputError(f"{file} cannot be read: {error!r}", hint=f"`fieldmark calibrate {typed(run.path)}` writes it anew.") from None
    saved = unknown_sets(run, features=False)
    return {(name, frozenset(saved[name].ids.tolist())): each for name, each in figures.items() if name in saved}


def class_rows(entries: Sequence[Entry], rival: Entry) -> list[ClassRow]:
    """Those in which the first and the rival differ most come first; those without images last."""
    reports: list[list[ClassFigures]] = [per_class(entry.test) for entry in entries]
    place = entries.index(rival)
    rows = []
    for figures in zip(*reports, strict=True):
        recalls = [each.recall for each in figures]
        baseline, held = recalls[0], recalls[place]
        difference = None if baseline is None or held is None else held - baseline
        rows.append(ClassRow(figures[0].name, figures[0].n, recalls, difference))
    return sorted(rows, key=lambda row: (row.difference is None, -round(abs(row.difference or 0), 6)))
