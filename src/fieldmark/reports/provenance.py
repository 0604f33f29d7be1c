"""Where a run comes from, and the command that makes it again, as its report says them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fieldmark.core.console import duration
from fieldmark.core.manifest import Manifest
from fieldmark.core.summary import Summary
from fieldmark.evaluation.run import Run


def provenance(run: Run, summary: Summary, manifest: Manifest) -> list[tuple[str, str]]:
    """What it was made from, and on what, as terms and values."""
    recipe, model, training = run.recipe, summary.model, summary.training
    created = manifest.created
    trained = "all" if model.trainable == model.parameters else f"{model.trainable:,} of them"
    versions = dict(manifest.versions)
    platform = versions.pop("platform")
    channels, height, width = model.input
    seen = "" if run.preprocess.margin is None else f", cropped to boxes with a margin of {100 * run.preprocess.margin:g} %"
    seen += "" if run.preprocess.colours == "srgb" else ", colours as stored"
    made = [
        ("Run", run.name),
        ("Begun" if run.ensemble is None else "Made", f"{created.day} {created:%B %Y, %H:%M} UTC"),
        ("Model", model.name),
    ]
    size = ("Multiply-adds", f"{model.macs:,} an image")
    origin = [
        ("Data fingerprint", manifest.fingerprint),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Platform", platform),
    ]
    if run.ensemble is not None:
        spent = f"{training.samples_seen:,} images seen in {training.steps:,} steps, {duration(training.seconds)} together"
        return [*made, ("Parameters", f"{model.parameters:,}"), size, ("Training of the members", spent), *origin]
    epochs = f"{training.epochs} epoch{'s' * (training.epochs != 1)}, the best was {training.best_epoch}"
    refit = f", then {training.best_epoch} on train and val together" if training.refit else ""
    return [
        *made,
        ("Starting weights", "; ".join(manifest.notes).removeprefix("weights: ")),
        *([] if manifest.weights is None else [("Their SHA-256", manifest.weights.sha256)]),
        ("Parameters", f"{model.parameters:,}, {trained} trained"),
        size,
        ("Input", f"{channels} × {height} × {width}, {recipe.data.resize}{seen}"),
        ("Training", f"{epochs}{refit}; {training.samples_seen:,} images seen over all epochs, in {training.steps:,} steps"),
        ("Training time", f"{duration(training.seconds)}, {training.images_per_second:,.1f} images/s"),
        ("Device", training.device),
        ("Precision", f"{training.precision}, {recipe.train.memory_format}"),
        ("Seeds", f"{recipe.train.seed} for training, {recipe.data.split_seed} for splits"),
        *origin,
    ]


def training_command(manifest: Manifest) -> str:
    """What trains the run again, from its recipe.yaml."""
    return shlex.join(["fieldmark", "train", _data(manifest), "--recipe", "recipe.yaml"])


def _data(manifest: Manifest) -> str:
    """DATA in full: what was given may have been named from the folder in which the training was started."""
    given, root = manifest.given, manifest.data.root
    if given == "birds" or given.startswith("hf:"):
        return given
    table = Path(root) / Path(given).name
    return str(table) if os.path.isfile(table) else root  # Path.is_file raises for a name that no file system takes
