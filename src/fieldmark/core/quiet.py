"""Silence for libraries: what converters and runtimes print is for those who develop them, and what fails is said in an error."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress


@contextmanager
def quiet(native: bool = False, progress: bool = False) -> Iterator[None]:
    """Neither prints nor warnings nor log messages reach the console; with `native`, nor does what compiled libraries write themselves.

    progress: leave standard error alone, on which this program shows how far it is.
    It is so for the whole process while it lasts. What a library does to the root logger is undone.
    """
    disabled, level, handlers = logging.root.manager.disable, logging.root.level, logging.root.handlers[:]
    logging.disable(logging.CRITICAL)
    try:
        with ExitStack() as stack:
            if native:
                stack.enter_context(_closed(1))
                stack.enter_context(_closed(2))
            stack.enter_context(redirect_stdout(io.StringIO()))
            if not progress:
                stack.enter_context(redirect_stderr(io.StringIO()))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers


@contextmanager
def _closed(descriptor: int) -> Iterator[None]:
    """What is written to a file descriptor is lost; one that the process does not have is left alone."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # a stream may be closed, or none
            stream.flush()
    try:
        kept = os.dup(descriptor)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)
