"""What a person sees while work goes on: text, tables and progress; the same text goes to a run's train.log."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_PLAIN_SECONDS = 30.0
_FIRST_SECONDS = 5.0
"""Until the first line of progress where there is no terminal; the others follow each after _PLAIN_SECONDS."""
_PATIENCE_SECONDS = 2.0
_PLAIN_WIDTH = 140
_BAR_WIDTH = 15
_RATE_AFTER = 0.5
"""Seconds from which on a rate says something."""
_SHORT = 0.5
"""Seconds that are rounded to none."""
_LONGEST_WORD = 32
"""Characters of a word that a column is made wide enough for; a longer one is cut."""


class Advance(Protocol):
    def __call__(self, done: int, total: int | None, note: str = "", left: float | None = None) -> None:
        """`left` is the time in seconds until all is done, where that is more than this."""


class _Terminal(RichConsole):
    def on_broken_pipe(self) -> None:
        """Whoever read the messages has gone; the work goes on."""
        self.quiet = True


class Console:
    """Prints to the terminal (nothing when `quiet`) and, once attached, to a log file, with what was said before it could be.

    Text goes to standard error, so that standard output holds only answers that were asked for.
    """

    def __init__(self, quiet: bool = False, stream: IO[str] | None = None):
        self.quiet = quiet
        self._terminal = _Terminal(file=stream, stderr=stream is None, quiet=quiet, highlight=False)
        if not self._terminal.is_terminal:
            self._terminal.width = wanted_width() or _PLAIN_WIDTH
        self._log: RichConsole | None = None
        self._unlogged: list[RenderableType] = []

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        stream = path.open("a", encoding="utf-8")
        self._log = RichConsole(file=stream, width=_PLAIN_WIDTH, highlight=False, no_color=True, force_terminal=False)
        try:
            self._to_log(self._log, *self._unlogged)
            self._unlogged.clear()
            yield
        finally:
            self._log = None
            with suppress(OSError):  # each line was flushed, and failed then if it did
                stream.close()

    def say(self, *what: RenderableType) -> None:
        for item in what:
            if isinstance(item, str):
                self._terminal.print(item, markup=False, soft_wrap=True)
            else:
                self._terminal.print(item)
            if self._log is None:
                self._unlogged.append(item)
            else:
                self._to_log(self._log, item)

    def _to_log(self, log: RichConsole, *what: RenderableType) -> None:
        for item in what:
            log.print(item, markup=False, soft_wrap=True) if isinstance(item, str) else log.print(item)
            log.file.flush()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Work that shows itself how far it is: a line with its time once it is done."""
        started = time.monotonic()
        yield
        self.say(f"{what}: {duration(time.monotonic() - started)}")

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Work whose steps cannot be counted: its name while it goes on, and a line with its time once it is done."""
        with self.timed(what), self.waiting(what):
            yield

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """On a terminal `what` while it goes on; elsewhere a line, if it takes longer than two seconds."""
        if self._terminal.is_terminal and not self.quiet:
            with self._terminal.status(what):
                yield
            return
        with self._named_after(_PATIENCE_SECONDS, what):
            yield

    @contextmanager
    def _named_after(self, seconds: float, what: str) -> Iterator[threading.Timer]:
        """A line with the name of what goes on, after so many seconds, unless that has ended or the timer was cancelled."""
        timer = threading.Timer(seconds, self._terminal.print, (f"{what} …",), {"markup": False, "soft_wrap": True})
        timer.daemon = True
        timer.start()
        try:
            yield timer
        finally:
            timer.cancel()

    @contextmanager
    def board(self) -> Iterator[Callable[[RenderableType, str], None]]:
        """A board of work that goes on in several places: drawn anew in its place on a terminal, its text every half minute elsewhere."""
        if self._terminal.is_terminal and not self.quiet:
            from rich.live import Live  # imported here, as what draws progress is, so that the command line starts fast

            with Live(console=self._terminal, transient=True, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) as live:
                yield lambda image, _: live.update(image, refresh=True)
        else:
            last = time.monotonic()

            def show(_: RenderableType, text: str) -> None:
                nonlocal last
                if time.monotonic() - last >= _PLAIN_SECONDS:
                    last = time.monotonic()
                    self._terminal.print(text, markup=False, soft_wrap=True)

            yield show

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Advance]:
        """A bar with rate and time left on a terminal; elsewhere a line after five seconds, and then every half minute.

        `total` is None if it is not known yet.
        """
        if self._terminal.is_terminal and not self.quiet:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
            )

            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=_BAR_WIDTH),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TextColumn("{task.fields[left]}"),
            )
            # What is printed to another place than the terminal must not be drawn into the bar's.
            to_terminal = sys.stdout.isatty()
            with Progress(*columns, console=self._terminal, transient=True, refresh_per_second=4, redirect_stdout=to_terminal) as bar:
                task = bar.add_task(title, total=None, note="", left="")
                began = time.monotonic()

                def advance(done: int, total: int | None, note: str = "", left: float | None = None) -> None:
                    seconds = time.monotonic() - began
                    rate = done / seconds if seconds >= _RATE_AFTER else 0.0
                    if left is None and rate and total is not None:
                        left = (total - done) / rate
                    shown = note or (f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s" if rate else "")
                    bar.update(task, completed=done, total=total, note=shown, left=_left(left))

                yield advance
            return
        started = last = time.monotonic()
        wait = _FIRST_SECONDS
        with self._named_after(wait, title) as uncounted:

            def advance(done: int, total: int | None, note: str = "", left: float | None = None) -> None:
                nonlocal last, wait
                uncounted.cancel()
                now = time.monotonic()
                if now - last >= wait:
                    last, wait = now, _PLAIN_SECONDS
                    text = f"{title}: {done:,}" + (f" of {total:,} {unit}" if total is not None else f" {unit}")
                    if total is not None and (still := _left((now - started) / max(done, 1) * (total - done) if left is None else left)):
                        text += f", about {still}"
                    self._terminal.print(f"{text}, {note}" if note else text, markup=False)

            yield advance


class _FittingTable(Table):
    """A table that breaks neither words nor numbers where there is little room.

    Its headers and its text are wrapped between words; columns that still have no room stand in another table below, after the first.
    """

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        if Measurement.get(console, options.update(width=10**4), self).maximum <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        for part, columns in enumerate(self._parts(options.max_width)):
            if part:
                yield ""
            yield self._part(columns, options.max_width, None if part else str(self.title or ""))

    def _parts(self, room: int) -> list[list[Column]]:
        """The columns of each table, the first column at the head of all."""
        head, *others = self.columns
        parts = [[head]]
        for column in others:
            if len(parts[-1]) > 1 and _together([_least(each) for each in (*parts[-1], column)]) > room:
                parts.append([head])
            parts[-1].append(column)
        return parts

    def _part(self, columns: Sequence[Column], room: int, title: str | None) -> Table:
        """The columns as wide as they have to be; the room that is left is first that of the first column, which has the names."""
        widths = [_least(column) for column in columns]
        most = [max(cell_len(str(text)) for text in (column.header, *column.cells)) for column in columns]
        widths[0] += max(0, min(most[0] - widths[0], room - _together(widths)))
        while _together(widths) < room and (narrow := [at for at, width in enumerate(widths) if width < most[at]]):
            widths[min(narrow, key=lambda at: widths[at] / most[at])] += 1
        part = _empty(title or None)
        for column, width in zip(columns, widths, strict=True):
            part.add_column(
                _wrapped(str(column.header), width), justify=column.justify, overflow="fold", no_wrap=column.no_wrap, width=width
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            part.add_row(*row)
        return part


def _least(column: Column) -> int:
    """The width that breaks no word of a column, and none of its cells if they stay on one line."""
    words = [word for text in (column.header, *(() if column.no_wrap else column.cells)) for word in str(text).split()]
    whole = [str(cell) for cell in column.cells] if column.no_wrap else []
    return max([*(min(cell_len(word), _LONGEST_WORD) for word in words), *map(cell_len, whole), 1])


def _together(widths: Sequence[int]) -> int:
    return sum(widths) + len(" │ ") * (len(widths) - 1)


def _empty(title: str | None, kind: type[Table] = Table) -> Table:
    return kind(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)


def table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[Any]], left: Sequence[str] = ()) -> Table:
    """A table whose numbers stand right; the columns named in `left` stand left, and so does the first.

    Where there is little room, headers and what stands left are wrapped between words, and columns that have none stand in another table
    below; numbers with their intervals stay on one line.
    """
    built = _empty(title, _FittingTable)
    for index, column in enumerate(columns):
        stands_left = index == 0 or column in left
        built.add_column(column, justify="left" if stands_left else "right", overflow="fold", no_wrap=not stands_left)
    for row in rows:
        built.add_row(*(_cell(value) for value in row))
    return built


def wanted_width() -> int | None:
    """The columns that the environment asks for, which tools set for what reads their output."""
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdecimal() and int(asked) else None


def _wrapped(header: str, width: int) -> str:
    return "\n".join(textwrap.wrap(header, max(width, 1), break_long_words=False, break_on_hyphens=False)) or header


def _cell(value: Any) -> Text:
    return Text(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _left(seconds: float | None) -> str:
    """Nothing once it is too little to wait for."""
    return "" if seconds is None or seconds < _SHORT else f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """1 h 5 min, 3 min 20 s, 12 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s" if whole >= 1 else f"{seconds:.1f} s"
