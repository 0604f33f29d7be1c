"""`fieldmark study run`: plans the runs that are not finished yet, and trains them, each in a process of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from fieldmark.core.console import Console, duration, table
from fieldmark.core.errors import InputError, Interrupted
from fieldmark.core.files import storage_error
from fieldmark.core.names import typed
from fieldmark.core.run_folder import read_json_lines
from fieldmark.studies.engines import Ended, Engine, EngineName, Job, LocalEngine, open_engine
from fieldmark.studies.ensembles import make_ensembles
from fieldmark.studies.estimate import Estimate, check_room, estimate
from fieldmark.studies.executions import with_executions
from fieldmark.studies.failure import Failure
from fieldmark.studies.plan import QUICK, DamagedStudy, PlannedRun, Study, StudyPlan, named_datasets, require_there
from fieldmark.studies.progress import Progress
from fieldmark.studies.table import change_in_words

_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Done:
    """How many of the runs that were to be done have finished; `failed` says why others have not, by name of the run."""

    finished: int
    failed: dict[str, str]


def plan_study(study: Study, data: Sequence[str], out: str | Path) -> StudyPlan:
    """The plan of a study in its folder, grown from the plan that is there. Raises InputError if that is of another study."""
    folder = Path(out)
    plan = StudyPlan(**vars(study), folder=folder, datasets=named_datasets(list(data)))
    if plan.file.is_file():
        try:
            return plan.grown_from(StudyPlan.load(folder))
        except DamagedStudy:
            return plan  # each existing run records whether it belongs to the study
    if any(run.path.exists() for run in plan.runs()):
        return plan
    if folder.exists() and (not folder.is_dir() or any(entry.name != ".lock" for entry in folder.iterdir())):
        raise InputError(f"{folder} already exists and is not the folder of a study", hint="Choose another --out.")
    return plan


def train_study(plan: StudyPlan, engine: EngineName, jobs: int | None, dry_run: bool, console: Console) -> Done:
    """Say what will be done and how long it will take, then do it, unless it is a dry run. Up to `jobs` runs are trained at once.

    A run that fails is named, and the others continue. Raises Interrupted on Ctrl-C, after the runs under way have saved their state.
    """
    with ExitStack() as held:
        if not dry_run:
            held.enter_context(only_writer(plan.folder))
        todo = [run for run in plan.runs() if not run.finished]
        _say_title(plan, todo, console)
        if todo:
            _require_data(plan, todo)
            # By all runs, not those still to be done: a study that is continued trains with as many threads as before.
            opened = held.enter_context(open_engine(engine, jobs, len(plan.runs())))
            expected = estimate(todo, opened.jobs, opened.threads, console)
            _say_plan(plan, todo, expected, console)
            check_room(expected, plan.folder)
        else:
            console.say("Every run is finished.")
        if dry_run:
            console.say("Dry run: nothing was trained or written.")
            return Done(0, {})
        plan.save()
        done = _train(plan, todo, opened, expected, console) if todo else Done(0, {})
        done = replace(done, failed=done.failed | make_ensembles(plan, console))
    if done.failed:
        console.say(f"{len(done.failed)} failed:")
        console.say(*(f"  {name}: {reason.splitlines()[0]}" for name, reason in done.failed.items()))
    return done


def _require_data(plan: StudyPlan, todo: Sequence[PlannedRun]) -> None:
    """Raise InputError where data of these runs are not there; if the study has runs on them, it says how to go on."""
    begun = {run.dataset.given for run in plan.runs() if run.path.exists()}
    for dataset in {run.dataset.given: run.dataset for run in todo}.values():
        try:
            require_there([dataset])
        except InputError as error:
            if dataset.given not in begun:
                raise
            hint = f"The study has runs on these data. If they were moved, a link lets it go on: ln -s PLACE {typed(dataset.given)}"
            raise InputError(*error.problems, hint=f"{hint}. Data at another place are another dataset to a study.") from None


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder of a study, which is made if needed, and removed again if it stays empty.

    Raises InputError if another process is working in it.
    """
    lock = folder / ".lock"
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                if made and list(folder.iterdir()) == [lock]:
                    lock.unlink()
                    folder.rmdir()
    except Timeout:
        raise InputError(f"another process is working in {folder}", hint="Wait for it, or stop it first.") from None
    except OSError as error:
        raise storage_error(error, lock) from error


