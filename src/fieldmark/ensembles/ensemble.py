"""Making an ensemble: a run folder that every command accepts like that of a training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from fieldmark.core.console import Console, table
from fieldmark.core.ensemble_record import EnsembleRecord, MemberRecord, val_notes
from fieldmark.core.files import write_text
from fieldmark.core.manifest import Manifest
from fieldmark.core.recipe.values import to_yaml
from fieldmark.core.run_folder import RunFolder, now, versions
from fieldmark.core.summary import (
    DifferenceSummary,
    EnsembleSummary,
    MemberSummary,
    ModelSummary,
    Summary,
    TrainingSummary,
)
from fieldmark.datasets.dataset import UNKNOWN
from fieldmark.ensembles.fit import fit
from fieldmark.ensembles.members import Members
from fieldmark.ensembles.method import MeanOf, Method, SoupOf, StackOn
from fieldmark.ensembles.soup import Soup, cook
from fieldmark.evaluation.run import Run
from fieldmark.models.device import device_name
from fieldmark.models.weights import save_weights
from fieldmark.scoring.combination import Stack, combined, save_stack
from fieldmark.scoring.comparison import compare
from fieldmark.scoring.decisions import Wanted, fit_decisions, trust_notes
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import evaluate_predictions, metrics_table

_Made = tuple[EnsembleRecord, dict[str, Predictions]]
"""The manifest's record, and the ensemble's predictions of each split."""
_KEPT = (
    "recipe.yaml",
    "manifest.json",
    "split.parquet",
    "summary.json",
    "metrics.jsonl",
    "architecture.txt",
    "checkpoints/best.safetensors",
)


def make_ensemble(members: Members, method: Method, out: str | Path, console: Console) -> Run:
    """Combine several runs into one, in the new folder `out`, which holds a copy of everything it is made of.

    Each run evaluated test at its end. Those predictions are combined; only a soup evaluates test again, once, when it is done.

    Raises InputError if the runs cannot be combined or the folder cannot be used; nothing is left behind.
    """
    with RunFolder.create(out) as folder, console.logging_to(folder.log_file):
        console.say(*(f"caution: {sentence}" for sentence in members.identical()))
        if isinstance(method, SoupOf):
            soup = cook(members, method, console)
            record, made = _write_soup(folder, members, soup)
        else:
            record, made = _write_combination(folder, members, method, console)
        for split, predictions in made.items():
            predictions.save(folder.predictions / f"{split}.npz")
        _write_summary(folder, record, members, made, console)
        folder.set_status("finished")
    console.say(f"everything is in {out}")
    return Run.load(out)


def _write_combination(folder: RunFolder, members: Members, method: MeanOf | StackOn, console: Console) -> _Made:
    """Write the members and how they are combined; returns the predictions of val and test, and of train if all members have it."""
    fitted = fit(members, method, console)
    digits = max(2, len(str(len(members.runs))))
    names = [f"{index:0{digits}}-{_plain(name)}" for index, name in enumerate(members.names, 1)]
    for run, name in zip(members.runs, names, strict=True):
        for part in _KEPT:
            if (source := run.path / part).is_file():
                _keep(source, folder.members / name / part)
    combination = fitted.combination
    record = EnsembleRecord(
        method="stack" if isinstance(combination, Stack) else "mean",
        of=None if isinstance(combination, Stack) else combination.of,
        weights=None if isinstance(combination, Stack) else combination.weights.tolist(),
        inputs=list(combination.inputs) if isinstance(combination, Stack) else None,
        fitted_on=fitted.fitted_on,
        penalty=fitted.penalty,
        folds=members.folds,
        val_learnt=members.val_learnt,
        members=[record.model_copy(update={"folder": name}) for record, name in zip(_records(members), names, strict=True)],
    )
    if isinstance(combination, Stack):
        save_stack(combination, folder.stack_weights)
    _describe(folder, record, members.runs[0], members)
    made = {"val": fitted.val, "test": combined(members.predictions("test"), combination)}
    if all((run.folder.predictions / f"{UNKNOWN}.npz").is_file() for run in members.runs):
        made[UNKNOWN] = combined(members.predictions(UNKNOWN), combination)
    if members.folds or not all((run.folder.predictions / "train.npz").is_file() for run in members.runs):
        return record, made
    return record, {"train": combined(members.predictions("train"), combination), **made}


def _write_soup(folder: RunFolder, members: Members, soup: Soup) -> _Made:
    chosen = members.runs[soup.chosen[0]]
    metadata = {
        "class_names": list(members.class_names),
        "preprocess": chosen.preprocess.to_dict(),
        "architecture": chosen.recipe.model.name,
    }
    save_weights(soup.model, folder.best_weights, metadata)
    shutil.copyfile(chosen.folder.architecture_file, folder.architecture_file)
    record = EnsembleRecord(
        method="soup",
        ingredients="greedy" if soup.greedy else "all",
        chosen_on="val" if soup.greedy else None,
        members=[record.model_copy(update={"used": index in soup.chosen}) for index, record in enumerate(_records(members))],
    )
    _describe(folder, record, chosen, members)
    return record, soup.predictions


def _records(members: Members) -> list[MemberRecord]:
    return [
        MemberRecord(
            name=name,
            source=str(run.path.resolve()),
            model=run.recipe.model.name,
            size=run.preprocess.size,
            parameters=run.summary.model.parameters,
        )
        for run, name in zip(members.runs, members.names, strict=True)
    ]


def _keep(source: Path, target: Path) -> None:
    """Link a file into another folder, or copy it if the disk has no links. Files of runs are replaced, never changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _describe(folder: RunFolder, record: EnsembleRecord, like: Run, members: Members) -> None:
    """Write what describes the run folder; settings, split and preprocessing are those of the run `like`, cautions those of all members."""
    header = f"# {folder.recipe_file.name}: of {like.path.name}, one of the members of this ensemble\n"
    write_text(folder.recipe_file, header + to_yaml(like.recipe))
    shutil.copyfile(like.folder.split_file, folder.split_file)
    manifest = like.folder.manifest()
    with like.computing() as execution:
        device = device_name(execution.device)
    folder.write_manifest(
        Manifest(
            status="running",
            created=now(),
            versions=versions(),
            device=device,
            given=manifest.given,
            data=manifest.data,
            fingerprint=manifest.fingerprint,
            class_names=manifest.class_names,
            levels=manifest.levels,
            preprocess=manifest.preprocess,
            notes=(),
            cautions=tuple(dict.fromkeys(each for run in members.runs for each in run.folder.manifest().cautions))
            + tuple(members.identical()),
            ensemble=record,
        )
    )


