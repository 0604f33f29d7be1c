"""Making an ensemble: its run folder, which every command takes as it takes that of a training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fieldmark.core.console import Console, table
from fieldmark.core.device import device_name
from fieldmark.core.files import write_json, write_text
from fieldmark.core.recipe import to_yaml
from fieldmark.core.run_folder import RunFolder, now, refuse_existing, versions
from fieldmark.ensembles.fit import fit
from fieldmark.ensembles.members import Members, open_members
from fieldmark.ensembles.method import MeanOf, Method, SoupOf, StackOn
from fieldmark.ensembles.soup import Soup, cook
from fieldmark.evaluation.combination import Stack, combined, describe, save_stack
from fieldmark.evaluation.comparison import compare
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.summary import evaluate_predictions, figures_table
from fieldmark.models.weights import save_weights

SUMMARY_SCHEMA = 1
_COPIED = (
    "recipe.yaml",
    "manifest.json",
    "split.parquet",
    "summary.json",
    "metrics.jsonl",
    "architecture.txt",
    "checkpoints/best.safetensors",
)


def make_ensemble(paths: Sequence[str | Path], method: Method, out: str | Path, console: Console) -> Run:
    """Make one run of several, in the new folder `out`; what it is made of is copied into it.

    Test was opened by each run at its end. What they said of it then is combined; only a soup looks at it once more, when it is done.

    Raises InputError where the runs cannot answer together, or the folder cannot be used; nothing is left behind.
    """
    refuse_existing(Path(out))
    members = open_members(paths)
    with RunFolder.create(out) as folder, console.logging_to(folder.log_file):
        if isinstance(method, SoupOf):
            soup = cook(members, method, console)
            made = _write_soup(folder, members, soup)
        else:
            made = _write_combination(folder, members, method, console)
        for split, predictions in made.items():
            predictions.save(folder.predictions / f"{split}.npz")
        _write_summary(folder, members, made, console)
        folder.set_status("finished")
    console.say(f"everything is in {out}")
    return Run.load(out)


def _write_combination(folder: RunFolder, members: Members, method: MeanOf | StackOn, console: Console) -> dict[str, Predictions]:
    """The members and how they are combined; gives the predictions of val and test, and of train where all members have it."""
    fitted = fit(members, method, console)
    digits = max(2, len(str(len(members.runs))))
    names = [f"{index:0{digits}}-{_plain(name)}" for index, name in enumerate(members.names, 1)]
    for run, name in zip(members.runs, names, strict=True):
        for part in _COPIED:
            if (source := run.path / part).is_file():
                target = folder.members / name / part
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    if isinstance(fitted.combination, Stack):
        save_stack(fitted.combination, folder.stack_weights)
    listed = [{"folder": name} for name in names]
    extra = describe(fitted.combination) | {"fitted_on": fitted.fitted_on, "penalty": fitted.penalty, "folds": members.folds}
    _write_description(folder, members, extra, listed, members.runs[0])
    made = {"val": fitted.val, "test": combined(members.predictions("test"), fitted.combination)}
    return made if members.folds else {"train": combined(members.predictions("train"), fitted.combination), **made}


def _write_soup(folder: RunFolder, members: Members, soup: Soup) -> dict[str, Predictions]:
    chosen = members.runs[soup.chosen[0]]
    metadata = {
        "class_names": list(members.class_names),
        "preprocess": chosen.preprocess.to_dict(),
        "architecture": chosen.recipe.model.name,
    }
    save_weights(soup.model, folder.best_weights, metadata)
    listed = [{"used": index in soup.chosen} for index in range(len(members.runs))]
    extra = {"method": "soup", "ingredients": "greedy" if soup.greedy else "all", "fitted_on": None}
    _write_description(folder, members, extra, listed, chosen)
    return soup.predictions


def _write_description(folder: RunFolder, members: Members, described: dict[str, Any], listed: list[dict[str, Any]], like: Run) -> None:
    """What a run folder says of itself; settings, split and preprocessing are those of the run `like`."""
    of_members = [
        {
            "name": name,
            "source": str(run.path.resolve()),
            "model": run.recipe.model.name,
            "size": run.preprocess.size,
            "parameters": run.summary["model"]["parameters"],
            **more,
        }
        for run, name, more in zip(members.runs, members.names, listed, strict=True)
    ]
    write_text(
        folder.recipe_file, f"# {folder.recipe_file.name}: of {like.path.name}, one of the members of this ensemble\n{to_yaml(like.recipe)}"
    )
    shutil.copyfile(like.folder.split_file, folder.split_file)
    if described["method"] == "soup":
        shutil.copyfile(like.folder.architecture_file, folder.architecture_file)
    manifest = like.folder.manifest()
    kept = {key: manifest[key] for key in ("given", "data", "fingerprint", "class_names", "levels", "preprocess")}
    folder.update_manifest(
        created=now(),
        versions=versions(),
        device=device_name(like.arithmetic.device),
        notes=[],
        ensemble={**described, "members": of_members},
        **kept,
    )


def _write_summary(folder: RunFolder, members: Members, made: dict[str, Predictions], console: Console) -> None:
    ensemble = folder.manifest()["ensemble"]
    recipe = folder.recipe()
    resamples, seed = recipe.evaluate.resamples, recipe.train.seed
    figures = {split: evaluate_predictions(made[split], resamples, seed) for split in ("val", "test")}
    summaries = [run.summary for run in members.runs]
    best = max(range(len(summaries)), key=lambda index: summaries[index]["val"]["top1"])
    over = compare(made["test"], members.predictions("test")[best], resamples, seed)
    used = [one for one, member in zip(summaries, ensemble["members"], strict=True) if member.get("used", True)]
    in_one = used[:1] if ensemble["method"] == "soup" else used
    training = [one["training"] for one in used]
    of_members = [
        {"name": name, "val": one["val"]["top1"]} | {f"test{part}": one["test"][f"top1{part}"] for part in ("", "_low", "_high")}
        for name, one in zip(members.names, summaries, strict=True)
    ]
    summary = {
        "schema": SUMMARY_SCHEMA,
        "status": "finished",
        "dataset": summaries[0]["dataset"],
        "model": {
            "name": _title(ensemble, [one["model"]["name"] for one in used]),
            "parameters": sum(one["model"]["parameters"] for one in in_one),
            "trainable": 0,
            "macs": sum(one["model"]["macs"] for one in in_one),
            "input": max((one["model"]["input"] for one in in_one), key=lambda size: size[1]),
        },
        "training": {part: sum(each[part] for each in training) for part in ("epochs", "steps", "samples_seen", "seconds")},
        "ensemble": {"members": of_members, "best_member": members.names[best], "over_best_member": {**asdict(over), "shown": over.shown}},
        **figures,
    }
    write_json(folder.summary_file, summary)
    console.say("", _members_table(ensemble, of_members), "", figures_table(figures))
    console.say(f"over {members.names[best]}, the member with the best val: {over}")
    if ensemble["fitted_on"] in ("val", "out-of-fold"):
        console.say("each val picture is answered by what was fitted without it")
    elif ensemble["fitted_on"] == "train":
        console.say("fitted on the pictures that its members were trained on")


def _title(ensemble: dict[str, Any], models: Sequence[str]) -> str:
    kinds = ", ".join(dict.fromkeys(models))
    return f"{ensemble['method']} of {len(models)}: {kinds}"


def _members_table(ensemble: dict[str, Any], figures: Sequence[dict[str, Any]]) -> Any:
    weights = ensemble.get("weights")
    columns = ("member", "model", "pixels", *(["weight"] if weights else []), "val top-1 %", "test top-1 %")
    rows = []
    for index, (member, one) in enumerate(zip(ensemble["members"], figures, strict=True)):
        left_out = "" if member.get("used", True) else " (left out)"
        weight = [f"{weights[index]:.3f}"] if weights else []
        test = f"{one['test']:.1f}  [{one['test_low']:.1f}, {one['test_high']:.1f}]"
        rows.append((member["name"] + left_out, member["model"], member["size"], *weight, f"{one['val']:.1f}", test))
    return table(None, columns, rows, ("model",))


def _plain(name: str) -> str:
    """A name that can be a folder's."""
    return re.sub(r"[^\w.-]+", "-", name)[:80]
