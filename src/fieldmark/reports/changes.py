"""Everything that changes a run. Each change of what it says ends with its tables, charts and report, so that they never say less.

An import contract lets no other module reach the functions that do the work. They are imported when they are called, because PyTorch comes
with some of them: what is wrong with a training is said before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.core.console import Console
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder, refuse_existing
from fieldmark.datasets.moved_data import move_data
from fieldmark.models.libraries import load_libraries
from fieldmark.training.admission import admit

if TYPE_CHECKING:
    from fieldmark.ensembles.method import Method
    from fieldmark.evaluation.robustness import Robustness
    from fieldmark.evaluation.run import Run
    from fieldmark.evaluation.unknowns import UnknownEvaluation
    from fieldmark.scoring.decisions import Decisions, Wanted


def train(data: str | Path, recipe: Recipe, out: str | Path | None, console: Console) -> Run:
    """As train_run."""
    found = admit(data, recipe, None if out is None else Path(out), console)
    with _pytorch(console):
        from fieldmark.training.train import train_run

        return _with_results(train_run(found, recipe, out, console), console)


def resume(path: str | Path, console: Console, wait: float = 0) -> Run:
    """As resume_run. A run whose process was killed after its training, before its report, gets the report."""
    folder = RunFolder.open(path)
    complete = folder.manifest().status == "finished" and folder.report_file.is_file()
    with _pytorch(console):
        from fieldmark.training.train import resume_run

        run = resume_run(path, console, wait)
        return run if complete else _with_results(run, console)


def ensemble(paths: Sequence[str | Path], method: Method, out: str | Path, console: Console) -> Run:
    """As make_ensemble, of the runs in these folders."""
    refuse_existing(Path(out))
    from fieldmark.ensembles.members import open_members

    members = open_members(paths)
    with _pytorch(console):
        from fieldmark.ensembles.ensemble import make_ensemble

        return _with_results(make_ensemble(members, method, out, console), console)


def complete_ensemble(path: str | Path, console: Console) -> Run:
    """The report of an ensemble whose process was killed before it was written."""
    from fieldmark.evaluation.run import Run

    return _with_results(Run.load(path), console)


def calibrate(run: Run, wanted: Wanted, unknown: Sequence[str | Path], console: Console) -> Decisions:
    """As calibrate_run. Raises InputError if the report would lose images."""
    from fieldmark.evaluation.calibrate import calibrate_run
    from fieldmark.reports.lost_images import refuse_losing_images

    refuse_losing_images(run, console)
    decisions = calibrate_run(run, wanted, unknown, console)
    _with_results(run, console)
    return decisions


def measure_unknown(run: Run, images: Sequence[str | Path], console: Console) -> UnknownEvaluation:
    """As evaluate_unknown. Raises InputError if the report would lose images."""
    from fieldmark.evaluation.unknown_images import evaluate_unknown
    from fieldmark.reports.lost_images import refuse_losing_images

    refuse_losing_images(run, console)
    found = evaluate_unknown(run, images, console)
    _with_results(run, console)
    return found


def point_to_data(path: str | Path, place: str | Path, console: Console) -> None:
    """As move_data. The report stays as it is: the images are the same."""
    move_data(RunFolder.open(path), place, console)


def measure_robustness(run: Run, severities: Sequence[int], console: Console) -> Robustness:
    """As evaluate_robustness."""
    from fieldmark.evaluation.corrupted_images import evaluate_robustness

    found = evaluate_robustness(run, tuple(severities), console)
    _with_results(run, console)
    return found


@contextmanager
def _pytorch(console: Console) -> Iterator[None]:
    """Load PyTorch; after the `with` block the caller's process is as it was."""
    load_libraries(console)
    from fieldmark.models.process import borrowed_process

    with borrowed_process():
        yield


def _with_results(run: Run, console: Console) -> Run:
    from fieldmark.reports.results import write_results

    return write_results(run, console)
