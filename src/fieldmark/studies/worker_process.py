"""The process of a worker as the study sees it: started with a task, it ends with the study and tells why it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fieldmark.studies.failure import Failure
from fieldmark.studies.tasks import MeasureTask, Task

_INTERRUPTED = 130


@dataclass
class WorkerProcess:
    """A process that does one task and lives no longer than this one: it watches its standard input, which closes when this one dies."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls, task: Task, slot: int = 0, temporary: Path | None = None) -> WorkerProcess:
        """`slot` numbers the workers that run at once: each takes its GPU. `temporary` is the folder for its temporary files."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fieldmark.studies.worker"],  # -P: nothing is imported from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if isinstance(task, MeasureTask) else subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C on the terminal reaches this process only, which then stops its workers
            env=os.environ | _own_gpu(slot) | ({} if temporary is None else {"TMPDIR": str(temporary)}),
        )
        assert process.stdin is not None
        try:
            process.stdin.write(task.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; its exit status says so
        return cls(process, errors)

    @property
    def lines(self) -> IO[bytes]:
        """Its answers to a MeasureTask."""
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self) -> Failure | None:
        """Wait for the end of the process: None if all went well, else why not."""
        code = self.process.wait()
        self.errors.seek(0)
        errors = self.errors.read().decode("utf-8", "replace")
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()
        if code == 0:
            return None
        if reported := Failure.reported(errors):
            return reported
        if code == _INTERRUPTED:
            return Failure.saying("stopped", "stopped")
        if code < 0:
            return Failure.saying(f"the process was killed by signal {-code}{' (out of memory?)' if code == -9 else ''}", "killed")
        lines = errors.strip().splitlines()
        if lines:
            return Failure.saying(lines[-1], "run")
        return Failure.saying(f"the process exited with status {code} and no error message", "machine")


def _own_gpu(slot: int) -> dict[str, str]:
    """With several GPUs, the workers take turns with them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        count = torch.cuda.device_count()
        return {"CUDA_VISIBLE_DEVICES": str(slot % count)} if count > 1 else {}
    devices = [name for name in visible.split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if len(devices) > 1 else {}
