"""The ensembles of a study: made from its finished runs, for each dataset and seed, and read again for its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import FieldmarkError, InputError, Interrupted
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import DifferenceSummary, SplitMetrics
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.datasets.split_file import Recorded, read_split
from fieldmark.ensembles.method import MeanOf, Method, SoupOf, StackOn
from fieldmark.evaluation.submission import default_columns, submit_run
from fieldmark.reports import changes
from fieldmark.studies.plan import PlannedRun, StudyDataset, StudyEnsemble, StudyPlan

SUBMISSION = "submission.csv"


@dataclass(frozen=True, kw_only=True)
class EnsembleFigures:
    """From its summary.json: the metrics on val and test, and the difference on test to its best member, that with the best val."""

    val: SplitMetrics
    test: SplitMetrics
    best_member: str
    over_best_member: DifferenceSummary


@dataclass(frozen=True, kw_only=True)
class EnsembleRow:
    """One ensemble of one seed.

    method: its name and options, in words
    figures: None if there is no ensemble; `reason` says why
    """

    name: str
    seed: int
    members: tuple[str, ...]
    method: str
    path: Path
    figures: EnsembleFigures | None
    reason: str

    @property
    def significant(self) -> bool:
        """Whether it differs significantly from its best member."""
        return self.figures is not None and self.figures.over_best_member.shown


def make_ensembles(plan: StudyPlan, console: Console) -> dict[str, str]:
    """Make those whose members are finished, unless they exist; returns why others failed, by name.

    If the data have images without labels, each ensemble's answers for them are written into its folder, as by `fieldmark submit`.
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
                    raise Interrupted(f"stopped while {name} was being made; the same command makes it") from None
    return failed


def _is_trained(run: PlannedRun) -> bool:
    """Whether the run is finished, with the recipe of the study."""
    return run.finished and RunFolder(run.path).manifest().recipe == identity(run.recipe)


def _make(ensemble: StudyEnsemble, members: list[Path], path: Path) -> None:
    quiet = Console(quiet=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if RunFolder(path).summary_file.is_file():
        run = changes.complete_ensemble(path, quiet)
    else:
        run = changes.ensemble(members, ensemble.chosen(), path, quiet)
    if _has_unlabelled(run.folder):
        dataset = Recorded.of(run.folder, run.class_names).dataset(run.folder.manifest().data)
        submit_run(run, path / SUBMISSION, None, default_columns(dataset), quiet)


def _is_made(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.report_file.is_file() and ((path / SUBMISSION).is_file() or not _has_unlabelled(folder))


def _has_unlabelled(folder: RunFolder) -> bool:
    return UNLABELLED in read_split(folder.split_file)["split"]


def _method(record: EnsembleRecord) -> Method:
    """How an ensemble was made, from its record."""
    if record.method == "mean":
        return MeanOf(record.of or "probabilities", record.fitted_on is not None)
    if record.method == "stack":
        return StackOn("train" if record.fitted_on == "train" else "val")
    return SoupOf(record.ingredients == "greedy")


def read_ensembles(plan: StudyPlan, dataset: StudyDataset) -> tuple[EnsembleRow, ...]:
    """The ensembles of a dataset, made or not; of a damaged one, the reason names the file."""
    rows = []
    for ensemble in plan.ensembles:
        how = ", ".join([ensemble.method["method"], *(f"{key}={value}" for key, value in ensemble.method.items() if key != "method")])
        for seed in plan.seeds:
            path = plan.ensemble_path(dataset, ensemble, seed)
            members = plan.members(dataset, ensemble, seed)
            figures, reason = None, ""
            if path.exists():
                try:
                    figures = _figures(path, ensemble, members)
                except FieldmarkError as error:
                    reason = str(error.problems[0])
            elif all(map(_is_trained, members)):
                reason = "it has not been made; `fieldmark study run` makes it, or says why not"
            else:
                reason = "its members are not finished"
            rows.append(
                EnsembleRow(name=ensemble.name, seed=seed, members=ensemble.members, method=how, path=path, figures=figures, reason=reason)
            )
    return tuple(rows)


def _figures(path: Path, ensemble: StudyEnsemble, members: Sequence[PlannedRun]) -> EnsembleFigures:
    """Raises InputError if it is not the ensemble that the study defines."""
    run = RunFolder(path)
    record = run.manifest().ensemble
    wanted = [run.path.parts[-2:] for run in members]
    if record is None or _method(record) != ensemble.chosen() or [Path(each.source).parts[-2:] for each in record.members] != wanted:
        problem = f"{path} was made by another method, or from other runs, than the study says"
        raise InputError(problem, hint="Delete it, and `fieldmark study run` makes it again.")
    summary = run.summary()
    if summary.ensemble is None:
        raise InputError(f"{run.summary_file} is damaged: ensemble is missing")
    best, over = summary.ensemble.best_member, summary.ensemble.over_best_member
    return EnsembleFigures(val=summary.val, test=summary.test, best_member=best, over_best_member=over)
