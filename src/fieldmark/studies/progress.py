"""The progress of a study's runs, read from the files that they write."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fieldmark.core.console import duration
from fieldmark.core.run_folder import RunFolder
from fieldmark.studies.engines import Job

_TAIL_BYTES = 4096
_ENOUGH = 0.05
"""Share of a run after which its own speed is a better guide than the estimate."""


_ENDING = 8.0
"""Seconds from the last step of a run to its end, for the figures and the report, before any run has shown how long they take."""


class _Remaining(NamedTuple):
    seconds: float
    ratio: float | None
    """Of the time that the run takes, to its estimate; None if it does not show that yet."""


@dataclass
class _Begun:
    """When this process began a run, how much of it an earlier one had done, and since when it is seen to be trained."""

    when: float
    fraction: float
    trained: float | None = None


@dataclass
class Progress:
    """Of all runs to be done. `expected` are the estimated seconds of each that has not ended, by name."""

    total: int
    expected: dict[str, float]
    jobs: int
    done: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    _begun: dict[str, _Begun] = field(default_factory=dict)
    _ratios: list[float] = field(default_factory=list)
    _endings: list[float] = field(default_factory=list)

    def begin(self, job: Job) -> None:
        self._begun[job.name] = _Begun(time.monotonic(), _fraction(job))

    def end(self, job: Job, finished: bool) -> float:
        """Note that a run has ended; returns the seconds that it took in this process."""
        begun, expected = self._begun.pop(job.name), self.expected.pop(job.name)
        now = time.monotonic()
        seconds = now - begun.when
        if finished:
            self.done += 1
            if begun.fraction == 0:
                self._ratios.append(seconds / (expected or 1))
            if begun.trained is not None:
                self._endings.append(now - begun.trained)
        else:
            self.failed += 1
        return seconds

    def left(self, running: Sequence[Job]) -> float:
        """Seconds until all runs are done, at least one while there are any: the estimates, corrected by how long whole runs take."""
        remaining = {job.name: self._remaining(job) for job in running}
        ratio = fmean(self._ratios or [each.ratio for each in remaining.values() if each.ratio is not None] or [1.0])
        waiting = ratio * sum(seconds for name, seconds in self.expected.items() if name not in remaining)
        under_way = [each.seconds for each in remaining.values()]
        return max((waiting + sum(under_way)) / self.jobs, *under_way, 1.0)

    def _remaining(self, job: Job) -> _Remaining:
        """For a run under way, from its speed so far, or from what it should take if it has hardly begun."""
        begun, expected = self._begun[job.name], self.expected[job.name]
        now, done = time.monotonic(), _fraction(job)
        elapsed, ending = now - begun.when, fmean(self._endings or [_ENDING])
        if done >= 1:
            begun.trained = begun.trained or now
            return _Remaining(max(begun.trained + ending - now, 1.0), None)
        if done - begun.fraction < _ENOUGH:
            whole = expected * fmean(self._ratios or [1.0])
            return _Remaining(max(whole * (1 - begun.fraction) - elapsed, ending), None)
        training = elapsed / (done - begun.fraction)
        return _Remaining(training * (1 - done) + ending, (training + ending) / expected)

    def text(self, running: Sequence[Job]) -> str:
        now = "; ".join(f"{job.name}: {_state(job)}" for job in running)
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} runs done{failed}, about {duration(self.left(running))} left; {now}"

    def board(self, running: Sequence[Job]) -> RenderableType:
        """A bar for all runs, and one for each that is running."""
        failed = f", [red]{self.failed} failed[/red]" if self.failed else ""
        elapsed = duration(time.monotonic() - self.started)
        title = Text.from_markup(
            f"[bold]{self.done} of {self.total}[/bold] runs done{failed}, {elapsed}, about {duration(self.left(running))} left"
        )
        table = Table.grid(padding=(0, 2))
        parts = {job: _fraction(job) for job in running}
        table.add_row("all runs", ProgressBar(self.total, self.done + self.failed + sum(parts.values()), width=30), title)
        for job, part in parts.items():
            table.add_row(Text("  " + job.name), ProgressBar(1, part, width=30), Text(_state(job)))
        return Group(table)


def _fraction(job: Job) -> float:
    return min(_last(RunFolder(job.path).steps_file).get("epoch", 0.0) / job.recipe.train.epochs, 1.0)


def _state(job: Job) -> str:
    folder = RunFolder(job.path)
    step, epoch = _last(folder.steps_file), _last(folder.metrics_file)
    if not step:
        return "starting"
    parts = [f"epoch {min(int(step['epoch']) + 1, job.recipe.train.epochs)} of {job.recipe.train.epochs}"]
    if step.get("phase") == "refit":
        parts[0] = f"refit, {parts[0]}"
    if isinstance(epoch.get("val_top1"), float):
        parts.append(f"val {epoch['val_top1']:.1f} %")
    return ", ".join([*parts, f"{step['images_per_second']:.0f} images/s"])


def _last(path: Path) -> dict[str, Any]:
    """The last whole line of a .jsonl file that another process is writing; empty if there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - _TAIL_BYTES, 0))
            return dict(json.loads(stream.read().rpartition(b"\n")[0].rpartition(b"\n")[2]))
    except (OSError, ValueError, TypeError):
        return {}
