"""The report of a run: one HTML file that opens offline and needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.files import check_output, write_text
from fieldmark.core.run_folder import read_json_lines, versions
from fieldmark.core.summary import SplitMetrics, Summary
from fieldmark.datasets.dataset import SPLITS, UNLABELLED
from fieldmark.datasets.splits import SplitRow, split_row
from fieldmark.evaluation.assessment import Assessment, assess
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.run import Run
from fieldmark.reports.browse import browse
from fieldmark.reports.cautions import cautions
from fieldmark.reports.charts.confusion import confusion_charts
from fieldmark.reports.charts.curves import curve_charts, stage_starts
from fieldmark.reports.gallery import cards, large_images, ranked
from fieldmark.reports.members import ensemble_command, ensemble_part
from fieldmark.reports.pages import as_computed, render, stated
from fieldmark.reports.provenance import provenance, training_command
from fieldmark.reports.strips import strips
from fieldmark.reports.trust import trust
from fieldmark.scoring.classes import ClassFigures, per_class
from fieldmark.scoring.confusion import cluster_order
from fieldmark.scoring.metrics import METRICS, Metric, headline_metrics

_START = b"<!doctype html>\n<!-- a report of Fieldmark -->\n"
_MISTAKES, _HITS, _PAIRS = 24, 12, 20
_NAMED = 100
"""How many of the images set aside are listed."""


@dataclass(frozen=True)
class _Figure:
    """One figure of merit with its 95 % interval, written out."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class _Class:
    number: int
    figures: ClassFigures
    taken_for: tuple[str, int] | None


def write_report(run: Run, path: Path | None = None, found: Assessment | None = None) -> Path:
    """Write the report of a finished run to `path`, by default into its folder, and return the path. The same run gives the same bytes.

    found: the result of `assess`, if there is one already.

    An image that can no longer be shown is replaced by the reason. Raises InputError if the run is not finished, or the file cannot be
    written.
    """
    target = run.folder.report_file if path is None else path
    check_output(target, _START, "--out")
    write_text(target, render("reports/page.html.j2", _content(run, found)))
    return target


def _content(run: Run, found: Assessment | None) -> dict[str, Any]:
    """What the template shows."""
    summary, manifest = run.summary, run.folder.manifest()
    found = found or assess(run)
    predictions = found.answers
    evidence = found.evidence
    images, aside = evidence.images, evidence.set_aside
    mistakes, hits = ranked(predictions)
    epochs = read_json_lines(run.folder.metrics_file)
    matrix, *close_ups = confusion_charts(found.matrix, predictions.class_names)
    return {
        "summary": summary,
        "test": summary.test,
        "grouped": found.test.is_grouped,
        "resamples": run.recipe.evaluate.resamples,
        "corrected": [
            each.title for each in headline_metrics(summary.dataset.classes) if each.biased and summary.test.has(f"{each.key}_corrected")
        ],
        "figures": _figures(summary, run.recipe.evaluate.monitor),
        "splits": [_split(name, evidence, predictions.class_names) for name in SPLITS],
        "unlabelled": sum(row["split"] == UNLABELLED for row in evidence.rows),
        "data_notes": manifest.data.notes,
        "aside": list(aside.items())[:_NAMED],
        "aside_unnamed": max(len(aside) - _NAMED, 0),
        "curves": curve_charts(epochs, summary.training.best_epoch) if run.ensemble is None else (),
        "ensemble": ensemble_part(run.ensemble, summary.ensemble) if run.ensemble and summary.ensemble else None,
        "folds": run.ensemble is not None and run.ensemble.folds,
        "refit": any(row["phase"] == "refit" for row in epochs),
        "staged": run.ensemble is None and bool(stage_starts(epochs)),
        "cautions": cautions(found),
        "classes": _classes(found),
        "averages": found.averages,
        "matrix": matrix,
        "close_ups": close_ups,
        "pairs": found.pairs[:_PAIRS],
        "names": found.test.class_names,
        "cells": " ".join(f"{row}-{column}-{found.matrix[row, column]}" for row, column in np.argwhere(found.matrix).tolist()),
        "order": " ".join(map(str, cluster_order(found.matrix).tolist())) if close_ups else "",
        "strips": None if evidence.moved or not found.pairs else strips(found, images),
        "trust": trust(found, summary.test),
        "root": evidence.root,
        "moved": evidence.moved,
        "wrong": len(mistakes),
        "mistakes": cards(predictions, mistakes[:_MISTAKES], large_images(images)),
        "browse": browse(found, None if evidence.moved else images),
        "right": len(hits),
        "hits": cards(predictions, hits[:_HITS], large_images(images)),
        "recipe": run.folder.recipe_file.read_text(encoding="utf-8"),
        "provenance": provenance(run, summary, manifest),
        "command": training_command(manifest) if run.ensemble is None else ensemble_command(run.ensemble),
        "version": versions()["fieldmark"],
    }


def _figures(summary: Summary, monitor: str) -> list[_Figure]:
    """The metrics below the headline."""
    chosen = (
        "the same on val"
        + (", which chose the best epoch" if monitor == "top1" else "")
        + (", before the refit" if summary.training.refit else "")
    )
    if summary.ensemble is not None:
        chosen = "the same on val; see the members for what that is"
    below = [metric for metric in headline_metrics(summary.dataset.classes) if metric.key != "top1"]
    figures = [_figure(metric, metric.title, summary.test, metric.meaning + _also(metric, summary.test)) for metric in below]
    return [*figures, _figure(METRICS["top1"], "Val top-1", summary.val, chosen)]


def _figure(metric: Metric, name: str, figures: SplitMetrics, meaning: str) -> _Figure:
    value, interval = stated(metric, figures)
    return _Figure(name, value, interval and interval + ("\u00a0%" if metric.unit == "%" else ""), meaning)


def _also(metric: Metric, figures: SplitMetrics) -> str:
    """What the figure is without its correction for few images, and after a calibration that changed it."""
    state = "_calibrated"
    changed = figures.has(f"{metric.key}{state}") and figures.estimate(f"{metric.key}{state}") != figures.estimate(metric.key)
    calibrated = f"{stated(metric, figures, state)[0]} after calibration" if changed else ""
    return "".join(f"; {said}" for said in (as_computed(metric, figures), calibrated) if said)


def _split(name: str, evidence: Evidence, class_names: Sequence[str]) -> tuple[SplitRow, int]:
    """The readable images of a split, and how many others were set aside."""
    numbers = {label: number for number, label in enumerate(class_names)}
    labels = np.array([numbers[row["label"]] for row in evidence.used if row["split"] == name], np.int64)
    groups = np.array([row["group"] for row in evidence.used if row["split"] == name]) if "group" in evidence.split else None
    return split_row(name, labels, class_names, groups=groups), sum(row["split"] == name for row in evidence.rows) - len(labels)


def _classes(found: Assessment) -> list[_Class]:
    """The weakest first, by F1 as it is written; classes without one come last."""
    taken_for = _taken_for(found)
    rows = [_Class(label, figures, taken_for.get(label)) for label, figures in enumerate(per_class(found.answers))]
    return sorted(rows, key=lambda row: (row.figures.f1 is None, round(row.figures.f1 or 0, 1)))


def _taken_for(found: Assessment) -> dict[int, tuple[str, int]]:
    """By class, the class that its images were most often mistaken for, the first among equals, and how often."""
    wrong = found.matrix[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    return {label: (found.test.class_names[int(row.argmax())], int(row.max())) for label, row in enumerate(wrong) if row.any()}
