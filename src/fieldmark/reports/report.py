"""The report of a run: one HTML file that opens offline, and asks nothing of the network."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fieldmark.core.console import duration
from fieldmark.core.files import check_output, write_text
from fieldmark.core.run_folder import read_json_lines
from fieldmark.data.dataset import SPLITS
from fieldmark.data.split_file import Origin
from fieldmark.evaluation import metrics
from fieldmark.evaluation.classes import ClassFigures, per_class
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.run import Run
from fieldmark.reports.curves import curve_panels
from fieldmark.reports.gallery import Box, cards, ranked
from fieldmark.reports.members import ensemble_command, ensemble_part
from fieldmark.reports.pages import fixed, render

_START = b"<!doctype html>\n<!-- a report of Fieldmark -->\n"
_MISTAKES, _HITS = 24, 12
_NAMED = 100
"""How many of the pictures set aside are named."""


@dataclass(frozen=True)
class _Figure:
    """One figure of merit with its 95 % interval, written out."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class _Split:
    """The readable pictures of one split; `smallest` and `largest` are classes with their number of pictures."""

    name: str
    pictures: int
    classes: int
    smallest: tuple[str, int]
    largest: tuple[str, int]
    aside: int


@dataclass(frozen=True)
class _Class:
    figures: ClassFigures
    taken_for: tuple[str, int] | None


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write the report of a finished run to `path`, by default into its folder, and give the path. The same run gives the same bytes.

    A picture that cannot be shown any more is replaced by the reason. Raises InputError where the run is not finished, or where the file
    cannot be written.
    """
    target = run.folder.report_file if path is None else path
    check_output(target, _START, "--out")
    write_text(target, render("reports/page.html.j2", _content(run)))
    return target


def _content(run: Run) -> dict[str, Any]:
    """What the template shows."""
    summary, manifest = run.summary, run.folder.manifest()
    predictions = Predictions.load(run.folder.predictions / "test.npz")
    pictures = pq.read_table(run.folder.split_file).to_pylist()  # type: ignore[no-untyped-call]
    aside = _set_aside(pictures, set(predictions.ids.tolist()))
    origin = Origin(**manifest["data"])
    root, shown = Path(origin.root), origin.pictures()
    hashes = {picture["path"]: picture["hash"] for picture in pictures}
    boxes = _boxes(pictures) if run.preprocess.margin is not None else {}
    mistakes, hits = ranked(predictions)
    epochs = read_json_lines(run.folder.metrics_file)
    return {
        "summary": summary,
        "test": summary["test"],
        "unseen_error": 100 * (1 - 0.05 ** (1 / summary["test"]["n"])),
        "resamples": run.recipe.evaluate.resamples,
        "figures": _figures(summary),
        "splits": [_split(name, pictures, aside, predictions.class_names) for name in SPLITS],
        "aside": list(aside.items())[:_NAMED],
        "aside_unnamed": max(len(aside) - _NAMED, 0),
        "panels": curve_panels(epochs, summary["training"]["best_epoch"]) if run.ensemble is None else (),
        "ensemble": None if run.ensemble is None else ensemble_part(run.ensemble, summary),
        "refit": any(row["phase"] == "refit" for row in epochs),
        "classes": _classes(predictions),
        "root": root,
        "moved": not os.path.exists(root),  # Path.exists raises where a folder above may not be entered
        "wrong": len(mistakes),
        "mistakes": cards(predictions, mistakes[:_MISTAKES], shown, hashes, boxes),
        "right": len(hits),
        "hits": cards(predictions, hits[:_HITS], shown, hashes, boxes),
        "recipe": run.folder.recipe_file.read_text(encoding="utf-8"),
        "provenance": _provenance(run, summary, manifest),
        "command": _command(manifest) if run.ensemble is None else ensemble_command(run.ensemble),
        "version": manifest["versions"]["fieldmark"],
    }


def _figures(summary: dict[str, Any]) -> list[_Figure]:
    """What stands beside the answer. Top-5 is left out where there are no more than five classes."""
    chosen = "the same on val, which chose the best epoch" + (", before the refit" if summary["training"].get("refit") else "")
    if "ensemble" in summary:
        chosen = "the same on val; see the members for what that is"
    listed = [
        ("Top-5", "test", "top5", "the right name is among the first five"),
        ("Macro F1", "test", "macro_f1", "mean over classes, small ones counting as much as large ones"),
        ("NLL", "test", "nll", "negative log-likelihood in nats: low where the right name is thought likely"),
        ("ECE", "test", "ece", "calibration error: how far the stated probabilities are off"),
        ("Val top-1", "val", "top1", chosen),
    ]
    figures = []
    for name, split, key, meaning in listed:
        if key == "top5" and summary["dataset"]["classes"] <= 5:
            continue
        digits, unit = (3, "") if key == "nll" else (1, "\u00a0%")
        value, low, high = (fixed(summary[split][part], digits) for part in (key, f"{key}_low", f"{key}_high"))
        figures.append(_Figure(name, value + unit, f"{low}–{high}{unit}", meaning))
    return figures


def _boxes(pictures: Sequence[dict[str, Any]]) -> dict[str, Box]:
    """By path, those that pictures have."""
    boxes = {row["path"]: (row["left"], row["top"], row["right"], row["bottom"]) for row in pictures}
    return {path: box for path, box in boxes.items() if not np.isnan(box).any()}


def _set_aside(pictures: Sequence[dict[str, Any]], tested: set[str]) -> dict[str, str]:
    """By path, why a picture was not used. Pictures of test are decoded last of all, after the split table was written."""
    late = "it could not be decoded when test was opened; train.log says why"
    reasons = {picture["path"]: picture["note"] for picture in pictures}
    reasons |= {row["path"]: late for row in pictures if row["split"] == "test" and not row["note"] and row["path"] not in tested}
    return {path: reason for path, reason in reasons.items() if reason}


def _split(name: str, pictures: Sequence[dict[str, Any]], aside: dict[str, str], class_names: Sequence[str]) -> _Split:
    rows = [picture for picture in pictures if picture["split"] == name]
    found = Counter(picture["label"] for picture in rows if picture["path"] not in aside)
    counts = [(label, found[label]) for label in class_names]
    smallest, largest = min(counts, key=lambda pair: pair[1]), max(counts, key=lambda pair: pair[1])
    return _Split(name, found.total(), len(found), smallest, largest, len(rows) - found.total())


def _classes(predictions: Predictions) -> list[_Class]:
    """The weakest first, by F1 as it is written; classes that have none come last."""
    taken_for = _taken_for(predictions)
    rows = [_Class(figures, taken_for.get(label)) for label, figures in enumerate(per_class(predictions))]
    return sorted(rows, key=lambda row: (row.figures.f1 is None, round(row.figures.f1 or 0, 1)))


def _taken_for(predictions: Predictions) -> dict[int, tuple[str, int]]:
    """By class, the class that its pictures were most often taken for, the first among equals, and how often."""
    known = predictions.labels >= 0
    labels = predictions.labels[known]
    said = metrics.predicted_classes(predictions.logits[known], labels)
    wrong = (said != labels) & (said >= 0)
    pairs = Counter(zip(labels[wrong].tolist(), said[wrong].tolist(), strict=True))
    rarest_first = sorted(pairs.items(), key=lambda item: (item[1], -item[0][1]))
    return {label: (predictions.class_names[answer], times) for (label, answer), times in rarest_first}


def _provenance(run: Run, summary: dict[str, Any], manifest: dict[str, Any]) -> list[tuple[str, str]]:
    recipe, model, training = run.recipe, summary["model"], summary["training"]
    created = datetime.fromisoformat(manifest["created"])
    trained = "all" if model["trainable"] == model["parameters"] else f"{model['trainable']:,} of them"
    versions = dict(manifest["versions"])
    platform = versions.pop("platform")
    channels, height, width = model["input"]
    seen = "" if run.preprocess.margin is None else f", cropped to boxes with a margin of {100 * run.preprocess.margin:g} %"
    made = [
        ("Run", run.path.absolute().name),
        ("Begun" if run.ensemble is None else "Made", f"{created.day} {created:%B %Y, %H:%M} UTC"),
        ("Model", model["name"]),
    ]
    size = ("Multiply-adds", f"{model['macs']:,} a picture")
    origin = [
        ("Data fingerprint", manifest["fingerprint"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Platform", platform),
    ]
    if run.ensemble is not None:
        spent = f"{training['samples_seen']:,} pictures in {training['steps']:,} steps, {duration(training['seconds'])} together"
        return [*made, ("Parameters", f"{model['parameters']:,}"), size, ("Training of the members", spent), *origin]
    epochs = f"{training['epochs']} epoch{'s' * (training['epochs'] != 1)}, the best was {training['best_epoch']}"
    refit = f", then {training['best_epoch']} on train and val together" if training["refit"] else ""
    return [
        *made,
        ("Starting weights", "; ".join(manifest["notes"]).removeprefix("weights: ")),
        ("Parameters", f"{model['parameters']:,}, {trained} trained"),
        size,
        ("Input", f"{channels} × {height} × {width}, {recipe.data.resize}{seen}"),
        ("Training", f"{epochs}{refit}; {training['samples_seen']:,} pictures in {training['steps']:,} steps"),
        ("Training time", f"{duration(training['seconds'])}, {training['images_per_second']:,.1f} images/s"),
        ("Device", training["device"]),
        ("Arithmetic", f"{training['precision']}, {recipe.train.memory_format}"),
        ("Seeds", f"{recipe.train.seed} for training, {recipe.data.split_seed} for splits"),
        *origin,
    ]


def _command(manifest: dict[str, Any]) -> str:
    given, root = manifest["given"], manifest["data"]["root"]
    return shlex.join(["fieldmark", "train", given if given == "birds" or given.startswith("hf:") else root, "--recipe", "recipe.yaml"])
