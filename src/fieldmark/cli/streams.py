"""Standard output and standard error of a process: any letter can be printed, and what cannot be written is said in a line."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from contextlib import suppress
from typing import Any

from fieldmark.core.errors import InputError, Problem

_ESCAPED = "fieldmark.escaped"


class NobodyReads(Exception):
    """Standard output was a pipe, and its reader has enough. (Libraries exit with 1 on BrokenPipeError.)"""


def prepare_streams() -> None:
    """Let this process print any text to any terminal or file, or to nothing at all.

    Letters that an encoding lacks are escaped as in JSON, so that JSON stays JSON. Standard error that cannot be written loses messages,
    and the work goes on; standard output that cannot be written raises InputError, or NobodyReads.
    """
    codecs.register_error(_ESCAPED, _escaped)
    sys.stdout = _prepared(sys.stdout, sys.__stdout__, _Answers)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__, _Messages)


def drop_output() -> None:
    """Send what is still to be written to standard output nowhere, so that Python does not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class _Answers(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _unwritable(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _unwritable(error) from error


class _Messages(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _unwritable(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return NobodyReads()
    return InputError(Problem(f"standard output cannot be written ({error.strerror})", remedy="write it elsewhere", kind="machine"))


def _prepared(stream: Any, original: Any, kind: type[io.TextIOWrapper]) -> Any:
    """The stream as one of `kind`; streams that are not the process's own, such as a notebook's, stay as they are."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, buffered = stream.encoding, stream.line_buffering
    return kind(stream.detach(), encoding=encoding, errors=_ESCAPED, line_buffering=buffered)
