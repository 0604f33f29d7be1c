"""What the runs of a study will take: time from a few timed steps of each kind of run, and room on the disk."""

from __future__ import annotations

import heapq
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import flat
from fieldmark.studies.plan import PlannedRun
from fieldmark.studies.tasks import measure_task
from fieldmark.studies.worker_process import WorkerProcess
from fieldmark.training.measure import Cost

_PROCESS_SECONDS = 8.0
"""Starting a process and importing its libraries, and the figures and report at the end."""


@dataclass(frozen=True)
class Estimate:
    """`seconds` of each run, by its path, without the decoding that runs share; `total` of all with so many at once."""

    seconds: dict[Path, float]
    decode_seconds: float
    run_bytes: int
    working_bytes: int
    cache_bytes: int
    jobs: int

    @property
    def total(self) -> float:
        free = [0.0] * self.jobs
        for seconds in self.seconds.values():
            heapq.heapreplace(free, free[0] + seconds)
        return self.decode_seconds + max(free)


def estimate(runs: Sequence[PlannedRun], jobs: int, threads: int, console: Console) -> Estimate:
    """Time a few steps of each kind of run, in a process that has the share of the cores that a run will have.

    Raises InputError where a run could not even begin: its data, weights or model cannot be used.
    """
    kinds: dict[tuple[str, str], PlannedRun] = {}
    for run in runs:
        kinds.setdefault(_kind(run), run)
    costs: dict[tuple[str, str], Cost] = {}
    with console.progress("timing a few steps of each kind of run", "kinds") as advance:
        advance(0, len(kinds))
        for given in dict.fromkeys(run.dataset.given for run in runs):
            mine = {kind: run for kind, run in kinds.items() if kind[0] == given}
            for kind, cost in zip(mine, _measured(list(mine.values()), threads), strict=True):
                costs[kind] = cost
                advance(len(costs), len(kinds))
    by_run = {run.path: costs[_kind(run)] for run in runs}
    views = {(run.dataset.given, _view(run.recipe)): by_run[run.path] for run in runs}
    seconds = {path: _PROCESS_SECONDS + cost.start_seconds + cost.train_seconds + cost.predict_seconds for path, cost in by_run.items()}
    largest = sorted((cost.working_bytes - cost.run_bytes for cost in by_run.values()), reverse=True)[:jobs]
    return Estimate(
        seconds,
        sum(cost.decode_seconds for cost in views.values()),
        sum(cost.run_bytes for cost in by_run.values()),
        sum(largest),
        sum(cost.cache_bytes for cost in views.values()),
        jobs,
    )


def check_room(needed: Estimate, out: Path) -> None:
    """Raise InputError where the disk that will hold the runs has no room for them. The cache of decoded images looks to its own."""
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    begun = sum(file.stat().st_size for run in needed.seconds if run.is_dir() for file in run.rglob("*") if file.is_file())
    wanted = needed.run_bytes + needed.working_bytes - begun
    if wanted > free:
        raise InputError(
            f"the runs need about {wanted / 1e9:.1f} GB, and the disk that holds {out} has {free / 1e9:.1f} GB left",
            hint="Free some space, choose another --out, or do fewer runs at first.",
        )


def _kind(run: PlannedRun) -> tuple[str, str]:
    """Runs of one kind take equally long, and would be refused alike: they differ in single numbers of the optimiser, the schedule and the
    loss only, and in the seed."""
    free = ("optim.", "schedule.", "loss.")
    values = {key: value for key, value in flat(run.recipe).items() if isinstance(value, str | list) or not key.startswith(free)}
    return run.dataset.given, json.dumps(values | {"train.seed": 0}, sort_keys=True)


def _view(recipe: Recipe) -> str:
    return json.dumps(recipe.data.model_dump(mode="json"), sort_keys=True)


def _measured(runs: Sequence[PlannedRun], threads: int) -> Iterator[Cost]:
    """The cost of each of these runs, which are of one dataset, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        task = measure_task(runs[0].dataset.given, [run.recipe for run in runs], threads)
        worker = WorkerProcess.start(task, temporary=Path(folder))
        try:
            number = 0
            for line in worker.lines:
                yield Cost(**json.loads(line))
                number += 1
            worker.process.wait()
        finally:
            worker.process.kill()
            failure = worker.end()
    if failure is not None:
        failed = runs[min(number, len(runs) - 1)]
        said = f"This is what {failed.rung.name!r} would fail with on {failed.dataset.name}."
        raise InputError(*failure.problems, hint=f"{failure.hint}\n{said}" if failure.hint else said)
