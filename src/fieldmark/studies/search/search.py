"""`fieldmark study search`: tries recipes from a space, each as a run on one dataset, and keeps the one that val likes best.

Trials run in processes of an engine. What was tried and what it gave is in a journal (proposals.py), from which a search that ended in
any way goes on, the runs under way included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldmark.core.console import Advance, Console, duration
from fieldmark.core.errors import InputError, Interrupted, TrainingFailed
from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.values import MEASURED, flat
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.core.yaml_text import show
from fieldmark.studies.engines import Engine, Job
from fieldmark.studies.estimate import check_room, estimate
from fieldmark.studies.plan import PlannedRun, Rung, StudyDataset
from fieldmark.studies.run import only_writer
from fieldmark.studies.search.figures import write_search_figure
from fieldmark.studies.search.proposals import Proposals, Trial, import_optuna
from fieldmark.studies.search.results import (
    SearchResult,
    best_of,
    failure_text,
    figure_text,
    read_result,
    result_text,
    run_path,
    settings_text,
    write_best,
    write_trials,
)
from fieldmark.studies.search.section import Search

_WAIT_SECONDS = 0.2
_FAILURES = 5
"""A search stops when so many trials in a row have failed."""
_KILLED = "killed by signal"
_OF_THE_MACHINE = (
    _KILLED,
    "no space left",
    "the disk that holds",
    "cannot be written",
    "input/output error",
    "without a word",
    "being written by another process",
    "there is no file or folder",
    "is not there any more",
)
"""Parts of reasons, in small letters, that say nothing about a recipe: another day the trial may go well."""
JOURNAL = "search.jsonl"


@dataclass(frozen=True)
class Budget:
    """How long to search: until there are `trials` in all, those of earlier calls included, or for `hours` of this call."""

    trials: int | None = None
    hours: float | None = None

    def check(self) -> None:
        """Raises InputError where it says nothing, or nonsense."""
        problems = []
        if self.trials is None and self.hours is None:
            problems.append("how long to search is not said")
        if self.trials is not None and self.trials < 1:
            problems.append(f"--trials: expected at least 1, got {self.trials}")
        if self.hours is not None and not (self.hours > 0 and math.isfinite(self.hours)):
            problems.append(f"--hours: expected a number above 0, got {self.hours:g}")
        if problems:
            raise InputError(*problems, hint="Give --trials (in all), or --hours (of this call).")


def check_folder(out: Path) -> None:
    """Raises InputError where `out` holds something else than a search."""
    if out.exists() and not (out / JOURNAL).exists() and (not out.is_dir() or any(entry.name != ".lock" for entry in out.iterdir())):
        raise InputError(f"{out} is there already, and is not the folder of a search", hint="Choose another --out.")


def check_trial(search: Search, dataset: StudyDataset, out: Path, engine: Engine, budget: Budget, console: Console) -> None:
    """Say what a trial of the base takes, and all trials of the budget.

    Raises InputError where `out` holds something else, a trial could not even begin, or the disk has no room: for the trials of the
    budget, or where it does not say how many, for as many as the engine runs at once.
    """
    import_optuna()
    check_folder(out)
    run = PlannedRun(dataset, Rung("base"), search.base.train.seed, search.base, out)
    one = estimate([run], engine.jobs, engine.threads, console)
    trials = engine.jobs if budget.trials is None else budget.trials
    at_once = min(engine.jobs, trials)
    needed = replace(one, run_bytes=trials * one.run_bytes, working_bytes=at_once * one.working_bytes)
    check_room(needed, out)
    several = f", {at_once} at once" if at_once > 1 else ""
    said = f"a trial of the base takes about {duration(one.seconds[out])}{several}, and {one.run_bytes / 1e9:.2f} GB when it is finished"
    if budget.trials is not None:
        less = ", less where halving stops some" if search.halving is not None else ""
        said += f"; {trials} such: about {duration(one.seconds[out] * trials / at_once)} and {needed.run_bytes / 1e9:.2f} GB{less}"
    console.say(said)


def run_search(
    search: Search,
    dataset: StudyDataset,
    out: Path,
    engine: Engine,
    budget: Budget,
    console: Console,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> SearchResult:
    """Search, or go on with the search in `out`, until the budget is spent.

    Leaves the trials' run folders, trials.csv, best.yaml and figures/search.png in `out`. Trials under way when `hours` are over are
    stopped with their state saved; the next call continues them, and those that the machine could not do: no room on the disk, data
    that are not there, a process that was killed. `engine` has been entered by the caller, who leaves it.

    Raises:
        InputError: Optuna is missing, or `out` holds something else, another search or a damaged journal.
        TrainingFailed: five trials in a row failed, or some did and none has finished. Interrupted: a signal came. In all cases the
            state is saved, and the next call goes on.
    """
    from fieldmark.training.interrupt import Interrupt

    budget.check()
    import_optuna()
    with _held(out), Interrupt() as interrupt:
        proposals = _open(search, dataset, out, console)
        work = _Work(search, dataset, out, engine, proposals, console)
        if search.space.largest <= (budget.trials or math.inf) and search.space.largest < math.inf:
            console.say(f"the space holds no more than {search.space.largest:.0f} recipes; a grid of `fieldmark study run` tries each once")
        if work.trials:
            console.say(f"going on with the trials in {out}: {len(work.trials) - len(work.waiting)} over, {len(work.waiting)} under way")
        deadline = math.inf if budget.hours is None else clock() + budget.hours * 3600
        with console.progress("search", "trials") as advance:
            while not interrupt.requested and not work.failing and clock() < deadline:
                work.start(budget.trials)
                if not engine.running:
                    break
                work.progress(budget.trials, advance)
                wait(_WAIT_SECONDS)
                work.learn()
            for job in engine.running:
                engine.stop(job)
            while engine.running:
                wait(_WAIT_SECONDS)
                work.learn(stopping=True)
        result = _result(search, dataset, out, proposals)
        if work.failing:
            raise TrainingFailed(failure_text(f"{len(work.row)} trials in a row failed, so the search stops", work.row))
        if interrupt.requested:
            raise Interrupted(f"stopped; trials over: {len(result.over)}. The same command goes on")
        failures = work.undone | {trial.number: trial.reason or "" for trial in result.trials if trial.state == "failed"}
        if result.best is None and failures:
            raise TrainingFailed(failure_text("no trial has finished, and some failed", failures))
        console.say(*result_text(result))
        if work.undone:
            console.say(f"left for the next call, since the machine could not do them: trials {', '.join(map(str, sorted(work.undone)))}")
    return result


def _result(search: Search, dataset: StudyDataset, out: Path, proposals: Proposals) -> SearchResult:
    """Write the answers and draw the figure."""
    trials = proposals.all()
    write_trials(search, dataset, out, trials)
    result = read_result(search, dataset, out, trials, proposals.importances())
    if result.best is not None:
        write_best(search, dataset, out, trials, result.best)
    if result.over:
        (out / "figures").mkdir(exist_ok=True)
        write_search_figure(result, search.space, out / "figures" / "search.png")
    return result


# ---- the folder -------------------------------------------------------------------------------------------------------------------


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Hold `out` for one search. Raises InputError where something else is in it, or another process searches."""
    check_folder(out)
    with only_writer(out):
        yield


