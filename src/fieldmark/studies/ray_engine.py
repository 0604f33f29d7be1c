"""The engine that runs trainings as tasks of a Ray cluster, whose machines share the folder of the study and the data.

A task looks after a worker process, as LocalEngine does: under both, a training is the same, fails for the same reasons, and is asked to
stop in the same way.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.processor import available_cores
from fieldmark.studies.engines import RUN_BYTES, Ended, Engine, Job, default_jobs
from fieldmark.studies.failure import Failure
from fieldmark.studies.tasks import TrainTask
from fieldmark.studies.worker_process import WorkerProcess

_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 10.0
_STORE_BYTES = 100_000_000
"""Shared memory for what tasks exchange, which is almost nothing."""
_CARRIED = ("FIELDMARK_CACHE",)
"""Environment variables with paths that apply to every machine of the cluster if they are set here."""


@dataclass(frozen=True)
class Node:
    """What one machine of a cluster has; `memory` in bytes."""

    cpus: int
    gpus: int
    memory: float


@dataclass(frozen=True)
class Share:
    """How many trainings run at once, and the CPUs and GPUs that each asks for."""

    jobs: int
    cpus: int
    gpus: int


class RayEngine(Engine):
    """Trainings on the cluster that RAY_ADDRESS names or that this process has joined, or else on one started on this machine alone.

    `jobs` at once, by default as many as there is room for, at most `most`; those without room wait in the cluster's queue. A task that
    fails is not retried. Leaving the engine leaves the cluster, and stops it if it was started here.

    Raises InputError if Ray is not installed, or the cluster cannot be joined.
    """

    def __init__(self, jobs: int | None, most: int):
        super().__init__()
        self._ray = _import_ray()
        self._joined = not self._ray.is_initialized()
        if self._joined:
            jobs = _join(self._ray, jobs)
        self._share = shares(_nodes(self._ray), jobs, most)
        self._task = self._ray.remote(_train).options(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_retries=0,
            # A worker whose task has died sees its standard input close, saves its state and ends; Ray would kill it.
            runtime_env={"env_vars": {"RAY_kill_child_processes_on_worker_exit": "0"} | _carried()},
        )
        self._tasks: dict[Job, Any] = {}

    @property
    def jobs(self) -> int:
        return self._share.jobs

    @property
    def threads(self) -> int:
        """CPU threads of each training whose recipe leaves them open."""
        return max(1, self._share.cpus)

    @property
    def running(self) -> tuple[Job, ...]:
        return tuple(self._tasks)

    def start(self, job: Job) -> None:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        task = job.task(self.threads).model_copy(update={"path": job.path.absolute()})
        self._tasks[job] = self._task.remote(task, os.getcwd())

    def ended(self) -> list[Ended]:
        if not self._tasks:
            return []
        done, _ = self._ray.wait(list(self._tasks.values()), num_returns=len(self._tasks), timeout=0)
        return [self._end(job) for job, task in list(self._tasks.items()) if task in done]

    def _end(self, job: Job) -> Ended:
        try:
            failure = self._ray.get(self._tasks.pop(job))
        except self._ray.exceptions.RayError as error:
            failure = Failure.saying(f"Ray: {_why(error)}", "machine")
        return self._ending(job, failure)

    def _ask_to_stop(self, job: Job) -> None:
        self._ray.cancel(self._tasks[job], force=False)

    def _abandon(self) -> None:
        for task in self._tasks.values():
            self._ray.cancel(task, force=True)
        if self._joined:
            self._ray.shutdown()


def shares(nodes: Sequence[Node], jobs: int | None, most: int) -> Share:
    """The share of these machines that each of `jobs` trainings gets; by default as many trainings as there is room for, at most `most`.

    If there are GPUs, a training has one, and an equal share of its machine's CPUs. Otherwise there is room for one training per CPU, as
    far as memory goes; fewer trainings have as many CPUs each as still lets all of them run at once.
    """
    with_gpus = [node for node in nodes if node.gpus > 0]
    if with_gpus:
        room = sum(node.gpus for node in with_gpus)
        return Share(min(jobs or room, most), min(node.cpus // node.gpus for node in with_gpus), 1)
    room = sum(min(node.cpus, max(1, int(node.memory // RUN_BYTES))) for node in nodes)
    at_once = min(jobs or max(room, 1), most)
    largest = max((node.cpus for node in nodes), default=1)
    cpus = next((each for each in range(largest, 1, -1) if sum(node.cpus // each for node in nodes) >= at_once), 1)
    return Share(at_once, cpus, 0)


def _import_ray() -> Any:
    """Raises InputError if Ray is not installed."""
    with needed_for("--engine ray"):
        import ray
    return ray


def _join(ray: Any, jobs: int | None) -> int | None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine with room for the jobs; returns their number, if known."""
    address = os.environ.get("RAY_ADDRESS", "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address not in ("", "local"):
            _knock(address)
            ray.init(address=address, **quiet)
            return jobs
        jobs = jobs or default_jobs()
        cpus = max(available_cores(), jobs)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
        return jobs
    except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
        reason = _why(error)
        if address in ("", "local"):
            raise InputError(f"Ray cannot be started on this machine: {reason}", hint="--engine local does not need Ray.") from None
        hint = (
            "Give it the address of a running cluster (host:port, or auto), or unset it to use this machine alone. "
            "A cluster that asks for a token needs RAY_AUTH_MODE=token as well."
        )
        raise InputError(f"cannot join the Ray cluster at RAY_ADDRESS={address}: {reason}", hint=hint) from None
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray installs its own


def _knock(address: str) -> None:
    """Raises OSError if an address with a port does not answer, which takes Ray itself minutes to notice."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


def _nodes(ray: Any) -> list[Node]:
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(has.get("CPU", 0)), int(has.get("GPU", 0)), has.get("memory", 0.0)) for has in found]


def _train(task: TrainTask, folder: str) -> Failure | None:
    """The task, on a machine of the cluster: train in a worker process. Returns None if it finished, else why not.

    `folder`: where relative paths begin, if the machine has it. ray.cancel raises KeyboardInterrupt in here.
    """
    if not task.path.parent.is_dir():
        shared = "the folder of the study and the data must be on a disk that all machines of the cluster share"
        return Failure.saying(f"{platform.node()} has no folder {task.path.parent}: {shared}", "machine")
    if Path(folder).is_dir():
        os.chdir(folder)
    worker = WorkerProcess.start(task)
    try:
        while worker.process.poll() is None:
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        worker.process.terminate()
    return worker.end()


def _carried() -> dict[str, str]:
    return {name: str(Path(os.environ[name]).expanduser().absolute()) for name in _CARRIED if os.environ.get(name)}


def _why(error: Exception) -> str:
    """The line of an error of Ray that says what happened: the last of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if "Traceback" in lines[0] or "(pid=" in lines[0] else lines[0]
