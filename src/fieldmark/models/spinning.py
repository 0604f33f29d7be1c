"""Threads that wait for each other by spinning while the machine is idle, and asleep while other programs want it.

A thread of GNU OpenMP, with which PyTorch computes on Linux, waits for the others in a busy loop before it sleeps. On idle cores that
saves the time of waking it; if another program wants a core, the waiting thread takes it from the very thread that it waits for, and a
training step takes ten times as long. OMP_WAIT_POLICY decides between the two, once, when the library is loaded.

The library itself spins three hundred times less while it manages more threads than there are cores. So for as long as others are busy, a
few threads of its own are kept, which never compute. Neither the number of threads that compute nor any result changes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch  # noqa: F401  # its OpenMP library is loaded with it

from fieldmark.core.processor import available_cores
from fieldmark.models.other_programs import BUSY, OtherPrograms

_FIRST_LOOK, _LOOK_EVERY = 0.05, 0.25
_QUIET = 0.10
"""Cores that others use: above BUSY the threads sleep, below this they spin again."""
_QUIET_LOOKS = 8

_lock = threading.Lock()
_users = 0
_watch: _Watch | None = None


@contextmanager
def spin_only_if_idle() -> Iterator[None]:
    """Inside the `with` block OpenMP's threads spin only while other programs leave the cores idle.

    May be nested and entered from several threads. Does nothing with another OpenMP library, or if the user chose by OMP_WAIT_POLICY
    or GOMP_SPINCOUNT.
    """
    global _users, _watch
    with _lock:
        _users += 1
        if _watch is None and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys() and (libraries := _gnu_openmp()):
            _watch = _Watch(libraries)
            _watch.start()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _watch is not None:
                _watch.stop()
                _watch = None


class _Watch(threading.Thread):
    def __init__(self, libraries: list[ctypes.CDLL]):
        super().__init__(name="fieldmark-spinning", daemon=True)
        self._libraries, self._over = libraries, threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        others, wait, quiet = OtherPrograms(), _FIRST_LOOK, 0
        idle_threads: _IdleThreads | None = None
        while not self._over.wait(wait):
            wait, used = _LOOK_EVERY, others.cores()
            quiet = quiet + 1 if used < _QUIET else 0
            if idle_threads is None and used > BUSY:
                idle_threads = _IdleThreads(self._libraries)
            elif idle_threads is not None and quiet >= _QUIET_LOOKS:
                idle_threads.end()
                idle_threads = None
        if idle_threads is not None:
            idle_threads.end()


class _IdleThreads:
    """More OpenMP threads than there are cores; they end with the thread that began them."""

    def __init__(self, libraries: list[ctypes.CDLL]):
        self._end, begun = threading.Event(), threading.Event()

        def begin() -> None:
            for library in libraries:
                harmless = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p)
                library.GOMP_parallel(harmless, None, ctypes.c_uint(available_cores() + 1), ctypes.c_uint(0))
            begun.set()
            self._end.wait()

        self._owner = threading.Thread(target=begin, name="fieldmark-idle-threads", daemon=True)
        self._owner.start()
        begun.wait()

    def end(self) -> None:
        self._end.set()
        self._owner.join()


@cache
def _gnu_openmp() -> list[ctypes.CDLL]:
    """Each copy of GNU OpenMP that this process has loaded: PyTorch and scikit-learn bring one each. Looked for once."""
    with suppress(OSError):
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        paths = {line.split(maxsplit=5)[5] for line in mapped if "libgomp" in line}
        return [ctypes.CDLL(path) for path in sorted(paths)]
    return []