def _train(plan: StudyPlan, todo: Sequence[PlannedRun], engine: Engine, expected: Estimate, console: Console) -> Done:
    # Machines of a cluster may have other processors than the one that measured.
    decided = with_executions(plan.runs(), expected.executions) if isinstance(engine, LocalEngine) else {}
    waiting = deque(Job(run.name, run.dataset.given, decided.get(run.path, run.recipe), run.path) for run in todo)
    progress = Progress(len(todo), {run.name: expected.seconds[run.path] for run in todo}, expected.jobs)
    failed: dict[str, str] = {}
    not_started: list[Ended] = []
    try:
        with console.board() as show:
            while waiting or engine.running:
                while waiting and engine.free > 0:
                    job = waiting.popleft()
                    progress.begin(job)
                    try:
                        engine.start(job)
                    except OSError as error:
                        not_started.append(Ended(job, Failure.of(error)))
                for ended in [*not_started, *engine.ended()]:
                    console.say(_news(ended, progress, engine.running))
                    if ended.reason is not None:
                        failed[ended.job.name] = ended.reason
                not_started.clear()
                show(progress.board(engine.running), progress.text(engine.running))
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        engine.stop_all()
        left = sum(not run.finished for run in plan.runs())
        raise Interrupted(f"stopped with {left} of {len(plan.runs())} runs left; the same command continues them") from None
    return Done(progress.done, failed)


def _news(ended: Ended, progress: Progress, running: Sequence[Job]) -> str:
    seconds = progress.end(ended.job, ended.reason is None)
    counted = f"[{progress.done + progress.failed} of {progress.total}]"
    if ended.reason is not None:
        return f"{counted} {ended.job.name} failed after {duration(seconds)}: {ended.reason}"
    best = max((row.get("val_top1", 0.0) for row in read_json_lines(ended.job.path / "metrics.jsonl")), default=0.0)
    left = f"; about {duration(progress.left(running))} left" if progress.expected else ""
    return f"{counted} {ended.job.name}: best val top-1 {best:.1f} %, {duration(seconds)}{left}"


def _say_title(plan: StudyPlan, todo: Sequence[PlannedRun], console: Console) -> None:
    runs = len(plan.runs())
    parts = [f"{len(plan.rungs)} recipe{'s' * (len(plan.rungs) != 1)}", f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)}"]
    if len(plan.datasets) > 1:
        parts.append(f"{len(plan.datasets)} datasets")
    finished = f", {runs - len(todo)} of them finished" if len(todo) < runs else ""
    console.say(f"{plan.name}: {plan.title}" if plan.title else plan.name, f"{' × '.join(parts)} = {runs} runs{finished}")
    if plan.quick:
        console.say(QUICK)


def _say_plan(plan: StudyPlan, todo: Sequence[PlannedRun], expected: Estimate, console: Console) -> None:
    rows = []
    for dataset in plan.datasets:
        for rung in plan.rungs:
            mine = [run for run in todo if (run.dataset, run.rung) == (dataset, rung)]
            change = change_in_words(rung.settings) or "the base"
            each = duration(expected.seconds[mine[0].path]) if mine else ""
            rows.append((dataset.name, rung.name, change, f"{len(mine)} of {len(plan.seeds)}", each))
    console.say(table(None, ("data", "rung", "change", "runs to do", "each"), rows, ("rung", "change")))
    kept, temporary = expected.run_bytes / 1e9, expected.working_bytes / 1e9
    at_once = f", {expected.jobs} at once" if expected.jobs > 1 else ""
    decoding = duration(expected.decode_seconds)
    console.say(
        f"about {duration(expected.total)} in total{at_once}, of which up to {decoding} to decode images that are not in the cache; "
        f"{kept:.1f} GB of runs, {temporary:.1f} GB more during training, at most {expected.cache_bytes / 1e9:.1f} GB of decoded images"
    )