def _write_summary(folder: RunFolder, record: EnsembleRecord, members: Members, made: dict[str, Predictions], console: Console) -> None:
    recipe = folder.recipe()
    resamples, seed = recipe.evaluate.resamples, recipe.train.seed
    calibrated, fitted = {}, None
    if not record.folds:  # with folds, all networks answer test, but an image of val only those not trained on it
        train = None if record.val_learnt else made.get("train")
        with console.busy("fitting what the ensemble decides with"):
            fitted = fit_decisions(train, made["val"], folder.manifest().levels, Wanted())
            fitted.save(folder)
        calibrated = {"val": fitted.calibration.cross_fitted, "test": fitted.decisions.calibration(made["test"].logits)}
    with console.busy(f"figures and their intervals from {resamples:,} resamples"):
        metrics = {split: evaluate_predictions(made[split], resamples, seed, calibrated.get(split)) for split in ("val", "test")}
    summaries = [run.summary for run in members.runs]
    best = max(range(len(summaries)), key=lambda index: summaries[index].val.top1)
    over = compare(made["test"], members.predictions_of(best, "test"), resamples, seed)
    used = [one for one, member in zip(summaries, record.members, strict=True) if member.used]
    networks = [one.model for one in (used[:1] if record.method == "soup" else used)]
    of_members = [
        MemberSummary(name=name, val=one.val.top1, test=one.test.top1, test_low=one.test.top1_low, test_high=one.test.top1_high)
        for name, one in zip(members.names, summaries, strict=True)
    ]
    summary = Summary(
        status="finished",
        dataset=summaries[0].dataset,
        model=ModelSummary(
            name=_title(record.method, [one.model.name for one in used]),
            parameters=sum(each.parameters for each in networks),
            trainable=0,
            macs=sum(each.macs for each in networks),
            input=max((each.input for each in networks), key=lambda size: size[1]),
        ),
        training=_together([one.training for one in used]),
        ensemble=EnsembleSummary(
            members=tuple(of_members),
            best_member=members.names[best],
            over_best_member=DifferenceSummary(**asdict(over), shown=over.significant),
        ),
        val=metrics["val"],
        test=metrics["test"],
    )
    summary.write(folder.summary_file)
    console.say("", _members_table(record, of_members), "", metrics_table(metrics, summary.dataset.classes))
    if fitted is not None:
        console.say(*trust_notes(fitted, made["test"], summary.test))
    console.say(f"over {members.names[best]}, the member with the best val: {over}", *val_notes(record))


def _together(trainings: Sequence[TrainingSummary]) -> TrainingSummary:
    """The total cost of training the members."""
    samples, seconds = sum(each.samples_seen for each in trainings), sum(each.seconds for each in trainings)
    return TrainingSummary(
        epochs=sum(each.epochs for each in trainings),
        best_epoch=None,
        refit=any(each.refit for each in trainings),
        steps=sum(each.steps for each in trainings),
        samples_seen=samples,
        seconds=seconds,
        images_per_second=round(samples / seconds, 1) if seconds else None,
        device="; ".join(dict.fromkeys(each.device for each in trainings)),
        precision=", ".join(dict.fromkeys(each.precision for each in trainings)),
        stages=(),
    )


def _title(method: str, models: Sequence[str]) -> str:
    return f"{method} of {len(models)}: {', '.join(dict.fromkeys(models))}"


def _members_table(record: EnsembleRecord, figures: Sequence[MemberSummary]) -> Table:
    columns = ("member", "model", "pixels", *(["weight"] if record.weights else []), "val top-1 %", "test top-1 %")
    rows = []
    for index, (member, one) in enumerate(zip(record.members, figures, strict=True)):
        weight = [f"{record.weights[index]:.3f}"] if record.weights else []
        test = f"{one.test:.1f}  [{one.test_low:.1f}, {one.test_high:.1f}]"
        rows.append((member.name + ("" if member.used else " (left out)"), member.model, member.size, *weight, f"{one.val:.1f}", test))
    return table(None, columns, rows, ("model",))


def _plain(name: str) -> str:
    """A name that a folder can have."""
    return re.sub(r"[^\w.-]+", "-", name)[:80]
