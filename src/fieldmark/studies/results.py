"""The results of a study's runs, read from their folders. Nothing on disk is trusted, and one damaged run does not affect the others."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.core.summary import Summary
from fieldmark.scoring.metrics import top_k_hits
from fieldmark.scoring.predictions import Predictions
from fieldmark.studies.ensembles import EnsembleRow, read_ensembles
from fieldmark.studies.plan import PlannedRun, Rung, StudyDataset, StudyPlan

State = Literal["waiting", "failed", "broken"]


@dataclass(frozen=True, eq=False)
class Images:
    """The labelled test images of a run, sorted by id, which is str (n,); labels are int32 (n,) into `class_names`."""

    ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def differs(self, other: Images) -> str | None:
        """In words, why runs tested on the two cannot be compared image by image; None if they can."""
        if self.class_names != other.class_names:
            return f"its classes are different{_counts(self.class_names, other.class_names)}"
        if not np.array_equal(self.ids, other.ids):
            return f"its test images are different{_counts(self, other)}"
        return None if np.array_equal(self.labels, other.labels) else "labels of its test images are different"


def _counts(these: Sized, others: Sized) -> str:
    return "" if len(these) == len(others) else f" ({len(these):,}, not {len(others):,})"


@dataclass(frozen=True, eq=False)
class Curve:
    """Over the epochs of fitting: `epochs` int64 (E,), the rest float64 (E,), NaN if nothing was measured; accuracies in per cent."""

    epochs: np.ndarray
    train_loss: np.ndarray
    train_top1: np.ndarray
    val_top1: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """A finished run.

    fingerprint: of its data and splits
    images: those of test; equal images of several runs are the same object
    hits: bool (n,), whether each of `images` was classified correctly
    reported: whether its report is there, which is written last
    """

    dataset: StudyDataset
    rung: Rung
    seed: int
    path: Path
    fingerprint: str
    summary: Summary
    versions: dict[str, str]
    curve: Curve
    images: Images
    hits: np.ndarray
    reported: bool


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A planned run without an outcome: `waiting` to be begun or continued, `failed`, or with a `broken` folder."""

    dataset: StudyDataset
    rung: Rung
    seed: int
    path: Path
    state: State
    reason: str


@dataclass(frozen=True, eq=False)
class Results:
    """In the order of datasets, rungs and seeds of the plan."""

    outcomes: tuple[Outcome, ...]
    absent: tuple[Absent, ...]
    ensembles: dict[StudyDataset, tuple[EnsembleRow, ...]]

    def of(self, dataset: StudyDataset, rung: Rung) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.dataset == dataset and outcome.rung == rung]

    @property
    def waiting(self) -> list[Absent]:
        return [run for run in self.absent if run.state == "waiting"]

    @property
    def failed(self) -> list[Absent]:
        return [run for run in self.absent if run.state == "failed"]

    @property
    def broken(self) -> list[Absent]:
        return [run for run in self.absent if run.state == "broken"]


def read_results(plan: StudyPlan) -> Results:
    """Read every planned run. One that cannot be used is listed with the reason, which names the file in its folder; nothing is raised."""
    outcomes: list[Outcome] = []
    absent: list[Absent] = []
    for dataset in plan.datasets:
        known: list[Images] = []
        for rung in plan.rungs:
            for seed in plan.seeds:
                run = plan.run(dataset, rung, seed)
                path = run.path
                try:
                    state, reason = _state(path)
                    if state is None:
                        outcomes.append(_outcome(run, known, outcomes))
                except InputError as error:
                    state, reason = "broken", str(error.problems[0]).replace(f"{path}/", "")  # the page may be passed on without its folder
                except OSError as error:
                    state, reason = "broken", f"{error.filename or path} cannot be read: {error.strerror}"
                if state is not None:
                    absent.append(Absent(dataset=dataset, rung=rung, seed=seed, path=path, state=state, reason=reason))
    return Results(tuple(outcomes), tuple(absent), {dataset: read_ensembles(plan, dataset) for dataset in plan.datasets})


def _state(path: Path) -> tuple[State | None, str]:
    """The state of a run that is not finished, and why; None for a finished one."""
    if not path.exists():
        return "waiting", "not begun"
    manifest = RunFolder(path).manifest()
    if manifest.status == "finished":
        return None, ""
    if manifest.status == "failed":
        return "failed", manifest.reason if manifest.reason and manifest.reason.strip() else "no reason was recorded"
    return "waiting", "running" if _is_held(path) else "interrupted"


def _is_held(path: Path) -> bool:
    """Whether a process is writing the run."""
    if not (path / ".lock").is_file():
        return False
    try:
        with FileLock(path / ".lock", timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _outcome(run: PlannedRun, known: list[Images], others: Sequence[Outcome]) -> Outcome:
    folder = RunFolder(run.path)
    manifest = folder.manifest()
    if manifest.recipe != identity(run.recipe):
        raise InputError(f"{folder.manifest_file}: it was trained with a different recipe or seed than the study says")
    twin = next((other for other in others if (other.dataset, other.rung) == (run.dataset, run.rung)), None)
    if twin is not None and twin.fingerprint != manifest.fingerprint:
        raise InputError(f"{folder.manifest_file}: it was trained on different images or splits than seed {twin.seed}")
    summary = Summary.read(folder.summary_file)
    file = folder.predictions / "test.npz"
    predictions = Predictions.load(file, features=False)
    labelled = np.flatnonzero(predictions.labels >= 0)
    if not len(labelled):
        raise InputError(f"{file} has no labelled images")
    order = labelled[np.argsort(predictions.ids[labelled], kind="stable")]
    images = Images(predictions.ids[order], predictions.labels[order], predictions.class_names)
    if (images.ids[1:] == images.ids[:-1]).any():
        raise InputError(f"{file} has an image twice")
    hits = top_k_hits(predictions.logits, np.maximum(predictions.labels, 0), 1)[order]
    if abs(100 * hits.mean() - summary.test.top1) > 1e-6:
        raise InputError(
            f"{file} and {folder.summary_file.name} disagree: top-1 is {100 * hits.mean():.3f} % and {summary.test.top1:.3f} %"
        )
    same = next((other for other in known if images.differs(other) is None), None)
    if same is None:
        known.append(images)
    return Outcome(
        dataset=run.dataset,
        rung=run.rung,
        seed=run.seed,
        path=run.path,
        fingerprint=manifest.fingerprint,
        summary=summary,
        versions=manifest.versions,
        curve=_curve(folder.metrics_file),
        images=same or images,
        hits=hits,
        reported=folder.report_file.is_file(),
    )


def _is_number(value: Any) -> bool:
    """Not negative, finite, and no larger than arithmetic can take."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63


def _curve(file: Path) -> Curve:
    """The rows that can be drawn; fewer or none if the file is damaged or missing."""
    try:
        rows = read_json_lines(file)
    except (OSError, ValueError, RecursionError):
        rows = []
    fit = [row for row in rows if isinstance(row, dict) and row.get("phase") == "fit"]
    fit = [row for row in fit if _is_number(row.get("epoch")) and isinstance(row["epoch"], int)]
    epochs = np.array([row["epoch"] for row in fit], dtype=np.int64)
    measures = ("train_loss", "train_top1", "val_top1")
    return Curve(epochs, *(np.array([_measured(row.get(name)) for row in fit], dtype=np.float64) for name in measures))


def _measured(value: Any) -> float:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63
    return float(value) if known else math.nan
