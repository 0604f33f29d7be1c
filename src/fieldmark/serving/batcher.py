"""Threads that decode and compute what waits, several at a time: bounded in number, and in the time that it may wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
Ready = TypeVar("Ready")
Result = TypeVar("Result")

_SMOOTHING = 0.05
"""Of the mean times: about the last twenty images count."""


class Overloaded(Exception):
    """It would have to wait too long, or too much waits; it may come again after `seconds`."""

    def __init__(self, seconds: float):
        super().__init__(f"come again after {seconds:.1f} s")
        self.seconds = seconds


class Expired(Exception):
    """It was not done in time."""


class Closed(Exception):
    """Nothing is accepted any more."""


@dataclass(eq=False)
class _Group(Generic[Result]):
    """What was submitted together, and is answered together."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Result | Exception]]
    results: list[Any]
    left: int
    given_up: bool = False


@dataclass(eq=False)
class _Item:
    group: _Group
    place: int
    value: Any
    since: float = field(default_factory=time.monotonic)


@dataclass
class Batcher(Generic[Given, Ready, Result]):
    """Decodes one by one and computes together what waits.

    A thread computes if as many are decoded as are computed together, or no more wait to be decoded, and decodes otherwise: so batches grow
    with the load, and no thread is idle while there is something to do. What cannot be decoded is its own result.

    decode: raises what becomes the result. computes: what may go on at once, each called by one thread at a time. threads: all together.
    capacity: how many may wait, or be worked at. max_wait: seconds that what is decoded may wait for others.
    observe: is told the size of each batch.
    """

    decode: Callable[[Given], Ready]
    computes: Sequence[Callable[[list[Ready]], Sequence[Result]]]
    threads: int
    max_batch: int
    capacity: int
    max_wait: float = 0.0
    observe: Callable[[int], None] = lambda size: None

    def __post_init__(self) -> None:
        self._changed = Condition()
        self._waiting: deque[_Item] = deque()
        self._ready: deque[_Item] = deque()
        self._free = list(self.computes)
        self._pending = 0
        self._closed = False
        self._decoding_time = self._computing_time = 0.0
        self._threads = [Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(self.threads)]
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """How many wait or are worked at."""
        return self._pending

    def waiting_time(self, count: int) -> float:
        """Seconds until so many are done, by the mean times of the last; 0 before anything was done."""
        together = (self._decoding_time + self._computing_time) / self.threads
        return count * max(together, self._computing_time / len(self.computes))

    async def submit(self, given: Sequence[Given], seconds: float) -> list[Result | Exception]:
        """The results in order, within so many seconds.

        Raises Overloaded at once if there is no room or the time will not do, Expired if it did not, and Closed after `close`.
        """
        loop = asyncio.get_running_loop()
        group: _Group[Result] = _Group(loop, loop.create_future(), [None] * len(given), len(given))
        if not given:
            return []
        with self._changed:
            if self._closed:
                raise Closed
            if self._pending + len(given) > self.capacity:
                raise Overloaded(self.waiting_time(self._pending + len(given) - self.capacity))
            if self._pending and (late := self.waiting_time(self._pending + len(given)) - seconds) > 0:
                raise Overloaded(late)
            self._pending += len(given)
            self._waiting.extend(_Item(group, place, value) for place, value in enumerate(given))
            self._changed.notify(len(given))
        try:
            return await asyncio.wait_for(group.future, seconds)
        except TimeoutError:
            raise Expired from None
        finally:
            group.given_up = True

    def close(self) -> None:
        """Accept nothing more, and return when all that was accepted is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (task := self._next()) is None:
                    if self._closed and not self._pending:
                        self._changed.notify_all()
                        return
                    self._changed.wait(self._patience())
            task()

    def _next(self) -> Callable[[], None] | None:
        """What a thread does next; None if it has to wait."""
        self._drop_given_up()
        full = len(self._ready) >= self.max_batch
        if self._ready and self._free and (full or (not self._waiting and not self._patience())):
            share = math.ceil(len(self._ready) / len(self._free))  # what could go on beside it gets its part
            items = [self._ready.popleft() for _ in range(min(self.max_batch, share))]
            compute = self._free.pop()
            return lambda: self._compute(compute, items)
        if self._waiting:
            item = self._waiting.popleft()
            return lambda: self._decode(item)
        return None

    def _patience(self) -> float | None:
        """How long what is decoded may still wait for others; None if there is nothing, or nothing that could compute it."""
        if not self._ready or not self._free or self._closed:
            return None
        return max(0.0, self._ready[0].since + self.max_wait - time.monotonic()) or None

    def _drop_given_up(self) -> None:
        for queue in (self._waiting, self._ready):
            while queue and queue[0].group.given_up:
                queue.popleft()
                self._pending -= 1

    def _decode(self, item: _Item) -> None:
        began = time.monotonic()
        try:
            item.value = self.decode(item.value)
        except Exception as error:
            self._finish([item], [error])
            return
        with self._changed:
            self._decoding_time = _smoothed(self._decoding_time, time.monotonic() - began)
            item.since = time.monotonic()
            self._ready.append(item)
            self._changed.notify()

    def _compute(self, compute: Callable[[list[Ready]], Sequence[Result]], items: list[_Item]) -> None:
        began = time.monotonic()
        results: Sequence[Result | Exception]
        try:
            results = compute([item.value for item in items])
        except Exception as error:
            results = [error] * len(items)
        with self._changed:
            self._free.append(compute)
            self._computing_time = _smoothed(self._computing_time, (time.monotonic() - began) / len(items))
        self.observe(len(items))
        self._finish(items, results)

    def _finish(self, items: Sequence[_Item], results: Sequence[Any]) -> None:
        done = []
        with self._changed:
            for item, result in zip(items, results, strict=True):
                item.group.results[item.place] = result
                item.group.left -= 1
                if not item.group.left:
                    done.append(item.group)
            self._pending -= len(items)
            self._changed.notify_all()
        for group in done:
            group.loop.call_soon_threadsafe(_deliver, group)


def _deliver(group: _Group) -> None:
    if not group.future.done():
        group.future.set_result(group.results)


def _smoothed(mean: float, value: float) -> float:
    return mean + _SMOOTHING * (value - mean) if mean else value


def retry_after(seconds: float) -> int:
    """Whole seconds, at least one."""
    return max(1, math.ceil(seconds))
