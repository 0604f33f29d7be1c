"""The trials of a search at work: the engine is kept busy with them, and the proposals learn how they went."""

from __future__ import annotations

import math
from pathlib import Path

from fieldmark.core.console import Advance, Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.values import MEASURED, flat
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.studies.engines import Engine, Job
from fieldmark.studies.failure import Failure
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.proposals import Proposals, Trial
from fieldmark.studies.search.results import best_of, figure_text, run_path, settings_text, write_best, write_trials
from fieldmark.studies.search.section import Search

_FAILURES = 5
"""A search stops when this many trials in a row have failed."""


class Trials:
    """The trials of a search in `out`, from the journal and from this call."""

    def __init__(self, search: Search, dataset: StudyDataset, out: Path, engine: Engine, proposals: Proposals, console: Console):
        self.search, self.dataset, self.out, self.monitor = search, dataset, out, search.monitor
        self.engine, self.proposals, self.console = engine, proposals, console
        self.all = {trial.number: trial for trial in proposals.all()}
        self.waiting = [trial for trial in self.all.values() if trial.state == "running"]
        self.jobs: dict[int, Job] = {}
        self.failed_in_a_row: dict[int, str] = {}
        """Why each trial failed, since the last that did not; by number."""
        self.postponed: dict[int, str] = {}
        """Why the machine failed in this call, by number of the trial; for the journal, these are under way."""
        self._begun_before = {trial.number for trial in self.waiting}

    @property
    def failing(self) -> bool:
        return len(self.failed_in_a_row) >= _FAILURES

    def start(self, most: int | None) -> None:
        """Fill the engine: first with the trials that an earlier call left under way, then with new ones until there are `most`."""
        while self.engine.free > 0 and not self.failing:
            if self.waiting:
                trial = self.waiting.pop(0)
            elif most is None or len(self.all) < most:
                trial = self.proposals.ask()
                self.all[trial.number] = trial
            else:
                break
            self._start(trial)

    def learn(self, stopping: bool = False) -> None:
        """Report the epochs that are over and the trials that have ended; if `stopping`, those are left for the next call."""
        ended = {each.job: each.failure for each in self.engine.ended()}
        for number, job in sorted(self.jobs.items()):
            self._report(number, job)
            if job in ended:
                del self.jobs[number]
                if self.all[number].state == "running":
                    self._end(self.all[number], job, ended[job], stopping)

    def progress(self, most: int | None, advance: Advance) -> None:
        done, best = sum(trial.state != "running" for trial in self.all.values()), self._best()
        note = f"{len(self.engine.running)} under way"
        advance(done, most, f"{note}, best {figure_text(self.monitor, best.value)} (trial {best.number})" if best else note)

    def _start(self, trial: Trial) -> None:
        path = run_path(self.out, self.dataset, trial.number)
        try:
            recipe = self.search.space.recipe(trial.settings)
        except InputError as error:
            self._fail(trial.number, str(error))
            return
        if (path / "recipe.yaml").is_file():
            there, wanted = flat(RunFolder(path).recipe()), flat(recipe)
            other = [key for key in dict.fromkeys([*there, *wanted]) if key not in MEASURED and there.get(key) != wanted.get(key)]
            if other:
                raise InputError(f"{path} holds a run other than trial {trial.number}: {', '.join(other)} differ", hint="Move it away.")
        job = Job(f"trial {trial.number}", self.dataset.given, recipe, path)
        try:
            self.engine.start(job)
        except OSError as error:
            self._postpone(trial.number, Failure.of(error).text)
            return
        self.jobs[trial.number] = job

    def _report(self, number: int, job: Job) -> None:
        """Report the epochs since the last time. If the trial is to stop at one, that is the last that counts, even if others followed."""
        for row in read_json_lines(job.path / "metrics.jsonl"):
            trial, epoch = self.all[number], row["epoch"]
            if trial.state != "running" or row["phase"] != "fit" or epoch <= trial.epochs:
                continue
            value = row[f"val_{self.monitor}"]
            last = epoch >= job.recipe.train.epochs
            stopped = self.proposals.report(number, epoch, math.nan if value is None else value, last)
            self.all[number] = self.proposals.one(number)
            if stopped:
                self.engine.stop(job)
                self.failed_in_a_row.clear()
                self._learned(number)
                self.console.say(
                    f"trial {number}: stopped after epoch {epoch} at {figure_text(self.monitor, value)}; others were better at that epoch"
                )

    def _end(self, trial: Trial, job: Job, failure: Failure | None, stopping: bool) -> None:
        if failure is not None and (stopping or failure.kind == "stopped"):
            self.waiting.append(trial)
        elif failure is not None:
            # Killed in two calls, it may well need more memory than there is.
            killed_again = failure.kind == "killed" and trial.number in self._begun_before
            if (failure.kind in ("machine", "killed") and not killed_again) or _is_gone(job.data):
                self._postpone(trial.number, failure.text)
            else:
                self._fail(trial.number, failure.text)
        else:
            try:
                value = _val_figure(job.path, self.monitor)
            except InputError as error:
                self._fail(trial.number, str(error))
            else:
                self._finish(trial, value)

    def _finish(self, trial: Trial, value: float) -> None:
        self.proposals.finish(trial.number, value)
        self.failed_in_a_row.clear()
        self._learned(trial.number)
        best, mark = self._best(), ""
        if best is not None and best.number == trial.number:
            mark = ", the best so far"
            write_best(self.search, self.dataset, self.out, list(self.all.values()), best)
        self.console.say(f"trial {trial.number}: {figure_text(self.monitor, value)}{mark}; {settings_text(trial.settings)}")

    def _fail(self, number: int, reason: str) -> None:
        self.proposals.fail(number, reason)
        self.failed_in_a_row[number] = reason
        self._learned(number)
        self.console.say(f"trial {number}: failed: {reason}")

    def _postpone(self, number: int, reason: str) -> None:
        """Leave a trial under way: the next call tries it again."""
        self.failed_in_a_row[number] = self.postponed[number] = reason
        self.console.say(f"trial {number}: postponed: {reason}")

    def _learned(self, number: int) -> None:
        self.all[number] = self.proposals.one(number)
        write_trials(self.search, self.dataset, self.out, list(self.all.values()))

    def _best(self) -> Trial | None:
        return best_of(list(self.all.values()), self.search.maximise)


def _val_figure(path: Path, monitor: str) -> float:
    """Raises InputError if the summary of a finished run is damaged, or its figure is not finite."""
    value, _, _ = RunFolder(path).summary().val.interval(monitor)
    if value is None:
        raise InputError(f"its val {monitor} is not finite")
    return value


def _is_gone(data: str) -> bool:
    """Whether a dataset that was given by its path has gone; a disk that is not mounted often leaves an empty folder."""
    path = Path(data)
    try:
        return path.is_absolute() and (not path.exists() or (path.is_dir() and not any(path.iterdir())))
    except OSError:
        return True
