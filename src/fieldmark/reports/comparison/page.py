"""The report of several runs side by side: one HTML file that opens offline. The first run is the baseline of the others."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.core.files import check_output, write_text
from fieldmark.core.run_folder import read_json_lines, versions
from fieldmark.evaluation.run import Run
from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.selective import risk_coverage_chart
from fieldmark.reports.charts.val_curves import val_curves_chart
from fieldmark.reports.comparison.differences import Pair, compare_with_first, of_chance, scale_end, signed, small
from fieldmark.reports.comparison.disagreements import disagreements
from fieldmark.reports.comparison.entries import Entry, check_runs, open_entries
from fieldmark.reports.comparison.settings import differing_conditions, differing_settings, seed_alone
from fieldmark.reports.comparison.tables import all_calibrated, class_rows, metric_rows
from fieldmark.reports.pages import render

_START = b"<!doctype html>\n<!-- a comparison of Fieldmark -->\n"


def write_comparison(runs: Sequence[Run], path: Path | None) -> Path:
    """Write the report of finished runs side by side to `path`, and return the path. The same runs give the same bytes.

    Every run is compared with the first one, on the images of test. An image that can no longer be shown is replaced by the reason.
    Raises InputError if there is no path or it cannot be written, if there are fewer than two runs or the same one twice, if one is not
    finished, and if they have different classes or were tested on different images.
    """
    if len(runs) < 2:
        raise InputError(f"a comparison takes two runs or more, not {len(runs)}", hint="Name the baseline first, then the others.")
    if path is None:
        raise InputError("several runs need a file to write", hint="Name it with --out FILE.")
    check_runs(runs)
    check_output(path, _START, "--out")
    write_text(path, render("reports/comparison.html.j2", _content(open_entries(runs))))
    return path


def _content(entries: Sequence[Entry]) -> dict[str, Any]:
    """What the template shows. The rival is the run with the highest top-1 of the others."""
    first, *others = entries
    rival = max(others, key=lambda entry: entry.top1)  # of equals, the one that was named first
    pairs = compare_with_first(first, others)
    pair = pairs[others.index(rival)]
    classes = class_rows(entries, rival)
    only_first, only_rival = np.flatnonzero(first.hits & ~rival.hits), np.flatnonzero(rival.hits & ~first.hits)
    return {
        "title": _title(entries, pair),
        "signed": signed,
        "small": small,
        "of_chance": of_chance,
        "dataset": first.summary.dataset,
        "n": len(first.test),
        "entries": entries,
        "first": first,
        "rival": rival,
        "pair": pair,
        "pairs": pairs,
        "significant": [each for each in pairs if each.significant and each.difference.points > 0],
        "end": scale_end(pairs),
        "resamples": first.run.recipe.evaluate.resamples,
        "grouped": first.test.is_grouped,
        "seed_alone": seed_alone(first, rival),
        "rows": metric_rows(entries),
        "calibrated": all_calibrated(entries),
        "classes": classes,
        "charts": _charts(entries),
        "settings": differing_settings(entries),
        "conditions": differing_conditions(entries),
        "trained": [entry for entry in entries if entry.run.ensemble is None],
        "root": first.evidence.root,
        "moved": first.evidence.moved,
        "images": [
            (first, rival, disagreements(only_first, first, rival, (first, rival)), len(only_first)),
            (rival, first, disagreements(only_rival, first, first, (first, rival)), len(only_rival)),
        ],
        "command": shlex.join(["fieldmark", "report", *(os.path.abspath(entry.run.path) for entry in entries), "--out", "FILE"]),
        "version": versions()["fieldmark"],
    }


def _title(entries: Sequence[Entry], pair: Pair) -> str:
    if len(entries) == 2:
        return f"{pair.name} against {entries[0].name}: {signed(pair.difference.points, pair.digits)} points"
    return f"{len(entries)} runs on {entries[0].summary.dataset.name}"


def _charts(entries: Sequence[Entry]) -> list[Chart]:
    risks = risk_coverage_chart({entry.name: entry.risk_coverage() for entry in entries})
    epochs = val_curves_chart({entry.name: _epochs(entry.run) for entry in entries})
    return [risks] if epochs is None else [risks, epochs]


def _epochs(run: Run) -> list[dict[str, Any]]:
    return read_json_lines(run.folder.metrics_file) if run.ensemble is None else []
