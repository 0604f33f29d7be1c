"""The same from Python and a notebook: train, evaluate, ensemble, report, submit, studies. The command line is a shell over this."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fieldmark.answering.answerer import Boxes
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed
from fieldmark.core.recipe.load import load_recipe
from fieldmark.datasets.corruptions import SEVERITIES
from fieldmark.ensembles.method import method_of
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.submission import DEFAULT_COLUMNS, submit_run
from fieldmark.reports import changes
from fieldmark.reports.comparison import write_comparison
from fieldmark.reports.explain import Explained, explain_run
from fieldmark.reports.report import write_report
from fieldmark.scoring.decisions import Decisions, Wanted
from fieldmark.studies.answer import write_answer
from fieldmark.studies.engines import open_engine
from fieldmark.studies.plan import named_datasets
from fieldmark.studies.run import plan_study, train_study
from fieldmark.studies.search.results import SearchResult
from fieldmark.studies.search.run import Budget, check_trial, run_search
from fieldmark.studies.search.section import read_search
from fieldmark.studies.study_file import load_study, search_section
from fieldmark.studies.table import StudyTable


def train(
    data: str | Path,
    *settings: str,
    recipe: str | Path = "default",
    out: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Train a classifier and give its run.

    Args:
        data: a folder whose layout is recognised, or "birds" for the built-in set.
        settings: recipe keys, such as "train.epochs=12".
        recipe: a preset's name or a YAML file.
        out: the run folder to make; a new one under runs/ by default.
        quiet: print nothing.

    Raises:
        InputError: something given cannot be used; nothing was written.
        CheckFailed: the model is over model.max_parameters. TrainingFailed: the loss was not finite.
    """
    return changes.train(data, load_recipe(recipe, settings), out, Console(quiet))


def resume(run: str | Path, quiet: bool = False) -> Run:
    """Continue a run that was interrupted, killed or failed; the result equals that of a run never stopped."""
    return changes.resume(run, Console(quiet))


def ensemble(
    *runs: str | Path,
    method: Literal["mean", "stack", "soup"] = "mean",
    out: str | Path,
    of: Literal["probabilities", "logits"] | None = None,
    weights: Literal["equal", "fitted"] | None = None,
    fit_on: Literal["val", "train"] | None = None,
    ingredients: Literal["greedy", "all"] | None = None,
    quiet: bool = False,
) -> Run:
    """Make one run of several that were trained on the same split, or of the folds of one or several recipes.

    Args:
        method: the mean of their answers; a linear layer on all their logits (a stack); or one network with the mean of their weights (a
            soup).
        out: the run folder to make; the members are copied into it.
        of: for a mean: of probabilities (the default) or logits.
        weights: for a mean: equal (the default), or fitted to val.
        fit_on: for a stack: val (the default; of folds, those images that each left out), or train, as it was published once.
        ingredients: for a soup: greedy (the default), those that do not lower val top-1; or all.

    Raises InputError where the runs cannot answer together, with the reasons; nothing was written.
    """
    return changes.ensemble(runs, method_of(method, of, weights, fit_on, ingredients), out, Console(quiet))


