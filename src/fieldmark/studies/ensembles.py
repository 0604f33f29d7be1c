"""The ensembles of a study: made of its finished runs, for each dataset and seed, and read again for its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.core.console import Console
from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import FieldmarkError, InputError, Interrupted
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.datasets.split_file import read_split
from fieldmark.ensembles.method import MeanOf, Method, SoupOf, StackOn
from fieldmark.evaluation.submission import DEFAULT_COLUMNS, submit_run
from fieldmark.reports import changes
from fieldmark.studies.plan import PlannedRun, StudyDataset, StudyEnsemble, StudyPlan

SUBMISSION = "submission.csv"


@dataclass(frozen=True)
class EnsembleRow:
    """One ensemble of one seed; accuracies in per cent, `points`, `low` and `high` are the difference to its best member on val.

    method: its name and options, in words. reason: why there is none; the figures are None then.
    """

    name: str
    seed: int
    members: tuple[str, ...]
    method: str
    path: Path
    reason: str
    val: float | None = None
    test: float | None = None
    test_low: float | None = None
    test_high: float | None = None
    best_member: str = ""
    points: float | None = None
    low: float | None = None
    high: float | None = None
    significant: bool = False


def make_ensembles(plan: StudyPlan, console: Console) -> dict[str, str]:
    """Make those whose members are finished and that are not there yet; gives why others failed, by name.

    Where the data have images without labels, the answers for them are written beside each, as `fieldmark submit` writes them.
    """
    failed: dict[str, str] = {}
    for seed in plan.seeds:
        for dataset in plan.datasets:
            for ensemble in plan.ensembles:
                members, path = plan.members(dataset, ensemble, seed), plan.ensemble_path(dataset, ensemble, seed)
                if not all(map(_is_trained, members)) or _is_made(path):
                    continue
                name = f"{dataset.name}/{ensemble.slug}/seed-{seed}"
                console.say(f"making the ensemble {name}")
                try:
                    _make(ensemble, [run.path for run in members], path)
                except FieldmarkError as error:
                    failed[name] = str(error)
                except KeyboardInterrupt:
                    raise Interrupted(f"stopped while {name} was made; the same command makes it") from None
    return failed


def _is_trained(run: PlannedRun) -> bool:
    """Whether the run is finished, and one of the study's."""
    return run.finished and RunFolder(run.path).manifest().recipe == identity(run.recipe)


def _make(ensemble: StudyEnsemble, members: list[Path], path: Path) -> None:
    quiet = Console(quiet=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if RunFolder(path).summary_file.is_file():
        run = changes.complete_ensemble(path, quiet)
    else:
        run = changes.ensemble(members, ensemble.chosen(), path, quiet)
    if _has_unlabelled(run.folder):
        submit_run(run, path / SUBMISSION, None, DEFAULT_COLUMNS, quiet)


def _is_made(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.report_file.is_file() and ((path / SUBMISSION).is_file() or not _has_unlabelled(folder))


def _has_unlabelled(folder: RunFolder) -> bool:
    return UNLABELLED in read_split(folder.split_file)["split"]


def _method(record: EnsembleRecord) -> Method:
    """What the record of an ensemble says of how it was made."""
    if record.method == "mean":
        return MeanOf(record.of or "probabilities", record.fitted_on is not None)
    return (
        StackOn("train" if record.fitted_on == "train" else "val") if record.method == "stack" else SoupOf(record.ingredients == "greedy")
    )


def read_ensembles(plan: StudyPlan, dataset: StudyDataset) -> tuple[EnsembleRow, ...]:
    """Those of a dataset, made or not; what is damaged is named."""
    rows = []
    for ensemble in plan.ensembles:
        how = ", ".join([ensemble.method["method"], *(f"{key}={value}" for key, value in ensemble.method.items() if key != "method")])
        for seed in plan.seeds:
            path = plan.ensemble_path(dataset, ensemble, seed)
            members = plan.members(dataset, ensemble, seed)
            waiting = (
                "it is not made; `fieldmark study run` makes it, or says why not"
                if all(map(_is_trained, members))
                else "its members are not finished"
            )
            known: dict[str, Any] = {"reason": waiting}
            if path.exists():
                try:
                    known = _figures(path, ensemble, members) | {"reason": ""}
                except FieldmarkError as error:
                    known = {"reason": str(error).splitlines()[0]}
            rows.append(EnsembleRow(ensemble.name, seed, ensemble.members, how, path, **known))
    return tuple(rows)


def _figures(path: Path, ensemble: StudyEnsemble, members: Sequence[PlannedRun]) -> dict[str, Any]:
    """Raises InputError where it is another ensemble than the study says."""
    run = RunFolder(path)
    record = run.manifest().ensemble
    wanted = [run.path.parts[-2:] for run in members]
    if record is None or _method(record) != ensemble.chosen() or [Path(each.source).parts[-2:] for each in record.members] != wanted:
        raise InputError(f"{path} was made in another way, or of other runs, than the study says", hint="Delete it, and it is made anew.")
    summary = run.summary()
    if summary.ensemble is None:
        raise InputError(f"{run.summary_file} is damaged: ensemble is missing")
    over = summary.ensemble.over_best_member
    return {
        "val": summary.val.top1,
        "test": summary.test.top1,
        "test_low": summary.test.top1_low,
        "test_high": summary.test.top1_high,
        "best_member": summary.ensemble.best_member,
        "points": over.points,
        "low": over.low,
        "high": over.high,
        "significant": over.shown,
    }
