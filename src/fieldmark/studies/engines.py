"""Running many trainings, each in a process of its own that dies with this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

from fieldmark.core.cores import available_cores
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import with_settings
from fieldmark.core.recipe.recipe import Recipe

_GRACE_SECONDS = 120.0
"""How long a worker that was asked to stop may finish its step and write its state."""
ERROR_MARK = "\0"
"""A worker puts it before an error that is meant for the user, which it writes as JSON."""
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


class Engine(ABC):
    """Where jobs run: `jobs` at once, each with so many `threads`. Leaving it as a context stops what still runs, its state saved."""

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

    def _ending(self, job: Job, reason: str | None) -> Ended:
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
            self._abandon()


@dataclass(frozen=True)
class Failure:
    """Why a worker did not do its task, as an error for the user has it."""

    problems: tuple[str, ...]
    hint: str | None = None

    @property
    def text(self) -> str:
        return "\n".join([*self.problems, *([self.hint] if self.hint else [])])


@dataclass
class Worker:
    """A process that does one task and lives no longer than this one: it watches its standard input, which closes when this one dies."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls, task: dict[str, Any], slot: int = 0, temporary: Path | None = None) -> Worker:
        """`slot` numbers the workers that run at once: each takes its GPU. `temporary`: where it keeps what it throws away."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fieldmark.studies.worker"],  # -P: nothing is imported from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if task["task"] == "measure" else subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C on the terminal reaches this process only, which then stops its workers
            env=os.environ | _own_gpu(slot) | ({} if temporary is None else {"TMPDIR": str(temporary)}),
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
        """What the worker answers to a task of measuring: a line of JSON each."""
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self) -> Failure | None:
        """Wait for the end of the process: None where all went well, else why not."""
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", "replace")
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()
        if code == 0:
            return None
        _, mark, told = said.rpartition(ERROR_MARK)
        if mark:
            error = json.loads(told)
            return Failure(tuple(error["problems"]), error["hint"])
        if code < 0:
            return Failure((f"the process was killed by signal {-code}" + (" (is there too little memory?)" if code == -9 else ""),))
        lines = said.strip().splitlines()
        return Failure((lines[-1] if lines else f"the process ended with status {code} without a word",))


class LocalEngine(Engine):
    """`jobs` processes at once on this machine, each with its share of the cores and, where there are several, a GPU of its own."""

    def __init__(self, jobs: int = 1):
        assert jobs > 0
        super().__init__()
        self._jobs = jobs
        self._workers: dict[Job, Worker] = {}
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
        self._workers[job] = Worker.start(train_task(job, self.threads), slot)
        self._slots[job] = slot

    def ended(self) -> list[Ended]:
        done = [job for job, worker in self._workers.items() if worker.process.poll() is not None]
        return [self._end(job) for job in done]

    def _end(self, job: Job) -> Ended:
        del self._slots[job]
        failure = self._workers.pop(job).end()
        return self._ending(job, None if failure is None else failure.text)

    def _ask_to_stop(self, job: Job) -> None:
        self._workers[job].process.terminate()

    def _abandon(self) -> None:
        for job in self.running:
            self._workers[job].process.kill()
            self._end(job)


def default_jobs() -> int:
    """A run for each GPU; without one, a run for each core, as far as the machine's memory goes.

    On a CPU, trainings that share the cores between them get further than one training that uses them all: its threads wait for one
    another many times a step, and the more so the busier the machine is.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(available_cores(), memory // RUN_BYTES))


def open_engine(name: EngineName, jobs: int | None, most: int) -> Engine:
    """The engine of that name, for `jobs` at once (by default what it has room for), and `most` at most.

    Raises InputError where Ray is asked for and is not installed, or its cluster cannot be joined.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: expected at least 1, got {jobs}")
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
