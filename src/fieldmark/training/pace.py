"""Notices when training becomes much slower than it was, or begins next to other work, and says why."""

from __future__ import annotations

import time

from fieldmark.core.processor import available_cores
from fieldmark.models.other_programs import OtherPrograms

_WINDOW = 5.0
"""Seconds of steps over which a rate is taken."""
_SLOW = 0.5
"""Of the best rate of the stage: slower than that is worth a note."""
_BUSY = 0.5
"""Cores that others use from the beginning: more is worth a note."""


class Pace:
    """Rates of windows of some seconds. A note comes once when it becomes slow, and again only after it was fast in between."""

    def __init__(self) -> None:
        self._others = OtherPrograms()
        self._stage, self._best, self._noted = -1, 0.0, False
        self._began, self._images = time.perf_counter(), 0

    def begin(self, stage: int) -> None:
        """Called before the steps of an epoch, whose validation and checkpoints are not part of a window."""
        if stage != self._stage:
            self._stage, self._best, self._noted = stage, 0.0, False
        self._start_window()

    def after_step(self, images: int) -> str | None:
        """What to say after a step on so many images, if anything."""
        self._images += images
        seconds = time.perf_counter() - self._began
        if seconds < _WINDOW:
            return None
        rate, used, best = self._images / seconds, self._others.cores(), self._best
        self._best = max(best, rate)
        self._start_window()
        slow = rate < _SLOW * best if best else used > _BUSY
        first, self._noted = slow and not self._noted, slow or (self._noted and rate < _SLOW * best)
        return _note(rate, best, used) if first else None

    def _start_window(self) -> None:
        self._others.cores()
        self._began, self._images = time.perf_counter(), 0


def _note(rate: float, best: float, used: float) -> str:
    now = f"{rate:.0f} images/s" + (f", where it was {best:.0f}" if best else "")
    cores = available_cores()
    if used > _BUSY:
        return f"{now}: other programs use {used:.1f} of {cores} cores. The result does not change; it comes sooner if they end"
    return f"{now}, although other programs use only {used:.1f} of {cores} cores: perhaps heat, power saving or a limit slows the processor"
