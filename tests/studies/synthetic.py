"""Folders of studies whose runs were never trained: every accuracy and seed effect in them is chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.recipe.load import load_recipe, with_settings
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import identity
from fieldmark.core.summary import StageSummary
from fieldmark.scoring.predictions import Predictions
from fieldmark.studies.plan import PlannedRun, Rung, StudyDataset, StudyPlan
from records import a_manifest, a_summary

CHANGES = {
    "random crop": {"augment.crop.name": "padded"},
    "flips": {"augment.flip": 0.25},
    "label smoothing": {"loss.label_smoothing": 0.05},
    "a smaller learning rate": {"optim.lr": 0.004},
    "weight decay": {"optim.weight_decay": 0.0005},
    "more epochs": {"train.epochs": 20},
    "larger images": {"data.size": 256},
}


def ladder(count: int) -> tuple[Rung, ...]:
    """The base and `count` changes on top of one another, named after CHANGES for as long as there are any."""
    changes = list(CHANGES.items())[:count] + [(f"change {k}", {"optim.lr": k / 1000}) for k in range(len(CHANGES) + 1, count + 1)]
    names = ["base", *(name for name, _ in changes)]
    return (Rung("base"), *(Rung(name, settings, names[k]) for k, (name, settings) in enumerate(changes)))


def branched(count: int, **branches: str) -> tuple[Rung, ...]:
    """A ladder of `count` changes, and after it side branches: the name of each with that of the rung that it is on."""
    aside = enumerate(branches.items(), 1)
    return (*ladder(count), *(Rung(name, {"on": on, "optim.weight_decay": k / 1000}, on) for k, (name, on) in aside))


def independent(count: int) -> tuple[Rung, ...]:
    return tuple(Rung(rung.name, rung.settings) for rung in ladder(count))


def grid(factors: Mapping[str, Mapping[str, dict[str, Any]]]) -> tuple[Rung, ...]:
    """All combinations of the options of `factors`: factor, option, settings."""
    rungs = []
    for chosen in product(*(options.items() for options in factors.values())):
        options = dict(zip(factors, (name for name, _ in chosen), strict=True))
        settings = {key: value for _, given in chosen for key, value in given.items()}
        rungs.append(Rung(" × ".join(options.values()), settings, options=options))
    return tuple(rungs)


def synthetic_study(
    folder: Path,
    rungs: Sequence[Rung],
    accuracies: Sequence[float],
    seeds: Sequence[int] = (0, 1, 2),
    datasets: Sequence[str] = ("cars",),
    arrangement: Any = "ladder",
    seed_sd: float = 0.5,
    images: int = 400,
    classes: int = 10,
    features: int = 4,
    epochs: int = 8,
    title: str = "Which changes help?",
    quick: bool = False,
) -> StudyPlan:
    """A study whose runs are all finished; `accuracies` (per cent) are those of the rungs, about which seeds vary by `seed_sd` points."""
    made: dict[str, Recipe] = {}
    for rung in rungs:
        below = made[rung.before] if rung.before is not None else load_recipe(rung.settings.get("extends", "default"))
        made[rung.name] = with_settings(below, {key: value for key, value in rung.settings.items() if "." in key or key == "stages"})
    given = tuple(StudyDataset(name, f"/data/{name}") for name in datasets)
    plan = StudyPlan(
        folder=folder,
        name="augment",
        title=title,
        source="augment",
        settings=(),
        arrangement=arrangement,
        rungs=tuple(rungs),
        recipes=tuple(made.values()),
        datasets=given,
        seeds=tuple(seeds),
        quick=quick,
    )
    plan.save()
    for d, dataset in enumerate(plan.datasets):
        rng = np.random.default_rng(d)
        labels = rng.integers(0, classes, images).astype(np.int32)
        hardness = rng.normal(0, 1.5, images)
        ids = np.array([f"test/{label:03d}/{index:05d}.jpg" for index, label in enumerate(labels)])
        names = tuple(f"class {index}" for index in range(classes))
        for r, rung in enumerate(plan.rungs):
            for seed in plan.seeds:
                wanted = np.clip(accuracies[r] - 4 * d + seed_sd * rng.normal(), 0, 100) / 100
                # The easiest to this run are right: images differ in hardness, and each run has its own luck.
                order = np.argsort(hardness + rng.logistic(0, 0.5, images))
                hits = np.zeros(images, bool)
                hits[order[: round(wanted * images)]] = True
                logits = rng.random((images, classes), np.float32)
                logits[np.arange(images), labels] += np.where(hits, 2, -2).astype(np.float32)
                predictions = Predictions(ids, labels, logits, np.zeros((images, features), np.float32), names)
                write_run(plan.run(dataset, rung, seed), predictions, 100 * float(hits.mean()), r, epochs, rng)
    return plan


def write_run(run: PlannedRun, predictions: Predictions, top1: float, rung: int, epochs: int, rng: np.random.Generator) -> None:
    path = run.path
    (path / "predictions").mkdir(parents=True)
    predictions.save(path / "predictions" / "test.npz")
    val = min(max(top1 + float(rng.normal()), 0), 100)
    parts = run.recipe.stages or (None,)
    shares = (4_000_000 * k // len(parts) for k in range(1, len(parts) + 1))
    stages = tuple(
        StageSummary(epochs=(first + 1, first + count), trainable=part.trainable if part else ("all",), trainable_parameters=share)
        for part, (first, count), share in zip(parts, run.recipe.stage_spans(), shares, strict=True)
    )
    model = {"parameters": 4_000_000 + 250_000 * rung, "macs": 390_000_000 + 10**7 * rung}
    training = {
        "epochs": epochs,
        "best_epoch": epochs,
        "steps": 25 * epochs,
        "seconds": round(60 + 10 * rung + float(rng.random()), 2),
        "images_per_second": round(100 - 2 * rung + float(rng.random()), 1),
        "stages": stages,
    }
    plain = a_summary(val={"top1": val}, test={"n": len(predictions), "top1": top1})
    summary = plain.model_copy(
        update={"model": plain.model.model_copy(update=model), "training": plain.training.model_copy(update=training)}
    )
    rise = [1 - math.exp(-4 * (epoch + 1) / epochs) for epoch in range(epochs)]
    rows = [
        {
            "phase": "fit",
            "epoch": epoch + 1,
            "train_loss": 4 * (1.05 + (100 - top1) / 200 - rise[epoch]),
            "train_top1": 95 * rise[epoch],
            "val_top1": val * rise[epoch] / rise[-1],
        }
        for epoch in range(epochs)
    ]
    summary.write(path / "summary.json")
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    a_manifest(recipe=identity(run.recipe)).write(path / "manifest.json")
    (path / "report.html").write_text("<!doctype html>\n<!-- a report of Fieldmark -->\n<title>a run</title>\n")
