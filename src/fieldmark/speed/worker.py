"""A process that opens one contender, and measures when it is told to: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.errors import FieldmarkError
from fieldmark.speed.contender import Contender, Opened, open_contender

_WARM_UP = 3


def main() -> None:
    """Until standard input closes."""
    task = json.loads(sys.stdin.readline())
    images = [base64.b64decode(each) for each in task["images"]]
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print
    try:
        opened = open_contender(Contender(Path(task["path"]), task["way"], task["threads"]))
        opened.answerer.answer(images[0])
    except FieldmarkError as error:
        print(json.dumps({"problem": "; ".join(map(str, error.problems))}), file=out, flush=True)
        return
    pixels = [opened.session.preprocess.pixels(each) for each in images]
    ready = {"seconds": time.time() - task["begun"], "memory": _memory(), "batches": list(opened.batches)}
    print(json.dumps(ready), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(_measured(json.loads(line), opened, images, pixels)), file=out, flush=True)


def _measured(asked: dict[str, Any], opened: Opened, images: list[bytes], pixels: list[np.ndarray]) -> list[float]:
    """Milliseconds of each repetition, after a few that do not count."""
    what, repeats = asked["what"], asked["repeats"]
    if what == "model":
        several = np.ascontiguousarray(np.stack([pixels[place % len(pixels)] for place in range(asked["batch"])]))
        return _timed(lambda place: opened.session(several), repeats)
    if what == "decode":
        return _timed(lambda place: opened.session.preprocess.pixels(images[place % len(images)]), repeats)
    return _timed(lambda place: opened.answerer.answer(images[place % len(images)]), repeats)


def _timed(call: Callable[[int], Any], repeats: int) -> list[float]:
    for place in range(_WARM_UP):
        call(place)
    found = []
    for place in range(repeats):
        begun = time.perf_counter()
        call(place)
        found.append(1000 * (time.perf_counter() - begun))
    return found


def _memory() -> int:
    """Bytes that the process holds in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    main()
