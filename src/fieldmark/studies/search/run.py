"""`fieldmark study search`: tries recipes from a space, each as a run on one dataset, and keeps the one that is best on val.

Trials run in the processes of an engine. What was tried and how it went is in a journal (proposals.py), from which a search goes on
however it ended, trials under way included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fieldmark.core.console import Console, duration
from fieldmark.core.errors import InputError, Interrupted, TrainingFailed
from fieldmark.studies.engines import Engine
from fieldmark.studies.estimate import check_room, estimate
from fieldmark.studies.plan import PlannedRun, Rung, StudyDataset
from fieldmark.studies.run import only_writer
from fieldmark.studies.search.figures import write_search_figure
from fieldmark.studies.search.identity import Identity
from fieldmark.studies.search.proposals import Proposals, import_optuna
from fieldmark.studies.search.results import SearchResult, failure_text, read_result, result_text, write_best, write_trials
from fieldmark.studies.search.section import Search
from fieldmark.studies.search.trials import Trials

_WAIT_SECONDS = 0.2
JOURNAL = "search.jsonl"


@dataclass(frozen=True)
class Budget:
    """How long to search: until there are `trials` in all, including those of earlier calls, or for `hours` in this call."""

    trials: int | None = None
    hours: float | None = None

    def check(self) -> None:
        """Raises InputError if it sets no limit, or one that is not a positive number."""
        problems = []
        if self.trials is None and self.hours is None:
            problems.append("no search budget: give --trials or --hours")
        if self.trials is not None and self.trials < 1:
            problems.append(f"--trials: expected at least 1, got {self.trials}")
        if self.hours is not None and not (self.hours > 0 and math.isfinite(self.hours)):
            problems.append(f"--hours: expected a number above 0, got {self.hours:g}")
        if problems:
            raise InputError(*problems, hint="--trials counts those of earlier calls too; --hours are those of this call alone.")


def check_folder(out: Path) -> None:
    """Raises InputError if `out` holds something other than a search."""
    if out.exists() and not (out / JOURNAL).exists() and (not out.is_dir() or any(entry.name != ".lock" for entry in out.iterdir())):
        raise InputError(f"{out} already exists and is not the folder of a search", hint="Choose another --out.")


def check_trial(search: Search, dataset: StudyDataset, out: Path, engine: Engine, budget: Budget, console: Console) -> None:
    """Say what a trial of the base takes, and all trials of the budget.

    Raises InputError if `out` holds something else, a trial could not even begin, or the disk has no room for the trials of the budget
    (of a budget in hours, for as many as the engine runs at once).
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
    text = f"a trial of the base takes about {duration(one.seconds[out])}{several}, and {one.run_bytes / 1e9:.2f} GB when it is finished"
    if budget.trials is not None:
        less = ", less if halving stops some" if search.halving is not None else ""
        planned = f"{trials} trial{'s' * (trials > 1)}"
        text += f"; {planned}: about {duration(one.seconds[out] * trials / at_once)} and {needed.run_bytes / 1e9:.2f} GB{less}"
    console.say(text)


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
    """Search, or continue the search in `out`, until the budget is spent.

    Leaves the trials' run folders, trials.csv, best.yaml and figures/search.png in `out`. Trials under way when `hours` are over are
    stopped with their state saved; the next call continues them, and also those that failed because of the machine: a full disk,
    missing data, a killed process. `engine` has been entered by the caller, who leaves it.

    Raises:
        InputError: Optuna is missing, or `out` holds something else, another search or a damaged journal.
        TrainingFailed: five trials in a row failed, or some did and none has finished. Interrupted: a signal came. In all cases the
            state is saved, and the next call goes on.
    """
    from fieldmark.training.interrupt import Interrupt

    budget.check()
    import_optuna()
    stopping = "stopping once the trials have saved their state; a second Ctrl-C stops at once"
    with _held(out), Interrupt(lambda: console.say(stopping)) as interrupt:
        proposals = _open(search, dataset, out, console)
        work = Trials(search, dataset, out, engine, proposals, console)
        if search.space.largest <= (budget.trials or math.inf) and search.space.largest < math.inf:
            console.say(f"the space holds only {search.space.largest:.0f} recipes; a grid of `fieldmark study run` tries each once")
        if work.all:
            console.say(f"continuing the search in {out}; trials over: {len(work.all) - len(work.waiting)}, under way: {len(work.waiting)}")
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
            row = work.failed_in_a_row
            raise TrainingFailed(failure_text(f"{len(row)} trials in a row failed, so the search stops", row))
        if interrupt.requested:
            raise Interrupted(f"stopped; trials over: {len(result.over)}. The same command continues the search")
        failures = work.postponed | {trial.number: trial.reason or "" for trial in result.trials if trial.state == "failed"}
        if result.best is None and failures:
            raise TrainingFailed(failure_text("no trial has finished, and some failed", failures))
        console.say(*result_text(result))
        if work.postponed:
            numbers = ", ".join(map(str, sorted(work.postponed)))
            console.say(f"postponed to the next call, because the machine and not the recipe failed: trials {numbers}")
    return result


def _result(search: Search, dataset: StudyDataset, out: Path, proposals: Proposals) -> SearchResult:
    """Write the files that say what was found, and draw the figure."""
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
    """Hold `out` for one search. Raises InputError if something else is in it, or another process searches there."""
    check_folder(out)
    with only_writer(out):
        yield


def _open(search: Search, dataset: StudyDataset, out: Path, console: Console) -> Proposals:
    identity = Identity.of(search, dataset)
    proposals = Proposals(out / JOURNAL, search, identity)
    changes = identity.changes(proposals.identity)
    if changes:
        raise InputError(
            *(f"the search in {out} was begun differently: {change}" for change in changes),
            hint="Undo the change to go on, or begin a new search with another --out.",
        )
    if proposals.was_cut:
        console.say(f"the end of {out / JOURNAL} was cut short; its last step is done again")
    return proposals
