"""A worker from the side of the benchmark: started, asked, and ended."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from fieldmark.core.errors import InputError
from fieldmark.speed.contender import Contender

What = Literal["model", "decode", "answer"]
_WITHOUT_END = 10**9


class Ready(NamedTuple):
    """Of a worker that can answer: seconds since its start, bytes in memory, and the batch sizes that it takes."""

    seconds: float
    memory: int
    batches: tuple[int, ...]


class Worker:
    """A process of its own for one contender, so that its memory and start are its own too."""

    def __init__(self, contender: Contender, images: Sequence[bytes]):
        self.contender = contender
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fieldmark.speed.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        encoded = [base64.b64encode(each).decode() for each in images]
        task = {"path": str(contender.path), "way": contender.way, "threads": contender.threads, "images": encoded, "begun": time.time()}
        self._send(task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ready(self) -> Ready:
        """Wait until it can answer. Raises InputError if it cannot."""
        found = self._read()
        if "problem" in found:
            raise InputError(found["problem"])
        return Ready(found["seconds"], found["memory"], tuple(found["batches"]))

    def measure(self, what: What, repeats: int, batch: int = 1) -> list[float]:
        """Milliseconds of each of so many repetitions: of computing a batch, of decoding an image, of answering for it."""
        self._send({"what": what, "repeats": repeats, "batch": batch})
        return list(self._read())

    def compute_without_end(self) -> None:
        """Once it is ready; then it pauses until it is told to go on."""
        self.ready()
        self._send({"what": "model", "repeats": _WITHOUT_END, "batch": 1})
        self.pause()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _send(self, task: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip().splitlines()
            raise InputError(f"{self.contender.name} ended while it was measured: {said[-1] if said else 'no reason given'}")
        return json.loads(line)
