"""Running many trainings, each in a process of its own that dies with this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, Self

from fieldmark.core.cores import available_cores
from fieldmark.core.recipe import with_settings
from fieldmark.core.schema import Recipe

_GRACE_SECONDS = 120.0
"""How long a worker that was asked to stop may finish its step and write its state."""
_TAIL = 5
RUN_BYTES = 3 * 2**30
"""Memory that a training on a CPU is thought to need."""


EngineName = Literal["local", "ray"]


@dataclass(frozen=True, eq=False)
class Job:
    """One training: `path` is the run folder to make, or to continue where there is one."""

    name: str
    data: str
    recipe: Recipe
    path: Path


@dataclass(frozen=True)
class Ended:
    """`reason`: why the job did not finish; None where it did."""

    job: Job
    reason: str | None


class Engine(Protocol):
    """Where jobs run: `jobs` at once, each with so many `threads`. Leaving it as a context stops what still runs, its state saved."""

    @property
    def jobs(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def free(self) -> int:
        """How many more jobs it takes now."""
        ...

    @property
    def running(self) -> tuple[Job, ...]: ...

    def start(self, job: Job) -> None: ...

    def stop(self, job: Job) -> None:
        """Ask a job to save its state and end; it is among `ended` later."""
        ...

    def ended(self) -> list[Ended]:
        """The jobs that have ended since the last call; does not wait."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass
class Worker:
    """A process that does one task and lives no longer than this one: it watches its standard input, which closes when this one dies."""

    process: subprocess.Popen[bytes]
    errors: Path

    @classmethod
    def start(cls, task: dict[str, Any], errors: Path, slot: int = 0) -> Worker:
        """`errors` takes what the process writes to standard error. `slot` numbers the workers that run at once: each takes its GPU."""
        errors.parent.mkdir(parents=True, exist_ok=True)
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "fieldmark.studies.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,  # Ctrl-C on the terminal reaches this process only, which then stops its workers
                env=os.environ | _own_gpu(slot),
            )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; its exit status says so
        return cls(process, errors)

    @property
    def lines(self) -> IO[bytes]:
        """What the worker answers: a line of JSON each."""
        assert self.process.stdout is not None
        return self.process.stdout

    def failure(self) -> str | None:
        """Of a process that has ended: None where all went well, else why not."""
        code = self.process.wait()
        if code == 0:
            return None
        said = self.errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL:]
        if code < 0:
            return f"the process was killed by signal {-code}" + (" (is there too little memory?)" if code == -9 else "")
        return "\n".join(said) or f"the process ended with status {code} without a word"

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class LocalEngine:
    """`jobs` processes at once on this machine, each with its share of the cores and, where there are several, a GPU of its own."""

    def __init__(self, jobs: int = 1):
        self._jobs = jobs
        self._workers: dict[Job, Worker] = {}
        self._slots: dict[Job, int] = {}
        self._stopped: set[Job] = set()

    @property
    def jobs(self) -> int:
        return self._jobs

    @property
    def threads(self) -> int:
        return max(1, available_cores() // self._jobs)

    @property
    def free(self) -> int:
        return self.jobs - len(self._workers)

    @property
    def running(self) -> tuple[Job, ...]:
        return tuple(self._workers)

    def start(self, job: Job) -> None:
        slot = next(slot for slot in range(self.jobs) if slot not in self._slots.values())
        self._workers[job] = Worker.start(train_task(job, self.threads), job.path.with_name(f"{job.path.name}.err"), slot)
        self._slots[job] = slot

    def stop(self, job: Job) -> None:
        if job in self._workers:
            self._stopped.add(job)
            self._workers[job].process.terminate()

    def ended(self) -> list[Ended]:
        done = [job for job, worker in self._workers.items() if worker.process.poll() is not None]
        return [self._end(job) for job in done]

    def _end(self, job: Job) -> Ended:
        worker = self._workers.pop(job)
        del self._slots[job]
        reason = worker.failure()
        worker.close()
        worker.errors.unlink(missing_ok=True)
        if job in self._stopped:
            self._stopped.discard(job)
            reason = reason and "stopped"
        return Ended(job, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for job in self.running:
            self.stop(job)
        patience = time.monotonic() + _GRACE_SECONDS
        try:
            while self.running and time.monotonic() < patience:
                self.ended()
                time.sleep(0.05)
        finally:
            for job in self.running:
                self._workers[job].process.kill()
                self._end(job)


def default_jobs() -> int:
    """A run for each GPU; without one, a run for each core, as far as memory goes.

    On a CPU, trainings that share the cores between them get further than one training that uses them all: its threads wait for one
    another many times a step, and the more so the busier the machine is.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(available_cores(), memory // RUN_BYTES))


def open_engine(name: EngineName, jobs: int | None, most: int) -> Engine:
    """The engine of that name, for `jobs` at once (by default what it has room for), and `most` at most.

    Raises InputError where Ray is asked for and is not installed, or its cluster cannot be joined.
    """
    if name == "ray":
        from fieldmark.studies.ray_engine import RayEngine

        return RayEngine(jobs, most)
    return LocalEngine(min(jobs or default_jobs(), most))


def train_task(job: Job, threads: int) -> dict[str, Any]:
    """What a worker is told to train. A recipe that leaves the threads open gets its share of the cores."""
    recipe = job.recipe if job.recipe.train.threads is not None else with_settings(job.recipe, {"train.threads": threads})
    return {"task": "train", "data": job.data, "recipe": recipe.model_dump(mode="json"), "path": str(job.path)}


def measure_task(data: str, recipes: Sequence[Recipe], threads: int) -> dict[str, Any]:
    """What a worker is told to measure: it answers with the cost of each recipe, one line each."""
    given = [recipe if recipe.train.threads is not None else with_settings(recipe, {"train.threads": threads}) for recipe in recipes]
    return {"task": "measure", "data": data, "recipes": [recipe.model_dump(mode="json") for recipe in given]}


def _own_gpu(slot: int) -> dict[str, str]:
    """With several GPUs, the workers take turns with them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        count = torch.cuda.device_count()
        return {"CUDA_VISIBLE_DEVICES": str(slot % count)} if count > 1 else {}
    devices = [name for name in visible.split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if len(devices) > 1 else {}
