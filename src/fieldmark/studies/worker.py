"""A process of a study: it reads its task from standard input, and stops when that closes, because the study has died."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

from fieldmark.core.console import Console
from fieldmark.core.errors import FieldmarkError, InputError
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder
from fieldmark.studies.failure import Failure
from fieldmark.studies.tasks import MeasureTask, TrainTask, read_task

_GRACE_SECONDS = 60.0
_LOCK_SECONDS = 90.0
"""A worker whose parent was killed may still be writing its last state."""


def main() -> int:
    """Do the task; returns the exit status, 0 if all went well. Otherwise the failure is on standard error."""
    task = read_task(sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        if isinstance(task, TrainTask):
            _train(task)
        else:
            _measure(task)
    except (FieldmarkError, OSError) as error:
        Failure.of(error).report()
        return error.exit_code if isinstance(error, FieldmarkError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _die_with_parent() -> None:
    """Wait for the end of standard input; then save the state and stop, or just stop if that takes too long."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _train(task: TrainTask) -> None:
    from fieldmark.reports import changes

    console = Console(quiet=True)
    if (task.path / "manifest.json").is_file():
        if RunFolder.open(task.path).manifest().recipe != identity(task.recipe):
            raise InputError(f"{task.path} holds another run, with another recipe or seed", hint="Move it away, and try again.")
        changes.resume(task.path, console, wait=_LOCK_SECONDS)
    else:
        changes.train(task.data, task.recipe, task.path, console)


def _measure(task: MeasureTask) -> None:
    from fieldmark.training.measure import measure

    for recipe in task.recipes:
        cost = measure(task.data, recipe, Console(quiet=True))
        print(json.dumps(cost.to_dict()), flush=True)


if __name__ == "__main__":
    # SIGTERM outside of training (while data are read, or figures drawn) ends the process at once; nothing is left half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    sys.exit(main())
