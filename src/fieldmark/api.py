"""Everything that a user can do, from Python and a notebook; each command of the command line calls one of these functions.

Importing this module is quick: a function imports what it needs when it is called. A docstring is also the help of the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fieldmark.core.arguments import checked, path_of, paths_of
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.names import typed

if TYPE_CHECKING:
    from fieldmark.answering.answer import Answer
    from fieldmark.answering.answerer import Boxes
    from fieldmark.answering.in_memory import Source
    from fieldmark.bundles.bundle import Bundle
    from fieldmark.bundles.enroll import Enrolling
    from fieldmark.core.presets import Preset
    from fieldmark.core.recipe.fields import RecipeField
    from fieldmark.datasets.layouts.layout import Layout
    from fieldmark.datasets.overview import Overview
    from fieldmark.datasets.pixel_cache import CacheContents
    from fieldmark.evaluation.evaluate import Evaluation
    from fieldmark.evaluation.robustness import Robustness
    from fieldmark.evaluation.run import Run
    from fieldmark.evaluation.submission import Submission
    from fieldmark.evaluation.unknowns import UnknownEvaluation
    from fieldmark.models.catalog import ModelInfo
    from fieldmark.reports.explain import Explained
    from fieldmark.scoring.decisions import Decisions
    from fieldmark.speed.benchmark import Benchmark
    from fieldmark.studies.search.results import SearchResult
    from fieldmark.studies.table import StudyTable
Settings = str | Mapping[str, Any]
"""A recipe key with its value, "train.epochs=5", or several in a dictionary."""
_DATA = "DATA is the path of a folder or file, the word birds, or hf:owner/name"
_UNKNOWN = "images of unknown classes are given as the paths of files and folders, or as patterns"


# ---- making runs ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Demo:
    """What `demo` leaves behind: its run, and the folder of drawn birds, with birds of unknown species in `unseen`."""

    run: Run
    birds: Path


@checked
def demo(*settings: Settings, out: str | Path | None = None, quiet: bool = False, **keys: Any) -> Demo:
    """Draw the built-in birds and train a small network on them from scratch, in about two minutes on two free CPU cores.

    Args:
        settings: Recipe keys that differ from `fieldmark recipes demo`, such as train.epochs=5.
        keys: As for `fieldmark train`.
        out: The run folder to create; by default a new one under runs/.
        quiet: Print nothing.

    Raises:
        InputError: a setting or the folder cannot be used; nothing was written.
    """
    from fieldmark.core.recipe.load import load_recipe
    from fieldmark.datasets.birds.folder import SHEET, birds_folder
    from fieldmark.reports import changes
    from fieldmark.training.admission import require_torch

    console = Console(quiet)
    recipe = load_recipe("demo", _given(settings, keys), console.say)
    require_torch()
    folder = birds_folder(console=console)
    console.say(f"Drawn birds whose species differ, within a genus, by one field mark: look at {folder / SHEET}")
    return Demo(changes.train("birds", recipe, out, console), folder)


@checked
def train(
    data: str | Path,
    *settings: Settings,
    recipe: str | Path = "default",
    out: str | Path | None = None,
    quiet: bool = False,
    **keys: Any,
) -> Run:
    """Train a classifier and leave a run folder behind.

    Args:
        data: A folder or file whose layout is recognised (`fieldmark layouts` lists the layouts), "hf:owner/name", or "birds" for the
            built-in set.
        settings: Recipe keys, such as train.epochs=12 (`fieldmark fields` lists them).
            A dictionary such as {"train.epochs": 12} holds several.
        keys: The same as keywords: train={"epochs": 12} or settings={"train.epochs": 12}.
        recipe: A recipe that comes with Fieldmark (`fieldmark recipes` lists them) or a YAML file.
        out: The run folder to create; by default a new one under runs/.
        quiet: Print nothing.

    Raises:
        InputError: something given cannot be used; nothing was written.
        CheckFailed: the model is over model.max_parameters; nothing was written.
        TrainingFailed: the loss was not finite; the last good state is saved.
        Interrupted: a signal came; the state is saved.
    """
    from fieldmark.core.recipe.load import load_recipe
    from fieldmark.reports import changes
    from fieldmark.training.starting_weights import changed_weights

    console = Console(quiet)
    wanted = load_recipe(recipe, _given(settings, keys), console.say)
    console.say(*(changed_weights(Path(recipe), wanted) if isinstance(recipe, str | os.PathLike) else ()))
    return changes.train(path_of(data, _DATA), wanted, out, console)


@checked
def resume(run: Run | str | Path, moved_to: str | Path | None = None, quiet: bool = False) -> Run:
    """Continue a run that was interrupted, was killed or failed; the result equals that of a run never stopped.

    Args:
        run: The run folder.
        moved_to: Where the run's data are now, if they were moved. Every image is compared by its hash, and the place is remembered.
        quiet: Print nothing.

    Raises:
        InputError: the folder is not a run, is being written, or its data have moved or changed.
    """
    from fieldmark.reports import changes

    folder, console = _folder(run), Console(quiet)
    if moved_to is not None:
        changes.point_to_data(folder, moved_to, console)
    return changes.resume(folder, console)


@checked
def ensemble(
    *runs: Run | str | Path,
    method: Literal["mean", "stack", "soup"] = "mean",
    out: str | Path,
    of: Literal["probabilities", "logits"] | None = None,
    weights: Literal["equal", "fitted"] | None = None,
    fit_on: str | None = None,
    ingredients: Literal["greedy", "all"] | None = None,
    quiet: bool = False,
) -> Run:
    """Combine several runs that were trained on the same split, or the folds of one or several recipes, into one run.

    Args:
        runs: Finished runs, at least two.
        method: The mean of their predictions; a linear layer on all their logits (stack); or one network with the mean of their weights
            (soup).
        out: The run folder to create; the members are copied into it.
        of: For a mean: of probabilities (the default) or logits.
        weights: For a mean: equal (the default), or fitted on val.
        fit_on: For a stack: val (the default; of folds, the images that each left out), or train, which is optimistically biased.
        ingredients: For a soup: greedy (the default), the best on val first and then each that does not lower val top-1; or all.
        quiet: Print nothing.

    Raises:
        InputError: the runs cannot be combined, with the reasons; nothing was written.
    """
    from fieldmark.ensembles.method import method_of
    from fieldmark.reports import changes

    return changes.ensemble([_folder(run) for run in runs], method_of(method, of, weights, fit_on, ingredients), out, Console(quiet))


# ---- using runs -------------------------------------------------------------------------------------------------------------------


@checked
def evaluate(
    run: Run | Bundle | str | Path,
    data: str | Path | None = None,
    split: str = "test",
    crop: Literal["none", "box", "both"] | None = None,
    corrupt: str | None = None,
    unknown: Sequence[str | Path] = (),
    moved_to: str | Path | None = None,
    settings: Settings | Sequence[Settings] = (),
    quiet: bool = False,
) -> Evaluation | tuple[Evaluation, ...] | Robustness | UnknownEvaluation:
    """Evaluate a run on a split of its own data, on other data with classes of the same names, or on images of unknown classes.

    Args:
        run: A finished run, or a bundle, which needs `data` and takes no other option than the split and the settings.
        data: Other data, all of whose classes the run knows; by default the run's own.
        split: One of train, val and test.
        crop: Evaluate on whole images (none), on the boxes of their objects (box), or on both; by default as the run was trained.
        corrupt: How to corrupt the images first, NAME:SEVERITY with a severity from 1 to 5, such as fog:3, or none; by default as the run
            was trained. all:3, or all for every severity, measures each corruption on test.
        unknown: Files, folders and patterns of images of none of the run's classes, to measure how many of them it rejects.
        moved_to: Where the run's own data are now, if they were moved. Every image is compared by its hash, and the place is remembered.
        settings: How other data are read, such as data.columns=label=taxon or data.layout=class-folders; by default tables are read by the
            columns of the run's own, as far as they have them.
        quiet: Print nothing.

    Returns:
        The Evaluation of the split, or with crop="both" those of whole images and of boxes. With corrupt="all", what
        evaluate_corruptions returns; with unknown images, what evaluate_unknowns returns.

    Raises:
        InputError: the run is not finished, or its data have moved or changed, have unknown classes, or lack such a split or boxes.
    """
    from fieldmark.bundles.bundle import Bundle, is_bundle
    from fieldmark.core.recipe.layers import setting_texts
    from fieldmark.datasets.corruptions import all_corruptions
    from fieldmark.datasets.layouts.question import asked_by
    from fieldmark.evaluation.evaluate import CROPS, evaluate_run
    from fieldmark.evaluation.run import Run
    from fieldmark.reports import changes

    if isinstance(run, Bundle) or is_bundle(run):
        from fieldmark.evaluation.evaluate_bundle import evaluate_bundle

        if (crop, corrupt, tuple(unknown), moved_to) != (None, None, (), None):
            hint = "Give the run that the bundle was exported from."
            raise InputError("--crop, --corrupt, --unknown and --moved-to are for runs", hint=hint)
        bundle = run if isinstance(run, Bundle) else load_bundle(run)
        other = None if data is None else path_of(data, _DATA)
        return evaluate_bundle(bundle, other, split, Console(quiet), setting_texts(_given((), {"settings": settings})))
    if moved_to is not None:
        if data is not None:
            raise InputError("--moved-to says where the run's own data are, and --data names other data", hint="Give one of them.")
        changes.point_to_data(_folder(run), moved_to, Console(quiet))
    severities, read_by = all_corruptions(corrupt), setting_texts(_given((), {"settings": settings}))
    if (unknown or severities) and (data, crop, split, corrupt if unknown else None, *read_by) != (None, None, "test", None):
        raise InputError("--unknown and --corrupt all are measured on their own, on test", hint="Leave the other options out.")
    if unknown:
        return evaluate_unknowns(run, unknown, quiet)
    if severities:
        return evaluate_corruptions(run, severities, quiet)
    loaded, console, other = Run.load(run), Console(quiet), None if data is None else path_of(data, _DATA)
    options = {"--split": None if split == "test" else split, "--crop": crop, "--corrupt": corrupt}
    chosen = [word for option, value in options.items() if value is not None for word in (option, value)]
    with asked_by("evaluate", str(loaded.path), *chosen, "--data"):
        if crop != "both":
            return evaluate_run(loaded, other, split, console, crop, corrupt, read_by)
        boxes_first = {each: evaluate_run(loaded, other, split, console, each, corrupt, read_by) for each in reversed(CROPS)}
        return tuple(boxes_first[each] for each in CROPS)


@checked
def evaluate_unknowns(run: Run | str | Path, unknown: Sequence[str | Path], quiet: bool = False) -> UnknownEvaluation:
    """Measure how many images of none of a run's classes it rejects; the run's evaluation.json and report say so from then on.

    Args:
        run: A finished run.
        unknown: Files, folders and patterns of images.
        quiet: Print nothing.

    Raises:
        InputError: the run is not finished or not calibrated, or there are no such images.
    """
    from fieldmark.evaluation.run import Run
    from fieldmark.reports import changes

    return changes.measure_unknown(Run.load(run), paths_of(unknown, _UNKNOWN), Console(quiet))


@checked
def evaluate_corruptions(run: Run | str | Path, severities: Sequence[int] = (1, 2, 3, 4, 5), quiet: bool = False) -> Robustness:
    """Measure top-1 on test under every corruption; the run's robustness.json, evaluation.json and report say so from then on.

    Args:
        run: A finished run.
        severities: Those to measure. What was measured before is not measured again.
        quiet: Print nothing.

    Raises:
        InputError: the run is not finished, or its data have moved or changed.
    """
    from fieldmark.evaluation.run import Run
    from fieldmark.reports import changes

    return changes.measure_robustness(Run.load(run), severities, Console(quiet))


@checked
def calibrate(
    run: Run | str | Path,
    accept: float = 0.95,
    coverage: float = 0.9,
    precision: float = 0.95,
    scaling: Literal["temperature", "vector"] = "temperature",
    score: str | None = None,
    unknown: Sequence[str | Path] = (),
    moved_to: str | Path | None = None,
    quiet: bool = False,
) -> Decisions:
    """Refit a run's temperature, rejection threshold, prediction sets and back-off on val. Training fits them with the defaults.

    Args:
        run: A finished run.
        accept: The share of images of known classes that must not be rejected.
        coverage: The share of images whose prediction set must contain the right class.
        precision: The share of answers that must be right if a coarser answer, such as the genus, may replace an unsure one.
        scaling: One temperature, or a scale and a bias for each class (vector), which can change predictions and needs many images of
            each class.
        score: The rejection score; the result lists the scores. By default the first that separates classes of val from the others, each
            class held out in turn, to within one point of the best.
        unknown: Files, folders and patterns of images of none of the run's classes, to choose the score by.
        moved_to: As for `evaluate`.
        quiet: Print nothing.

    Raises:
        InputError: the run is not finished, has no predictions of val, or cannot have what was asked for; or its data have moved, so that
            its report would lose images.
    """
    from fieldmark.evaluation.run import Run
    from fieldmark.reports import changes
    from fieldmark.scoring.decisions import Wanted

    if moved_to is not None:
        changes.point_to_data(_folder(run), moved_to, Console(quiet))
    wanted = Wanted(accept, coverage, precision, scaling, score)
    return changes.calibrate(Run.load(run), wanted, paths_of(unknown, _UNKNOWN), Console(quiet))


@checked
def predict(
    run: Run | Bundle | str | Path,
    sources: Source | Iterable[Source],
    csv: str | Path | None = None,
    boxes: Boxes | str | Path | None = None,
    top: int = 5,
    quiet: bool = False,
) -> list[Answer]:
    """Classify images; as `stream`, with all answers in a list."""
    return list(stream(run, sources, csv, boxes, top, quiet))


@checked
def stream(
    run: Run | Bundle | str | Path,
    sources: Source | Iterable[Source],
    csv: str | Path | None = None,
    boxes: Boxes | str | Path | None = None,
    top: int = 5,
    quiet: bool = False,
) -> Iterator[Answer]:
    """Classify images.

    Predictions come one by one, in the order of the images, and memory does not grow with their number.

    Args:
        run: A finished run, or a bundle.
        sources: Files, folders (searched for images) and patterns such as `photos/*.jpg`.
        csv: A table to write, complete after the last image: path, whether the image is of none of the classes, the likeliest classes with
            their probabilities, the set that contains the right one with the promised probability, what is sure enough at each level, and
            a note if there is no answer.
        boxes: A table with a box for each image: path, left, top, right, bottom (or width and height) in pixels; paths are relative to the
            table's folder. A run that was trained with data.crop=box needs it.
        top: How many classes to name.
        quiet: Print nothing.

    Raises:
        InputError: the run has no weights, there are no such images, or the table cannot be read or written.
    """
    from fieldmark.evaluation.predict import predict_images

    return predict_images(_run_or_bundle(run), sources, Console(quiet), None if csv is None else Path(csv), boxes, top)


@checked
def explain(
    run: Run | Bundle | str | Path,
    images: Source | Iterable[Source],
    out: str | Path,
    method: str = "auto",
    boxes: Boxes | str | Path | None = None,
    quiet: bool = False,
) -> Explained:
    """Show where a run looked in images, whether that place matters, and the training images nearest to them.

    Args:
        run: A finished run, or a bundle, which has the class-activation maps of its graph alone.
        images: Files, folders (searched for images) and patterns such as `photos/*.jpg`.
        out: The folder to write: a page, an image for each map, and the figures as JSON.
        method: How the maps are made; auto is rollout for vision transformers and grad-cam for all other networks.
        boxes: A table with a box for each image, as for `fieldmark predict`.
        quiet: Print nothing.

    Raises:
        InputError: the method does not suit the network, there are no such images, or the folder cannot be written.
    """
    from fieldmark.datasets.boxes_file import given_boxes
    from fieldmark.reports.explain import explain_run

    return explain_run(_run_or_bundle(run), images, Path(out), Console(quiet), method, given_boxes(boxes))


@checked
def submit(
    run: Run | str | Path,
    out: str | Path,
    data: str | Path | None = None,
    columns: str | None = None,
    quiet: bool = False,
    like: str | Path | None = None,
    settings: Settings | Sequence[Settings] = (),
) -> Submission:
    """Predict the unlabelled images of a dataset, and write the file that a competition asks for.

    Where a folder such as test holds unlabelled images alone, those without a label between the images of training are left out.

    Args:
        run: A finished run.
        out: The CSV file to write.
        data: Other data with unlabelled images; by default the run's own.
        columns: HEADER=WHAT, separated by commas; by default id=stem,label=class. WHAT is path, name, stem (the name without its suffix),
            class, index (of the class, from 0), number (from 1), probability, or probabilities (a column for each class, headed by its
            name alone).
        quiet: Print nothing.
        like: A sample submission, whose ids and columns are written in their order.
        settings: As for `evaluate`.

    Raises:
        InputError: the columns are wrong or call two images alike, the run is not finished, or there are no unlabelled images.
    """
    from fieldmark.core.recipe.layers import setting_texts
    from fieldmark.datasets.layouts.question import asked_by
    from fieldmark.evaluation.run import Run
    from fieldmark.evaluation.submission import submit_run

    other = None if data is None else path_of(data, _DATA)
    loaded, read_by = Run.load(run), setting_texts(_given((), {"settings": settings}))
    with asked_by("submit", str(loaded.path), str(out), "--data"):
        return submit_run(loaded, Path(out), other, columns, Console(quiet), like, read_by)


@checked
def report(*runs: Run | str | Path, out: str | Path | None = None, quiet: bool = False) -> Path:
    """Write the report of a run, or of several side by side: one HTML file that opens offline.

    Args:
        runs: A finished run, or several that were tested on the same images; the others are compared with the first.
        out: The file to write; by default report.html in the run's folder. Several runs need a name.
        quiet: Print nothing.

    Returns:
        The file.

    Raises:
        InputError: a run is not finished, the runs cannot be compared, or the report in the run's folder would lose images.
    """
    from fieldmark.evaluation.run import Run
    from fieldmark.reports.comparison.page import write_comparison
    from fieldmark.reports.lost_images import refuse_losing_images
    from fieldmark.reports.report import write_report

    target = None if out is None else Path(out)
    with Console(quiet).busy("writing the report"):
        if len(runs) == 1:
            run = Run.load(runs[0])
            refuse_losing_images(run, Console(quiet=True), target)
            return write_report(run, target)
        return write_comparison([Run.load(run) for run in runs], target)


# ---- deploying --------------------------------------------------------------------------------------------------------------------


@checked
def export(
    run: Run | str | Path,
    out: str | Path,
    format: Literal["onnx", "openvino", "litert", "executorch", "torch"] = "onnx",
    int8: bool = False,
    batch: int | Sequence[int] = (1,),
    include: Sequence[Literal["enroll", "neighbours"]] = (),
    max_loss: float = 0.5,
    max_changed: float = 5.0,
    strict: bool = False,
    quiet: bool = False,
) -> Bundle:
    """Export a run as a bundle: a folder that answers as the run does, without the run and, but for torch and executorch, without PyTorch.

    The bundle's answers are compared with those of the run in float32 on all images of val, and are written only if they pass: every
    clear answer equal and every probability within 0.001, or at int8 within the limits below.

    Args:
        run: A finished run.
        out: The folder to create.
        format: onnx for ONNX Runtime, openvino for x86 processors, litert for phones and boards, executorch for
            programs in C++ on them, or torch for safetensors.
        int8: Weights and activations of 8 bits, calibrated on images of train; for all but torch.
        batch: How many images the graph takes at once, exactly; several numbers make several graphs.
        include: enroll adds what enroll needs to add classes; neighbours adds small copies of the training images and their
            features, so that explain shows the nearest ones.
        max_loss: At int8, the loss of accuracy on val that is accepted, in points.
        max_changed: At int8, the share of answers that may change, in per cent.
        strict: At int8, ask for proof that the loss is within its limit: the upper end of its 95 % interval.
        quiet: Print nothing.

    Raises:
        InputError: the run is not finished, has no images of val or its data have moved, the folder exists, a library is missing, or the
            format cannot express the network; nothing was written.
        CheckFailed: the graph does not answer as the run does; nothing was written.
    """
    from fieldmark.bundles.parity import Limits
    from fieldmark.exports.request import Request

    folder = _folder(run)
    batches = (batch,) if isinstance(batch, int) else tuple(batch)
    parts = tuple(include) if isinstance(include, list | tuple) else (include,)
    request = Request.of(format, int8, batches, Limits(loss=max_loss, changed=max_changed, strict=strict), parts)
    from fieldmark.evaluation.run import Run
    from fieldmark.exports.export import export_run

    return export_run(Run.load(folder), request, Path(path_of(out, "a bundle is a folder, given as its path")), Console(quiet))


@checked
def load_bundle(path: str | os.PathLike[str], threads: int | None = None) -> Bundle:
    """Open a bundle: `load_bundle(path).predict(images)` answers as the run did that it was exported from.

    PyTorch is needed for the formats torch and executorch only; every file is checked against its hash.

    Args:
        path: The folder.
        threads: How many threads compute one image; all cores by default.

    Raises:
        InputError: it is not a bundle, is damaged, was written by a newer version, or its runtime is not installed.
    """
    from fieldmark.bundles.bundle import Bundle
    from fieldmark.exports.open_graph import open_graph

    return Bundle.load(path, open_graph, threads)


@checked
def enroll(
    bundle: Bundle | str | Path,
    name: str,
    images: Source | Iterable[Source],
    out: str | Path,
    parents: Mapping[str, str] | None = None,
    boxes: Mapping[str, Sequence[float]] | str | Path | None = None,
    quiet: bool = False,
) -> Enrolling:
    """Add a class to a bundle from a few photos, without training: a new bundle, which answers for all classes.

    All classes are then recognised by their means under one shared covariance of the network's features. What that does to the classes that
    were trained is measured on their images of val; temperature, sets and threshold are fitted anew.

    Args:
        bundle: A bundle that was exported with what enrolling takes (`--with enroll`).
        name: The class; if it was enrolled before, it gets these photos as well.
        images: Photos of it: files, folders or patterns; from Python also images in memory.
        out: The folder to create.
        parents: Its parents in the taxonomy, by the name of the level; itself by default.
        boxes: Its left, top, right and bottom edge by the path of the photo, or a table, as of predict.
        quiet: Print nothing.

    Raises:
        InputError: the bundle lacks what it takes, no photo can be read, the name is that of a class that was trained, or the folder
            exists; nothing was written.
        CheckFailed: the photos cannot be told from another class, which is named, or have too little in common; nothing was written.
    """
    from fieldmark.bundles.enroll import enroll as enroll_class
    from fieldmark.datasets.boxes_file import given_boxes

    target = Path(path_of(out, "a bundle is a folder, given as its path"))
    return enroll_class(_bundle(bundle), name, images, target, Console(quiet), parents, given_boxes(boxes))


@checked
def remove_enrolled(bundle: Bundle | str | Path, name: str, out: str | Path, quiet: bool = False) -> Enrolling:
    """Remove a class that was enrolled: a new bundle, which without the last such class answers as it was exported.

    Args:
        bundle: A bundle with enrolled classes.
        name: The class.
        out: The folder to create.
        quiet: Print nothing.

    Raises:
        InputError: no such class was enrolled, or the folder exists; nothing was written.
    """
    from fieldmark.bundles.enroll import remove

    return remove(_bundle(bundle), name, Path(path_of(out, "a bundle is a folder, given as its path")), Console(quiet))


@checked
def benchmark(
    *folders: Run | Bundle | str | Path,
    threads: int | None = None,
    alongside: int = 0,
    budget_ms: float | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Benchmark:
    """Measure how fast runs and bundles answer on this machine, side by side: latency, throughput, memory, start and size.

    Each is measured in a process of its own, in turn, so that all meet the same machine: runs by PyTorch in float32, as it is and
    compiled. An answer begins with the bytes of a JPEG and ends with all decisions.

    Args:
        folders: Runs and bundles.
        threads: How many threads compute one image; all cores by default.
        alongside: How many copies of each compute at the same time, as on a device that does other work.
        budget_ms: Check that nine in ten answers take no longer than this, in milliseconds; what is slower fails.
        out: A folder for benchmark.json and benchmark.png.
        quiet: Print nothing.

    Raises:
        InputError: a folder is neither a run nor a bundle, or there are no images to measure with.
        CheckFailed: an answer takes longer than the budget; what was measured is written.
    """
    from fieldmark.speed.benchmark import benchmark as measure
    from fieldmark.speed.files import write_benchmark

    kind = "runs and bundles are given as the paths of their folders"
    paths = [Path(path_of(getattr(folder, "path", folder), kind)) for folder in folders]
    found = measure(paths, threads, alongside, Console(quiet))
    if out is not None:
        write_benchmark(found, Path(out))
    if budget_ms is not None:
        found.check_budget(budget_ms)
    return found


@checked
def serve(
    *models: Run | Bundle | str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 1,
    max_batch: int | None = None,
    queue: int = 64,
    deadline: float = 10.0,
    max_wait_ms: float = 0.0,
    max_mb: float = 32.0,
    max_images: int = 64,
    max_megapixels: float = 50.0,
    max_frames: int = 100,
    api_key: str | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    cors: Sequence[str] = (),
    allow_host: Sequence[str] = (),
    feedback: str | Path | None = None,
    quiet: bool = False,
) -> None:
    """Answer over HTTP, for programs and in a browser, until stopped by Ctrl-C or SIGTERM; SIGHUP loads the models again.

    Args:
        models: Runs and bundles, each PATH, or NAME=PATH.
        host: The address to listen at; the default is reached from this machine alone, and 0.0.0.0 from all.
        port: The port; 0 for a free one.
        threads: How many threads compute one image; as many images are computed at once as the cores allow.
        max_batch: How many images that wait are answered together at most; by default the largest batch of a bundle's graphs, at least 4.
        queue: How many images may wait or be worked at; what would exceed it is turned away, to come again later.
        deadline: Seconds in which a request is answered, or not at all.
        max_wait_ms: How long an image may wait for others to be computed with, in milliseconds.
        max_mb: MiB that a request may have.
        max_images: Images that a request may have.
        max_megapixels: Millions of pixels that an image may have.
        max_frames: Frames that an animation may have.
        api_key: What callers have to know; by default the environment variable FIELDMARK_API_KEY, if it is set.
        tls_cert: The file of a certificate, for HTTPS; phones open the camera only then.
        tls_key: The file of its key.
        cors: Origins whose pages may call, such as https://example.org.
        allow_host: Further names that the server may be called by.
        feedback: A folder that keeps the images whose answers users corrected, to train on.
        quiet: Print nothing, not even a line for each request.

    Raises:
        InputError: a model cannot be loaded, or nobody may listen at the address.
    """
    from fieldmark.core.extras import needed_for
    from fieldmark.serving.settings import API_KEY, Settings, named_models

    kind = "runs and bundles are given as the paths of their folders"
    settings = Settings(
        named_models([path_of(getattr(model, "path", model), kind) for model in models]),
        host,
        port,
        threads,
        max_batch,
        queue,
        deadline,
        max_wait_ms,
        max_mb,
        max_images,
        max_megapixels,
        max_frames,
        api_key or os.environ.get(API_KEY) or None,
        None if tls_cert is None else Path(tls_cert),
        None if tls_key is None else Path(tls_key),
        tuple(cors),
        tuple(allow_host),
        None if feedback is None else Path(feedback),
    )
    with needed_for("serving"):
        from fieldmark.serving.server import serve as answer
    answer(settings, _opened, Console(quiet))


# ---- studies ----------------------------------------------------------------------------------------------------------------------


@checked
def run_study(
    study: str | Path,
    data: str | Path | Sequence[str | Path],
    *settings: Settings,
    out: str | Path,
    seeds: int | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    dry_run: bool = False,
    quick: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> StudyTable | None:
    """Train every recipe of a study with every seed, unless that is done already, and say which change helped.

    Args:
        study: A study that comes with Fieldmark (`fieldmark study list` lists them) or a YAML file.
        data: One or several datasets.
        settings: Recipe keys that change the base, such as train.epochs=12.
        keys: As for `fieldmark train`.
        out: The folder of the study; the same command continues it.
        seeds: How many seeds; by default those of the study.
        jobs: How many runs at once, each with its share of the cores; by default one for each GPU, or else for each core.
        engine: This machine, or the Ray cluster that RAY_ADDRESS names (by default one that is started here).
        dry_run: Say what would be done, how long it would take and how much disk space it needs, and stop.
        quick: Rehearse the study as its section `quick` says: short and small, to see that everything works. It measures nothing.
        quiet: Print nothing.

    Returns:
        The table of the study; None for a dry run.

    Raises:
        InputError: something given cannot be used; no run was started.
        CheckFailed: some runs failed; the others are finished, and the table is written.
        Interrupted: stopped by Ctrl-C; the same call continues.
    """
    from fieldmark.studies.answer import write_answer
    from fieldmark.studies.run import plan_study, train_study
    from fieldmark.studies.study_file import load_study

    console = Console(quiet)
    datasets = [os.fspath(each) for each in paths_of(data, _DATA)]
    if not datasets:
        raise InputError("a study needs data", hint=f"fieldmark study run {study} DATA --out {out}")
    plan = plan_study(load_study(study, _given(settings, keys), seeds, quick), datasets, out)
    done = train_study(plan, engine, jobs, dry_run, console)
    if dry_run:
        return None
    table = write_answer(plan.folder, console)
    if done.failed:
        raise CheckFailed(f"{len(done.failed)} of the runs failed; the same command tries them again")
    return table


@checked
def study_table(folder: str | Path, quiet: bool = True, metrics: str | Sequence[str] | None = None) -> StudyTable:
    """Say which change helped, from the finished runs, and write it as Markdown, CSV, LaTeX, JSON, images and a page.

    Args:
        folder: The folder of a study.
        quiet: Print nothing.
        metrics: Further metrics of test, such as top5,macro_f1; by default those of the study file.

    Raises:
        InputError: the folder is not that of a study, or cannot be written.
    """
    from fieldmark.studies.answer import write_answer

    keys = [key.strip() for key in metrics.split(",") if key.strip()] if isinstance(metrics, str) else metrics
    return write_answer(folder, Console(quiet), keys)


@checked
def search(
    study: str | Path,
    data: str | Path,
    *settings: Settings,
    out: str | Path,
    trials: int | None = None,
    hours: float | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    quiet: bool = False,
    **keys: Any,
) -> SearchResult:
    """Search the space of a study file for the recipe with the best val figure, at random or guided by earlier trials.

    Args:
        study: A YAML file with a section `search`, or a study that comes with Fieldmark.
        data: A dataset, as `fieldmark train` takes it.
        settings: Recipe keys that change the base, such as train.epochs=12.
        keys: As for `fieldmark train`.
        out: The folder of the search; the same command continues it.
        trials: How many in all, including those of earlier calls.
        hours: How long this call runs.
        jobs: How many trials at once; by default one for each GPU, or else for each core.
        engine: As in `fieldmark study run`.
        quiet: Print nothing.

    Raises:
        InputError: something given cannot be used; no trial was started.
        TrainingFailed: five trials in a row failed, or some failed and none finished.
        Interrupted: stopped by Ctrl-C; the same call continues.
    """
    from fieldmark.studies.engines import open_engine
    from fieldmark.studies.plan import named_datasets, require_there
    from fieldmark.studies.search.run import Budget, check_trial, run_search
    from fieldmark.studies.search.section import read_search
    from fieldmark.studies.study_file import search_section

    console = Console(quiet)
    base, section, origin = search_section(study, _given(settings, keys))
    space, budget = read_search(section, base, origin), Budget(trials, hours)
    budget.check()
    (dataset,) = named_datasets([os.fspath(path_of(data, _DATA))])
    require_there([dataset])
    with open_engine(engine, jobs, trials or sys.maxsize) as opened:
        check_trial(space, dataset, Path(out), opened, budget, console)
        return run_search(space, dataset, Path(out), opened, budget, console)


# ---- data, and what there is to choose from -----------------------------------------------------------------------------------------


@checked
def draw_birds(out: str | Path, species: int = 18, per_class: int = 180, size: int = 96, seed: int = 0, quiet: bool = False) -> Path:
    """Draw a set of birds into a new folder: class folders in train, val and test, species that are in none of them, and a table.

    Args:
        out: The folder to create.
        species: How many, three of each genus in turn.
        per_class: Images of each species.
        size: Side of the images, in pixels.
        seed: Another number draws other birds.
        quiet: Print nothing.

    Returns:
        An image in the folder that shows one bird of each species.

    Raises:
        InputError: the folder exists or cannot be written, or the numbers are out of range.
    """
    from fieldmark.datasets.birds.folder import SHEET, draw_folder

    draw_folder(Path(out), species, per_class, size, seed, Console(quiet))
    return Path(out) / SHEET


@checked
def describe_dataset(
    data: str | Path,
    layout: str = "auto",
    columns: str | Mapping[str, str] | None = None,
    class_depth: int | str | None = None,
    quiet: bool = True,
    images: str | None = None,
    suffix: str | None = None,
    missing_labels: Literal["words", "blank"] = "words",
    several_objects: Literal["ask", "largest", "leave-out"] = "ask",
    settings: Settings | Sequence[Settings] = (),
) -> Overview:
    """Say what a dataset is and contains, without opening its images.

    Args:
        data: A dataset, as `fieldmark train` takes it.
        layout: Read it as this layout, whatever it looks like.
        columns: Which column of a table is what, as in data.columns.
        class_depth: Which folder on the way to an image names its class, as in data.class_depth.
        quiet: Print nothing.
        images: The folder in which the images of a table are looked up, as in data.images.
        suffix: What is added to the names in a table, as in data.suffix.
        missing_labels: Which labels of a table say that there is none, as in data.missing_labels.
        several_objects: What happens to an image that shows several classes, as in data.several_objects.
        settings: The same as recipe keys, such as data.class_depth=2.

    Raises:
        InputError: the data cannot be read, with all reasons.
    """
    from fieldmark.core.recipe.data import Data
    from fieldmark.core.recipe.layers import setting_texts
    from fieldmark.datasets.layouts import read_dataset
    from fieldmark.datasets.layouts.columns import parse
    from fieldmark.datasets.layouts.question import asked_by
    from fieldmark.datasets.loading import reading
    from fieldmark.datasets.overview import overview

    read = reading(setting_texts(_given((), {"settings": settings})), "settings can only say here how data are read")
    options: dict[str, Any] = {"layout": layout, "columns": columns, "images": images, "suffix": suffix, "class_depth": class_depth}
    options |= {"missing_labels": missing_labels, "several_objects": several_objects}
    asked = {key: value if value != getattr(Data(), key) else getattr(read, key) for key, value in options.items()}
    named = asked.pop("columns")
    by_name = parse(named) if isinstance(named, str) else named
    with asked_by("layouts"):
        return overview(read_dataset(path_of(data, _DATA), asked.pop("layout"), by_name, Console(quiet), **asked))


@checked
def list_layouts() -> tuple[Layout, ...]:
    """List the layouts of datasets that can be read."""
    from fieldmark.datasets.layouts import LAYOUTS

    return tuple(LAYOUTS.values())


@checked
def list_models(pattern: str | None = None) -> tuple[ModelInfo, ...]:
    """List models, with parameters, multiply-adds and input size.

    Args:
        pattern: Part of a name, or a pattern such as `resnet*`: every model that matches. Without it, a choice of well-known ones.

    Raises:
        InputError: no model matches.
    """
    from fieldmark.models.catalog import known_models, matching_models

    return known_models() if pattern is None else matching_models(pattern)


@checked
def list_recipes(name: str | None = None) -> tuple[Preset, ...]:
    """List the recipes that come with Fieldmark, or print one.

    Args:
        name: Only the recipe of this name.

    Raises:
        InputError: there is no such recipe.
    """
    from fieldmark.core.presets import RECIPES

    return RECIPES.listed(name)


@checked
def list_studies(name: str | None = None) -> tuple[Preset, ...]:
    """List the studies that come with Fieldmark, or print one.

    Args:
        name: Only the study of this name.

    Raises:
        InputError: there is no such study.
    """
    from fieldmark.core.presets import STUDIES

    return STUDIES.listed(name)


@checked
def list_fields(prefix: str = "") -> tuple[RecipeField, ...]:
    """List the recipe's fields: type, default, unit and meaning.

    Args:
        prefix: Only the fields that begin with this, such as train.

    Raises:
        InputError: no field begins with the prefix.
    """
    from fieldmark.core.recipe.fields import fields

    found = tuple(field for field in fields() if field.key.startswith(prefix))
    if not found:
        raise InputError(f"no field begins with {prefix!r}", hint="`fieldmark fields` lists them all.")
    return found


@checked
def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, for editors."""
    from fieldmark.core.recipe.fields import json_schema

    return json_schema()


