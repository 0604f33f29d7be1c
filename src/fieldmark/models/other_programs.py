"""How much of the processor other programs use."""

from __future__ import annotations

import time

import psutil

from fieldmark.core.processor import available_cores

BUSY = 0.25
"""Cores that others use: more than this slows threads that wait for one another, and makes a measurement of speed worthless."""


class OtherPrograms:
    """Measures from one call to the next; the first measures from the construction on."""

    def __init__(self) -> None:
        self._before = _now()

    def cores(self) -> float:
        """The cores that were neither idle nor used by this process, on average since the last call; accurate to 10 ms of one core."""
        before, self._before = self._before, _now()
        seconds, spare = self._before[0] - before[0], self._before[1] - before[1]
        return max(0.0, available_cores() - spare / seconds) if seconds > 0 else 0.0


def _now() -> tuple[float, float]:
    """The clock, and the seconds for which this process's cores were idle or worked for this process."""
    cores = psutil.cpu_times(percpu=True)
    allowed = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else range(len(cores))
    idle = sum(cores[index].idle + getattr(cores[index], "iowait", 0.0) for index in allowed or () if index < len(cores))
    return time.perf_counter(), idle + time.process_time()
