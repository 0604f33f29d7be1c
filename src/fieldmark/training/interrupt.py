"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): the first stops training after the current step, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupt:
    """Inside the `with` block the signals set `requested` instead of ending the process, and `announce` is called at the first."""

    def __init__(self, announce: Callable[[], object] | None = None) -> None:
        self.requested = False
        self._announce = announce
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._announce is not None:  # in a thread, because the signal may have come in the middle of a message
            threading.Thread(target=self._announce).start()
