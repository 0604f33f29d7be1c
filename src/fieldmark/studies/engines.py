"""Running many trainings at once, each in a process of its own: what an engine is, and the one for this machine."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from fieldmark.core.errors import InputError
from fieldmark.core.processor import available_cores
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.studies.failure import Failure
from fieldmark.studies.tasks import TrainTask, train_task
from fieldmark.studies.worker_process import WorkerProcess

_GRACE_SECONDS = 120.0
"""How long a worker that was asked to stop may take to finish its step and save its state."""
RUN_BYTES = 3 * 2**30
"""Memory that a training on a CPU is assumed to need."""


EngineName = Literal["local", "ray"]


@dataclass(frozen=True, eq=False)
class Job:
    """One training: `path` is the run folder to make, or to continue if it exists."""

    name: str
    data: str
    recipe: Recipe
    path: Path

    def task(self, threads: int) -> TrainTask:
        """`threads`: those of a recipe that leaves them open."""
        return train_task(self.data, self.recipe, self.path, threads)


@dataclass(frozen=True)
class Ended:
    """`failure`: why the job did not finish; None if it did."""

    job: Job
    failure: Failure | None

    @property
    def reason(self) -> str | None:
        return None if self.failure is None else self.failure.text


class Engine(ABC):
    """Runs up to `jobs` jobs at once, each with `threads` threads. Leaving the context stops and saves those still running."""

    def __init__(self) -> None:
        self._stopped: set[Job] = set()

    @property
    @abstractmethod
    def jobs(self) -> int: ...

    @property
    @abstractmethod
    def threads(self) -> int: ...

    @property
    @abstractmethod
    def running(self) -> tuple[Job, ...]: ...

    @abstractmethod
    def start(self, job: Job) -> None: ...

    @abstractmethod
    def ended(self) -> list[Ended]:
        """The jobs that have ended since the last call; does not wait."""

    @abstractmethod
    def _ask_to_stop(self, job: Job) -> None: ...

    @abstractmethod
    def _abandon(self) -> None:
        """End what did not stop when asked to, and whatever this engine has started."""

    @property
    def free(self) -> int:
        """How many more jobs it takes now."""
        return self.jobs - len(self.running)

    def stop(self, job: Job) -> None:
        """Ask a job to save its state and end; it is among `ended` later."""
        if job in self.running:
            self._stopped.add(job)
            self._ask_to_stop(job)

    def _ending(self, job: Job, failure: Failure | None) -> Ended:
        if job in self._stopped:
            self._stopped.discard(job)
            failure = failure and Failure.saying("stopped", "stopped")
        return Ended(job, failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_all()

    def stop_all(self) -> None:
        """Stop and save those still running, and wait for them."""
        for job in self.running:
            self.stop(job)
        patience = time.monotonic() + _GRACE_SECONDS
        try:
            while self.running and time.monotonic() < patience:
                self.ended()
                time.sleep(0.05)
        finally:
            self._abandon()


class LocalEngine(Engine):
    """`jobs` processes at once on this machine, each with its share of the cores and, if there are several GPUs, one of its own."""

    def __init__(self, jobs: int = 1):
        assert jobs > 0
        super().__init__()
        self._jobs = jobs
        self._workers: dict[Job, WorkerProcess] = {}
        self._slots: dict[Job, int] = {}

    @property
    def jobs(self) -> int:
        return self._jobs

    @property
    def threads(self) -> int:
        return max(1, available_cores() // self._jobs)

    @property
    def running(self) -> tuple[Job, ...]:
        return tuple(self._workers)

    def start(self, job: Job) -> None:
        slot = next(slot for slot in range(self.jobs) if slot not in self._slots.values())
        self._workers[job] = WorkerProcess.start(job.task(self.threads), slot)
        self._slots[job] = slot

    def ended(self) -> list[Ended]:
        done = [job for job, worker in self._workers.items() if worker.process.poll() is not None]
        return [self._end(job) for job in done]

    def _end(self, job: Job) -> Ended:
        del self._slots[job]
        return self._ending(job, self._workers.pop(job).end())

    def _ask_to_stop(self, job: Job) -> None:
        self._workers[job].process.terminate()

    def _abandon(self) -> None:
        for job in self.running:
            self._workers[job].process.kill()
            self._end(job)


def default_jobs() -> int:
    """A run for each GPU; without one, a run for each core, as far as the machine's memory goes.

    On a CPU, trainings that share the cores get further than one training that uses them all: its threads wait for one another many
    times per step, and more so the busier the machine is.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(available_cores(), memory // RUN_BYTES))


def open_engine(name: EngineName, jobs: int | None, most: int) -> Engine:
    """The engine of that name, for `jobs` at once (by default as many as it has room for), and `most` at most.

    Raises InputError if Ray is asked for and is not installed, or its cluster cannot be joined.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: expected at least 1, got {jobs}")
    if name == "ray":
        from fieldmark.studies.ray_engine import RayEngine

        return RayEngine(jobs, most)
    return LocalEngine(min(jobs or default_jobs(), most))
