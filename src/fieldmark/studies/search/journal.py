"""The journal of a search: a file of Optuna's operations, one a line as JSON, with nothing pickled in it.

What belongs to one step of the search (a trial with all of its settings, a figure with the decision on it) is written at once, and its
last line is marked; a step that was cut short by a crash is dropped and done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error, whole_file

_END = "end"


class Journal:
    """The storage behind Optuna's JournalStorage: its operations in a file, written a step at a time.

    Optuna's own JournalFileBackend reads the file too, and so do tools made for it.
    """

    def __init__(self, path: Path):
        """Read the file, if it exists. An end that was cut short is dropped (`was_cut`). Raises InputError for damage elsewhere."""
        self._path = path
        self._logs, self.was_cut = _read(path)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += [json.loads(json.dumps(log)) for log in logs]

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is appended inside the block reaches the disk together."""
        start = len(self._logs)
        yield
        if len(self._logs) == start:
            return
        self._logs[-1][_END] = True
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in self._logs[start:])
        try:
            with self._path.open("ab") as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The operations up to the last whole step, and whether there was more, which is removed from the file."""
    if not path.exists():
        return [], False
    lines = path.read_bytes().split(b"\n")
    rows = [_operation(line) for line in lines[:-1]]
    ends = [number for number, row in enumerate(rows, start=1) if row is not None and row.get(_END)]
    whole = ends[-1] if ends else 0
    kept = [row for row in rows[:whole] if row is not None]
    if len(kept) < whole:
        line = next(number for number, row in enumerate(rows, start=1) if row is None)
        raise damaged(path, f"line {line} is not a step of a search")
    if whole == len(lines) - 1 and lines[-1] == b"":
        return kept, False
    with whole_file(path) as temporary:
        temporary.write_bytes(b"".join(line + b"\n" for line in lines[:whole]))
    return kept, True


def _operation(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "op_code" in row else None


def damaged(path: Path, why: str) -> InputError:
    hint = "Begin a new search with another --out; the runs of the trials are still in this folder."
    return InputError(f"{path} is damaged: {why}", hint=hint)