def _open(search: Search, dataset: StudyDataset, out: Path, console: Console) -> Proposals:
    identity = {
        "sampler": search.sampler,
        "seed": search.seed,
        "halving": None if search.halving is None else [search.halving.min_epochs, search.halving.factor],
        "data": dataset.given,
        "dataset": dataset.name,
        "base": search.base.model_dump(mode="json"),
        "space": {dimension.name: dimension.domain.words for dimension in search.space.dimensions},
    }
    proposals = Proposals(out / JOURNAL, search.space, search.sampler, search.halving, search.seed, search.maximise, identity)
    problems = _changes(proposals.identity, identity)
    if problems:
        raise InputError(
            *(f"the search in {out} has begun otherwise: {problem}" for problem in problems),
            hint="Set it back to go on, or begin a new search with another --out.",
        )
    if proposals.was_cut:
        console.say(f"the end of {out / JOURNAL} was cut short; the step that it held is done again")
    return proposals


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In words, what of a search is not as it was."""
    problems = []
    for name in ("sampler", "seed", "halving", "data", "dataset"):
        if before[name] != now[name]:
            problems.append(f"{name} was {show(before[name])}, and is {show(now[name])}")
    old, new = (flat(recipe_from(each["base"])) for each in (before, now))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            problems.append(f"in the base, {key} was {show(old.get(key))}, and is {show(new.get(key))}")
    was, is_now = before["space"], now["space"]
    for name in dict.fromkeys([*was, *is_now]):
        if was.get(name) != is_now.get(name):
            problems.append(f"in the space, {name} was {was.get(name, 'not searched over')}, and is {is_now.get(name, 'not')}")
    return problems


# ---- the work ---------------------------------------------------------------------------------------------------------------------


class _Work:
    """Keeps the engine busy with trials, and the proposals informed of what they gave."""

    def __init__(self, search: Search, dataset: StudyDataset, out: Path, engine: Engine, proposals: Proposals, console: Console):
        self.search, self.dataset, self.out, self.monitor = search, dataset, out, search.monitor
        self.engine, self.proposals, self.console = engine, proposals, console
        self.trials = {trial.number: trial for trial in proposals.all()}
        self.waiting = [trial for trial in self.trials.values() if trial.state == "running"]
        self.left = {trial.number for trial in self.waiting}
        self.jobs: dict[int, Job] = {}
        self.row: dict[int, str] = {}
        """Why the last trials failed, since one went well."""
        self.undone: dict[int, str] = {}
        """What the machine could not do in this call; the journal has it as under way."""

    @property
    def failing(self) -> bool:
        return len(self.row) >= _FAILURES

    def start(self, most: int | None) -> None:
        """Fill the engine: first with the trials that an earlier call left, then with new ones until there are `most`."""
        while self.engine.free > 0 and not self.failing:
            if self.waiting:
                trial = self.waiting.pop(0)
            elif most is None or len(self.trials) < most:
                trial = self.proposals.ask()
                self.trials[trial.number] = trial
            else:
                break
            self._start(trial)

    def learn(self, stopping: bool = False) -> None:
        """Report the epochs that are over and the trials that have ended; with `stopping`, what was stopped is left for the next call."""
        ended = {each.job: each.reason for each in self.engine.ended()}
        for number, job in sorted(self.jobs.items()):
            self._report(number, job)
            if job in ended:
                del self.jobs[number]
                if self.trials[number].state == "running":
                    self._end(self.trials[number], job, ended[job], stopping)

    def progress(self, most: int | None, advance: Advance) -> None:
        done, best = sum(trial.state != "running" for trial in self.trials.values()), self._best()
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
                raise InputError(f"{path} holds another run than trial {trial.number}: {', '.join(other)} differ", hint="Move it away.")
        job = Job(f"trial {trial.number}", self.dataset.given, recipe, path)
        try:
            self.engine.start(job)
        except OSError as error:
            self._put_off(trial.number, f"{error.filename or path}: {error.strerror}")
            return
        self.jobs[trial.number] = job

    def _report(self, number: int, job: Job) -> None:
        """The epochs since the last time. One at which the trial is to stop is the last that counts, though others may have followed."""
        for row in read_json_lines(job.path / "metrics.jsonl"):
            trial, epoch = self.trials[number], row["epoch"]
            if trial.state != "running" or row["phase"] != "fit" or epoch <= trial.epochs:
                continue
            value = row[f"val_{self.monitor}"]
            last = epoch >= job.recipe.train.epochs
            stopped = self.proposals.report(number, epoch, math.nan if value is None else value, last)
            self.trials[number] = self.proposals.one(number)
            if stopped:
                self.engine.stop(job)
                self.row.clear()
                self._learned(number)
                self.console.say(
                    f"trial {number}: stopped after epoch {epoch} at {figure_text(self.monitor, value)}; others were better there"
                )

    def _end(self, trial: Trial, job: Job, reason: str | None, stopping: bool) -> None:
        if reason is not None and (stopping or _was_interrupted(job.path)):
            self.waiting.append(trial)
        elif reason is not None:
            # Killed in two calls, it may well need more memory than there is.
            killed_again = _KILLED in reason and trial.number in self.left
            if (_of_the_machine(reason) and not killed_again) or _is_gone(job.data):
                self._put_off(trial.number, reason)
            else:
                self._fail(trial.number, reason)
        else:
            try:
                value = _val_figure(job.path, self.monitor)
            except InputError as error:
                self._fail(trial.number, str(error))
            else:
                self._finish(trial, value)

    def _finish(self, trial: Trial, value: float) -> None:
        self.proposals.finish(trial.number, value)
        self.row.clear()
        self._learned(trial.number)
        best, mark = self._best(), ""
        if best is not None and best.number == trial.number:
            mark = ", the best so far"
            write_best(self.search, self.dataset, self.out, list(self.trials.values()), best)
        self.console.say(f"trial {trial.number}: {figure_text(self.monitor, value)}{mark}; {settings_text(trial.settings)}")

    def _fail(self, number: int, reason: str) -> None:
        self.proposals.fail(number, reason)
        self.row[number] = reason
        self._learned(number)
        self.console.say(f"trial {number}: failed: {reason}")

    def _put_off(self, number: int, reason: str) -> None:
        """Leave a trial under way: the next call tries it again."""
        self.row[number] = self.undone[number] = reason
        self.console.say(f"trial {number}: could not be done now: {reason}")

    def _learned(self, number: int) -> None:
        self.trials[number] = self.proposals.one(number)
        write_trials(self.search, self.dataset, self.out, list(self.trials.values()))

    def _best(self) -> Trial | None:
        return best_of(list(self.trials.values()), self.search.maximise)


def _was_interrupted(path: Path) -> bool:
    """Whether a run has saved its state and stopped because someone asked it to."""
    try:
        return RunFolder(path).manifest().status == "interrupted"
    except InputError:
        return False


def _val_figure(path: Path, monitor: str) -> float:
    """Raises InputError where the summary of a finished run is damaged, or its figure is not finite."""
    folder = RunFolder(path)
    try:
        value = folder.summary()["val"][monitor]
        if value is None:
            raise InputError(f"its val {monitor} is not finite")
        return float(value)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{folder.summary_file} is damaged: it has no val {monitor}") from None


def _of_the_machine(reason: str) -> bool:
    return reason.startswith("Ray: ") or any(part in reason.lower() for part in _OF_THE_MACHINE)


def _is_gone(data: str) -> bool:
    """Whether a dataset that was found by its path is not there now; a disk that is not mounted often leaves an empty folder."""
    path = Path(data)
    try:
        return path.is_absolute() and (not path.exists() or (path.is_dir() and not any(path.iterdir())))
    except OSError:
        return True