@checked
def image_cache(clear: bool = False) -> CacheContents:
    """Show what the cache of decoded images contains, or empty it.

    Args:
        clear: Delete everything that no process is using.
    """
    from fieldmark.datasets.pixel_cache import CacheContents, clear_cache, default_cache_dir, list_cache

    folder = default_cache_dir()
    freed = clear_cache(folder) if clear else 0
    return CacheContents(folder, tuple(list_cache(folder)), freed)


def _given(settings: Sequence[Settings], keys: Mapping[str, Any]) -> list[Settings]:
    """Settings however they were given: one by one, as keywords, or as the keyword `settings`."""
    named = dict(keys)
    more = named.pop("settings", ())
    return [*settings, *(more if isinstance(more, list | tuple) else [more]), *([named] if named else [])]


def _bundle(given: Bundle | str | Path) -> Bundle:
    """Raises InputError for a run, with the way to a bundle."""
    from fieldmark.bundles.bundle import Bundle

    if not isinstance(given, Bundle) and (Path(given) / "recipe.yaml").is_file():
        raise InputError(
            f"{given} is a run, and classes are enrolled in bundles",
            hint=f"fieldmark export {typed(given)} --with enroll --out BUNDLE",
        )
    return given if isinstance(given, Bundle) else load_bundle(given)


def _run_or_bundle(run: Run | Bundle | str | Path) -> Run | Bundle:
    """A run or a bundle, whichever it is."""
    from fieldmark.bundles.bundle import Bundle, is_bundle
    from fieldmark.evaluation.run import Run

    if isinstance(run, Bundle):
        return run
    return load_bundle(run) if is_bundle(run) else Run.load(run)


def _opened(path: Path, threads: int) -> Run | Bundle:
    """A run or a bundle, to be served."""
    from fieldmark.bundles.bundle import is_bundle

    return load_bundle(path, threads) if is_bundle(path) else _run_or_bundle(path)


def _folder(run: Run | str | Path) -> Path:
    """The folder of a run, whether or not there is one."""
    given: Any = getattr(run, "path", run)
    return Path(path_of(given, "a run is given as the path of its folder, or as a Run"))