def report(*runs: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a finished run, one HTML file that opens offline, into its folder or to `out`; gives the file.

    Several runs are set side by side, the others against the first; that needs `out`, and runs tested on the same images.
    """
    if len(runs) == 1:
        return write_report(Run.load(runs[0]), None if out is None else Path(out))
    return write_comparison([Run.load(run) for run in runs], None if out is None else Path(out))


def calibrate(
    run: str | Path,
    accept: float = 0.95,
    coverage: float = 0.9,
    precision: float = 0.95,
    scaling: Literal["temperature", "vector"] = "temperature",
    score: str | None = None,
    unknown: Sequence[str | Path] = (),
    quiet: bool = True,
) -> Decisions:
    """Fit what a run decides with on val anew, and write its calibration.json and report; training does it with the defaults.

    Args:
        accept: the share of images of known classes that are not to be rejected.
        coverage: the share of images whose set of classes is to hold the right one.
        precision: the share of answers that are to be right where a coarser one may stand in for an unsure one.
        scaling: one temperature, or a scale and a bias for each class.
        score: of rejection; chosen by default.
        unknown: images of none of the classes, files, folders or patterns, to choose the score by.
    """
    return changes.calibrate(Run.load(run), Wanted(accept, coverage, precision, scaling, score), unknown, Console(quiet))


def evaluate_unknowns(run: str | Path, unknown: Sequence[str | Path], quiet: bool = True) -> dict[str, Any]:
    """How many images of none of a run's classes, files, folders or patterns, it rejects: the fields of UnknownFigures.

    The run's evaluation.json and report have them from then on.
    """
    return changes.measure_unknown(Run.load(run), unknown, Console(quiet))


def evaluate_corruptions(run: str | Path, severities: Sequence[int] = SEVERITIES, quiet: bool = True) -> dict[str, Any]:
    """Top-1 in per cent of test as it is ("none") and under every corruption ("corruptions"), by name and severity from 1 to 5.

    The run's robustness.json, evaluation.json and report have it from then on; what was measured before is not measured again.
    """
    return changes.measure_robustness(Run.load(run), severities, Console(quiet))


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    split: str = "test",
    crop: Literal["none", "box"] | None = None,
    corrupt: str | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Figures of a run on a split of its own data or of other data; the predictions are saved in the run folder.

    Args:
        crop: on whole images ("none") or on the boxes of their objects ("box"); by default as the run was trained.
        corrupt: a corruption and its severity, such as "fog:3", or "none"; by default as the run was trained.

    Classes are matched by name. Raises InputError for data with classes that the run does not know.
    """
    return evaluate_run(Run.load(run), data, split, Console(quiet), crop, corrupt)


def explain(
    run: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    method: str = "auto",
    boxes: Boxes | None = None,
    quiet: bool = True,
) -> Explained:
    """Where a run looked in images, whether that matters, and the training images nearest to them, as a page in the folder `out`.

    Args:
        images: files, folders and patterns.
        method: of the maps, grad-cam, grad-cam++, layer-cam or rollout; by default what suits the architecture.
        boxes: of the objects, by the image's path, as in Run.predict.
    """
    listed = [images] if isinstance(images, str | Path) else images
    return explain_run(Run.load(run), listed, Path(out), Console(quiet), method, boxes)


def submit(run: str | Path, out: str | Path, data: str | Path | None = None, columns: str = DEFAULT_COLUMNS, quiet: bool = True) -> Path:
    """Predict the images without labels of a run's data, or of other data, into a CSV file, and give the file.

    `columns` are "header=what", separated by commas, as in evaluation.submission.submit_run. Raises InputError where there are none.
    """
    submit_run(Run.load(run), Path(out), data, columns, Console(quiet))
    return Path(out)


def run_study(
    study: str | Path,
    data: str | Path | Sequence[str | Path],
    *settings: str,
    out: str | Path,
    seeds: int | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    dry_run: bool = False,
    quick: bool = False,
    quiet: bool = False,
) -> StudyTable | None:
    """Train what a study lacks, each run in a process of its own, and give its table; everything is in the folder `out`.

    Args:
        study: the name of one that comes with Fieldmark, or a YAML file.
        data: a dataset, or several.
        settings: recipe keys that change the base, such as "train.epochs=12".
        seeds: how many; as the study says by default.
        jobs: how many runs at once; by default one for each GPU, or else for each core.
        engine: on this machine, or on a Ray cluster.
        dry_run: say what would be done and how long it would take, and give None.
        quick: the rehearsal that the study's section `quick` describes.

    Raises:
        InputError: something given cannot be used; no run was begun.
        CheckFailed: some runs failed; the others are finished, and the table is written.
        Interrupted: stopped by Ctrl-C; the same call continues.
    """
    console = Console(quiet)
    datasets = [data] if isinstance(data, str | Path) else data
    plan = plan_study(load_study(study, settings, seeds, quick), [str(each) for each in datasets], out)
    done = train_study(plan, engine, jobs, dry_run, console)
    if dry_run:
        return None
    table = write_answer(plan.folder, console)
    if done.failed:
        raise CheckFailed(f"{len(done.failed)} of the runs failed; the same command tries them again")
    return table


def search(
    study: str | Path,
    data: str | Path,
    *settings: str,
    out: str | Path,
    trials: int | None = None,
    hours: float | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    quiet: bool = False,
) -> SearchResult:
    """Search the space of a study file for the recipe with the best val figure; everything is in the folder `out`.

    Args:
        trials: how many in all, those of earlier calls included; or `hours` of this call.
        study, settings, jobs, engine: as in run_study.

    Raises:
        InputError: something given cannot be used; no trial was begun.
        TrainingFailed: five trials in a row failed, or some did and none has finished.
        Interrupted: stopped by Ctrl-C; the same call continues.
    """
    console = Console(quiet)
    base, section, origin = search_section(study, settings)
    space, budget = read_search(section, base, origin), Budget(trials, hours)
    budget.check()
    (dataset,) = named_datasets([str(data)])
    with open_engine(engine, jobs, trials or sys.maxsize) as opened:
        check_trial(space, dataset, Path(out), opened, budget, console)
        return run_search(space, dataset, Path(out), opened, budget, console)


def study_table(folder: str | Path, quiet: bool = True) -> StudyTable:
    """What the finished runs of a study say; its table, images and page are written anew into its folder."""
    return write_answer(folder, Console(quiet))
