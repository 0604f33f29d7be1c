"""A process of a study: it reads its task from standard input, and stops when that closes, because whoever gave it has died."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fieldmark.core.console import Console
from fieldmark.core.errors import FieldmarkError, InputError
from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder
from fieldmark.studies.engines import ERROR_MARK

_GRACE_SECONDS = 60.0
_LOCK_SECONDS = 90.0
"""A worker whose parent was killed may still be writing its last state."""


def main() -> int:
    """Do the task; 0 where all went well, else the reason is on standard error, where it is one for the user after ERROR_MARK."""
    task = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        if task["task"] == "train":
            _train(task["data"], _recipe(task["recipe"]), Path(task["path"]))
        else:
            _measure(task["data"], [_recipe(values) for values in task["recipes"]])
    except FieldmarkError as error:
        told = {"problems": [str(problem) for problem in error.problems], "hint": error.hint}
        print(ERROR_MARK + json.dumps(told), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _die_with_parent() -> None:
    """Wait for the end of standard input; then save the state and stop, or just stop where that takes too long."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _train(data: str, recipe: Recipe, path: Path) -> None:
    from fieldmark.reports import changes

    console = Console(quiet=True)
    if (path / "manifest.json").is_file():
        if RunFolder.open(path).manifest().recipe != identity(recipe):
            hint = "Move it away, and try again."
            raise InputError(f"{path} holds another run: its recipe or seed is another", hint=hint)
        run = changes.resume(path, console, wait=_LOCK_SECONDS)
    else:
        run = changes.train(data, recipe, path, console)
    for checkpoint in run.folder.checkpoints.glob("step-*.pt"):
        checkpoint.unlink()  # a finished run needs them no more, and a study has many runs


def _measure(data: str, recipes: list[Recipe]) -> None:
    from fieldmark.training.measure import measure

    for recipe in recipes:
        cost = measure(data, recipe, Console(quiet=True))
        print(json.dumps(cost.to_dict()), flush=True)


def _recipe(values: dict[str, Any]) -> Recipe:
    return recipe_from(values, "the study")


if __name__ == "__main__":
    # SIGTERM outside of training (while data are read, or figures drawn) ends the process at once; nothing is left half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    sys.exit(main())
