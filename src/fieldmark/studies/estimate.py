"""What the runs of a study will take: the time, from a few timed steps of each kind of run, and the disk space."""

from __future__ import annotations

import heapq
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import flat
from fieldmark.studies.plan import PlannedRun
from fieldmark.studies.tasks import measure_task
from fieldmark.studies.worker_process import WorkerProcess

if TYPE_CHECKING:
    from fieldmark.training.measure import Cost

_PROCESS_SECONDS = 8.0
"""To start a process and import its libraries, and for the figures and report at the end."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What runs will take, `jobs` of them at once.

    seconds: of each run, by its path, without the decoding that runs share
    executions: precision and memory format that were measured for each run, by its path
    run_bytes: of all run folders; working_bytes: in addition while `jobs` runs train; cache_bytes: of decoded images, at most
    """

    seconds: dict[Path, float]
    executions: dict[Path, tuple[str, str]]
    decode_seconds: float
    run_bytes: int
    working_bytes: int
    cache_bytes: int
    jobs: int

    @property
    def total(self) -> float:
        """Seconds until all runs are done."""
        free = [0.0] * self.jobs
        for seconds in self.seconds.values():
            heapq.heapreplace(free, free[0] + seconds)
        return self.decode_seconds + max(free)


def estimate(runs: Sequence[PlannedRun], jobs: int, threads: int, console: Console) -> Estimate:
    """Time a few steps of each kind of run, in a process with the share of the cores that a run will have.

    Raises InputError if a run could not even begin: its data, weights or model cannot be used.
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
    decoded = {(run.dataset.given, _decoding(run.recipe)): by_run[run.path] for run in runs}
    seconds = {path: _PROCESS_SECONDS + cost.start_seconds + cost.train_seconds + cost.predict_seconds for path, cost in by_run.items()}
    largest = sorted((cost.working_bytes - cost.run_bytes for cost in by_run.values()), reverse=True)[:jobs]
    return Estimate(
        seconds=seconds,
        executions={path: (cost.precision, cost.memory_format) for path, cost in by_run.items()},
        decode_seconds=sum(cost.decode_seconds for cost in decoded.values()),
        run_bytes=sum(cost.run_bytes for cost in by_run.values()),
        working_bytes=sum(largest),
        cache_bytes=sum(cost.cache_bytes for cost in decoded.values()),
        jobs=jobs,
    )


def check_room(needed: Estimate, out: Path) -> None:
    """Raise InputError if the disk has no room for the runs. The cache of decoded images checks its own disk."""
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    begun = sum(file.stat().st_size for run in needed.seconds if run.is_dir() for file in run.rglob("*") if file.is_file())
    wanted = needed.run_bytes + needed.working_bytes - begun
    if wanted > free:
        raise InputError(
            f"the runs need about {wanted / 1e9:.1f} GB, and the disk that holds {out} has only {free / 1e9:.1f} GB left",
            hint="Free some space, choose another --out, or begin with fewer runs.",
        )


def _kind(run: PlannedRun) -> tuple[str, str]:
    """Runs of one kind take equally long, and one is refused if the others are: they differ only in numbers of the optimiser, the
    schedule and the loss, and in the seed."""
    free = ("optim.", "schedule.", "loss.")
    values = {key: value for key, value in flat(run.recipe).items() if isinstance(value, str | list) or not key.startswith(free)}
    return run.dataset.given, json.dumps(values | {"train.seed": 0}, sort_keys=True)


def _decoding(recipe: Recipe) -> str:
    """Equal for recipes whose runs share their decoded images."""
    return json.dumps(recipe.data.model_dump(mode="json"), sort_keys=True)


def _measured(runs: Sequence[PlannedRun], threads: int) -> Iterator[Cost]:
    """The cost of each of these runs on one dataset, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        from fieldmark.training.measure import Cost

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
        which = f"This is why {failed.rung.name!r} would fail on {failed.dataset.name}."
        raise InputError(*failure.problems, hint=f"{failure.hint}\n{which}" if failure.hint else which)
