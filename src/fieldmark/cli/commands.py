"""The command line: one thin function per command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter, validators

from fieldmark.core.errors import FieldmarkError, InputError, Problem
from fieldmark.core.extras import needed_for

if TYPE_CHECKING:
    from fieldmark.core.console import Console

app = App(
    name="fieldmark",
    help="Train, prove and ship fine-grained image classifiers.",
    version_flags=["--version"],
    version=lambda: __import__("fieldmark").__version__,
    result_action="return_value",
)
study = App(name="study", help="Many runs, and one table that says which change helped.", result_action="return_value")
app.command(study)
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Print nothing but errors.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the answer as JSON.")]


@app.command
def demo(*settings: str, out: Path | None = None, quiet: Quiet = False) -> None:
    """Draw the built-in birds, train a small network on them from scratch, and show the answer; about four minutes on two cores.

    Parameters
    ----------
    settings
        Recipe keys that differ from `fieldmark recipes demo`, such as train.epochs=5.
    out
        The run folder to make (a new one under runs/ by default).
    """
    from fieldmark.core.recipe.load import load_recipe
    from fieldmark.datasets.birds.folder import SHEET, birds_folder
    from fieldmark.reports import changes

    resolved, console = load_recipe("demo", settings), _console(quiet)
    folder = birds_folder(console=console)
    console.say(f"Drawn birds whose species differ, within a genus, by one field mark: look at {folder / SHEET}")
    run = changes.train("birds", resolved, out, console)
    classes, test = len(run.class_names), run.summary.test
    console.say(
        "",
        f"{test.top1:.1f} % of {test.n:,} images of birds that it had not seen are named right, "
        f"with a 95 % interval of {test.top1_low:.1f} to {test.top1_high:.1f}; guessing gets {100 / classes:.1f} %.",
        "Open the report in a browser to see which it mistakes, and for what. Then:",
        f"  fieldmark predict {run.path} {folder / 'unseen'}   # birds of species that it cannot know",
        "  fieldmark train PHOTOS                 # a folder of your own, with one folder of images per class",
    )


@app.command
def birds(out: Path, /, *, species: int = 18, per_class: int = 180, size: int = 96, seed: int = 0, quiet: Quiet = False) -> None:
    """Draw a set of birds into a new folder: class folders in train, val and test, species that are in none of them, and a table.

    Parameters
    ----------
    out
        The folder to make.
    species
        How many, three of a genus in turn.
    per_class
        Images of each.
    size
        Of the images, in pixels.
    seed
        Another number draws other birds.
    """
    from fieldmark.datasets.birds.folder import SHEET, draw_folder

    console = _console(quiet)
    draw_folder(out, species, per_class, size, seed, console)
    console.say(f"the birds are in {out}; {SHEET} there shows one of each species")


@app.command
def train(data: str, /, *settings: str, recipe: str = "default", out: Path | None = None, quiet: Quiet = False, json: Json = False) -> None:
    """Train on DATA and leave a run folder behind.

    Parameters
    ----------
    data
        A folder or file whose layout is recognised (`fieldmark layouts` lists them), "hf:owner/name", or "birds".
    settings
        Recipe keys, such as train.epochs=12 (`fieldmark fields` lists them).
    recipe
        A recipe that comes with Fieldmark (`fieldmark recipes`) or a YAML file.
    out
        The run folder to make (a new one under runs/ by default).
    """
    from fieldmark.core.recipe.load import load_recipe
    from fieldmark.reports import changes

    _hand_over(changes.train(data, load_recipe(recipe, settings), out, _console(quiet)), json)


@app.command
def resume(run: Path, /, *, quiet: Quiet = False, json: Json = False) -> None:
    """Continue a run that was interrupted, killed or failed, exactly where it stood."""
    from fieldmark.reports import changes

    _hand_over(changes.resume(run, _console(quiet)), json)


@app.command
def evaluate(
    run: Path,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    crop: Literal["none", "box", "both"] | None = None,
    corrupt: str | None = None,
    unknown: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Evaluate a run on a split of its own data, on other data with classes of the same names, or on images of unknown classes.

    Parameters
    ----------
    data
        Other data (the run's own by default).
    split
        train, val or test.
    crop
        On whole images, on the boxes of their objects, or on both (as the run was trained, by default).
    corrupt
        Corrupt the images first, NAME:SEVERITY with a severity from 1 to 5, such as fog:3, or none (as the run was trained, by default);
        all:3 measures every corruption.
    unknown
        Files, folders and patterns of images that are of none of the run's classes: how many of them it rejects.
    """
    from fieldmark.cli.tables import robustness_table, unknown_table
    from fieldmark.datasets.corruptions import all_corruptions
    from fieldmark.evaluation.evaluate import evaluate_run
    from fieldmark.evaluation.run import Run
    from fieldmark.reports import changes
    from fieldmark.scoring.summary import figures_table

    loaded, console = Run.load(run), _console(quiet)
    severities = all_corruptions(corrupt)
    if (unknown or severities) and (data, crop, split, corrupt if unknown else None) != (None, None, "test", None):
        raise InputError("--unknown and --corrupt all are measured on their own, beside test", hint="Leave the other options out.")
    if unknown:
        found = changes.measure_unknown(loaded, unknown, console)
        _print_json(found) if json else console.say(unknown_table([found]), f"predictions: {found['predictions']}")
        return
    if severities:
        measured = changes.measure_robustness(loaded, severities, console)
        _print_json(measured) if json else console.say(robustness_table(measured))
        return
    crops: list[Any] = ["none", "box"] if crop == "both" else [crop]
    figures = {each: evaluate_run(loaded, data, split, console, each, corrupt) for each in crops}
    if json:
        _print_json(figures if crop == "both" else figures[crop])
        return
    names = {None: "", "none": ", whole", "box": ", boxes"}
    console.say(figures_table({each["split"] + names[key]: each for key, each in figures.items()}))
    console.say(*(f"predictions: {each['predictions']}" for each in figures.values()))


@app.command
def calibrate(
    run: Path,
    /,
    *,
    accept: float = 0.95,
    coverage: float = 0.9,
    precision: float = 0.95,
    scaling: Literal["temperature", "vector"] = "temperature",
    score: str | None = None,
    unknown: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Fit a run's temperature, threshold for unknowns, sets of classes and back-off on val anew. Training does it with the defaults.

    Parameters
    ----------
    accept
        The share of images of known classes that are not to be rejected.
    coverage
        The share of images whose set of classes is to hold the right one.
    precision
        The share of answers that are to be right where a coarser answer, such as the genus, may stand in for an unsure one.
    scaling
        One temperature, or a scale and a bias for each class, which can change answers and needs many images of each.
    score
        How unknowns are told: max-logit+knn, msp, max-logit, energy, knn, mahalanobis or vim (by default the first that tells classes of
        val apart, which are taken for unknown in turn, to within a point as well as the best does).
    unknown
        Files, folders and patterns of images that are of none of the run's classes, to choose the score by.
    """
    from fieldmark.cli.tables import decisions_table
    from fieldmark.evaluation.run import Run
    from fieldmark.reports import changes
    from fieldmark.scoring.decisions import Wanted

    loaded, console = Run.load(run), _console(quiet)
    decisions = changes.calibrate(loaded, Wanted(accept, coverage, precision, scaling, score), unknown or [], console)
    if json:
        _print_json(decisions.record.model_dump(by_alias=True))
        return
    console.say(decisions_table(decisions))
    console.say(f"temperature {decisions.record.temperature:.3f}; all of it is in {loaded.folder.calibration_file}")


@app.command
def predict(
    run: Path,
    /,
    *sources: str,
    csv: Path | None = None,
    boxes: Path | None = None,
    top: int = 5,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Name what is in images.

    Parameters
    ----------
    run
        A finished run.
    sources
        Files, folders (searched for images) and patterns such as "photos/*.jpg".
    csv
        Write a table: path, whether it is of none of the classes, the likeliest classes with their probabilities, the set that holds the
        right one with the promised probability, what is sure enough at each level, and a note where there is no answer.
    boxes
        A table with a box for each image: path, left, top, right, bottom (or width and height) in pixels. Paths are relative to the
        table's folder. A run that was trained with data.crop=box needs it.
    top
        How many classes to name.
    """
    from fieldmark.answering.images import find_images
    from fieldmark.answering.writer import AnswerWriter
    from fieldmark.datasets.boxes_file import read_boxes
    from fieldmark.evaluation.run import Run

    loaded, console = Run.load(run), _console(quiet)
    files = find_images(sources)
    given = None if boxes is None else read_boxes(boxes)
    if given and not any(Path(path).exists() for path in given):
        raise InputError(
            f"none of the images of {boxes} is there, such as {next(iter(given))}",
            hint="A path in a table of boxes is absolute, or relative to the table's folder or to the current one.",
        )
    if warning := loaded.box_warning(given is not None):
        console.say(f"warning: {warning}")
    levels = () if loaded.decisions is None else tuple(loaded.decisions.backoff)
    writer = AnswerWriter(csv, min(top, len(loaded.class_names)), levels, as_json=json, quiet=quiet)
    with writer as answers, console.progress("predicting", "files") as advance:
        for count, answer in enumerate(loaded.stream(files, top, given), 1):
            answers.add(answer)
            advance(count, None)
    if answers.unanswered:
        console.say(f"{answers.unanswered:,} of {answers.count:,} images have no answer; their rows say why")
    if answers.noted > answers.unanswered:
        console.say(f"{answers.noted - answers.unanswered:,} of {answers.count:,} images have no box in {boxes}, and were seen whole")


@app.command
def explain(
    run: Path,
    /,
    *images: str,
    out: Path,
    method: Literal["auto", "grad-cam", "grad-cam++", "layer-cam", "rollout"] = "auto",
    boxes: Path | None = None,
    quiet: Quiet = False,
) -> None:
    """Show where a run looked in images, whether that place matters, and the training images nearest to them.

    Parameters
    ----------
    run
        A finished run.
    images
        Files, folders (searched for images) and patterns such as "photos/*.jpg".
    out
        The folder to write: a page, an image for each, and the figures as JSON.
    method
        How the map is made (by default grad-cam for convolutional networks, rollout for vision transformers).
    boxes
        A table with a box for each image, as for `fieldmark predict`.
    """
    from fieldmark.datasets.boxes_file import read_boxes
    from fieldmark.evaluation.run import Run
    from fieldmark.reports.explain import explain_run

    console = _console(quiet)
    found = explain_run(Run.load(run), images, out, console, method, None if boxes is None else read_boxes(boxes))
    if found.summary is not None:
        console.say(f"deleting what the maps mark, beyond deleting as much elsewhere: {found.summary}")
    console.say(f"the page is {found.page}")


@app.command
def submit(run: Path, out: Path, /, *, data: str | None = None, columns: str = "id=stem,label=class", quiet: Quiet = False) -> None:
    """Predict the images of a dataset whose labels are not known, and write the file that a competition asks for.

    Parameters
    ----------
    run
        A finished run.
    out
        The CSV file to write.
    data
        Other data with unlabelled images (the run's own by default).
    columns
        HEADER=WHAT, separated by commas. WHAT is path, name, stem (the name without its ending), class, index (of the class, from 0),
        number (from 1), probability, or probabilities: a column for each class.
    """
    from fieldmark.evaluation.run import Run
    from fieldmark.evaluation.submission import submit_run

    console = _console(quiet)
    unanswered = submit_run(Run.load(run), out, data, columns, console)
    console.say(f"the answers are in {out}")
    if unanswered:
        console.say(f"{unanswered:,} of the images could not be read or got an answer that is not a number; their answers are empty")


@app.command
def ensemble(
    *runs: Path,
    method: Literal["mean", "stack", "soup"],
    out: Path,
    of: Literal["probabilities", "logits"] | None = None,
    weights: Literal["equal", "fitted"] | None = None,
    fit_on: str | None = None,
    ingredients: Literal["greedy", "all"] | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make one run of several that were trained on the same split, or of the folds of one or several recipes.

    Parameters
    ----------
    runs
        Finished runs, at least two.
    method
        The mean of their answers; a linear layer on all their logits (stack); or one network with the mean of their weights (soup).
    out
        The run folder to make. The members are copied into it.
    of
        For a mean: of probabilities (by default) or logits.
    weights
        For a mean: equal (by default), or fitted to val.
    fit_on
        For a stack: val (by default; of folds, the images that each left out), or train, which flatters it.
    ingredients
        For a soup: greedy (by default), the best on val first and then each that does not lower val top-1; or all.
    """
    from fieldmark.ensembles.method import method_of
    from fieldmark.reports import changes

    _hand_over(changes.ensemble(runs, method_of(method, of, weights, fit_on, ingredients), out, _console(quiet)), json)


@app.command
def layouts(data: str | None = None, /, *, layout: str = "auto", columns: str | None = None, json: Json = False) -> None:
    """List the layouts of datasets that can be read, or say what a dataset is and holds, without opening its images.

    Parameters
    ----------
    data
        A dataset, as `fieldmark train` takes it.
    layout
        Read it as this layout, whatever it looks like.
    columns
        Which column of a table is what, as in data.columns.
    """
    from fieldmark.datasets.layouts import LAYOUTS

    if data is None:
        if json:
            _print_json([{"name": each.name, "title": each.title, "example": each.example} for each in LAYOUTS.values()])
        else:
            rows = [(each.name, each.title, f"fieldmark train {each.example}") for each in LAYOUTS.values()]
            _print_table(("layout", "dataset", "command"), rows, left=("dataset", "command"))
        return
    from fieldmark.datasets.layouts import read_dataset
    from fieldmark.datasets.layouts.columns import parse
    from fieldmark.datasets.overview import overview

    found = overview(read_dataset(data, layout, None if columns is None else parse(columns), _console(json)))
    if json:
        _print_json(found.to_dict())
    else:
        for line in found.lines():
            print(line)


@app.command
def report(*runs: Path, out: Path | None = None, quiet: Quiet = False) -> None:
    """Write the report of a run, or of several side by side: one HTML file that opens offline, to keep or to send.

    Parameters
    ----------
    runs
        A finished run, or several that were tested on the same images; the first is what the others are held against.
    out
        The file to write (report.html in the run's folder by default; several runs need a name).
    """
    from fieldmark.api import report as write

    _console(quiet).say(f"the report is {write(*runs, out=out)}")


@study.command(name="run")
def study_run(
    study: str,
    /,
    *data: str,
    out: Path,
    seeds: int | None = None,
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1))] | None = None,
    engine: Literal["local", "ray"] = "local",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    quick: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
) -> None:
    """Train every recipe of a study with every seed, as far as that is not done yet, and say which change helped.

    Parameters
    ----------
    study
        A study that comes with Fieldmark (`fieldmark study list`) or a YAML file.
    data
        One or several datasets, and recipe keys that change the base, such as train.epochs=12.
    out
        The folder of the study; the same command continues it.
    seeds
        How many (as the study says, by default).
    jobs
        How many runs at once, each with its share of the cores (by default one for each GPU, or else for each core).
    engine
        On this machine, or on the Ray cluster that RAY_ADDRESS names (by default one started here).
    dry_run
        Say what would be done, how long it would take and how much room it needs, and stop.
    quick
        Rehearse the study, as its section `quick` says: short and small, to see that all of it works. It measures nothing.
    """
    from fieldmark.api import run_study

    settings = [text for text in data if _is_setting(text)]
    datasets = [text for text in data if not _is_setting(text)]
    if not datasets:
        raise InputError("a study needs data", hint=f"fieldmark study run {study} DATA --out {out}")
    run_study(study, datasets, *settings, out=out, seeds=seeds, jobs=jobs, engine=engine, dry_run=dry_run, quick=quick, quiet=quiet)


@study.command(name="table")
def study_table(folder: Path, /, *, quiet: Quiet = False, json: Json = False) -> None:
    """Say which change helped, from the runs that are finished, and write it as Markdown, CSV, LaTeX, JSON, images and a page.

    Parameters
    ----------
    folder
        The folder of a study.
    """
    from fieldmark.api import study_table as table_of
    from fieldmark.studies.formats import as_json

    found = table_of(folder, quiet=quiet or json)
    if json:
        _print_json(as_json(found))


@study.command(name="search")
def study_search(
    study: str,
    data: str,
    /,
    *settings: str,
    out: Path,
    trials: int | None = None,
    hours: float | None = None,
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1))] | None = None,
    engine: Literal["local", "ray"] = "local",
    quiet: Quiet = False,
) -> None:
    """Try recipes from the space of a study file and keep the one that validation likes best, at random or by what was learnt so far.

    Parameters
    ----------
    study
        A YAML file with a section `search`, or a study that comes with Fieldmark.
    data
        A dataset, as `fieldmark train` takes it.
    settings
        Recipe keys that change the base, such as train.epochs=12.
    out
        The folder of the search; the same command continues it.
    trials
        How many in all, those of earlier calls included.
    hours
        How long this call goes on.
    jobs
        How many trials at once (by default one for each GPU, or else for each core).
    engine
        As in `fieldmark study run`.
    """
    from fieldmark.api import search

    search(study, data, *settings, out=out, trials=trials, hours=hours, jobs=jobs, engine=engine, quiet=quiet)


@study.command(name="list")
def study_list(name: str | None = None, /) -> None:
    """List the studies that come with Fieldmark, or print one."""
    from fieldmark.core.presets import STUDIES

    if name is not None:
        print(STUDIES.text(name), end="")
        return
    _print_table(("study", "what it asks"), [(preset, STUDIES.title(preset)) for preset in STUDIES.names()], left=("what it asks",))


@app.command
def models(pattern: str | None = None, /, *, json: Json = False) -> None:
    """List models, with parameters, multiply-adds and input size.

    Parameters
    ----------
    pattern
        Part of a name, or a pattern such as "resnet*": every model that matches. Without it, a choice of well-known ones.
    """
    from fieldmark.models.catalog import known_models, matching_models

    listed = known_models() if pattern is None else matching_models(pattern)
    if json:
        _print_json([model.to_dict() for model in listed])
        return
    rows = [(model.name, *model.figures(), model.line) for model in listed]
    _print_table(("model", "parameters", "multiply-adds", "size", "pretrained", ""), rows, left=("",))


@app.command
def recipes(name: str | None = None, /) -> None:
    """List the recipes that come with Fieldmark, or print one."""
    from fieldmark.core.presets import RECIPES

    if name is not None:
        print(RECIPES.text(name), end="")
        return
    _print_table(("recipe", "what it is"), [(preset, RECIPES.title(preset)) for preset in RECIPES.names()], left=("what it is",))


@app.command
def fields(prefix: str = "", /, *, json: Json = False, schema: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List the recipe's fields: type, default, unit and meaning.

    Parameters
    ----------
    prefix
        Only the fields that begin with this, such as train.
    schema
        Print the JSON schema of a recipe file, for editors.
    """
    from dataclasses import asdict

    from fieldmark.core.recipe.fields import fields as all_fields
    from fieldmark.core.recipe.fields import json_schema

    if schema:
        _print_json(json_schema())
        return
    listed = [field for field in all_fields() if field.key.startswith(prefix)]
    if not listed:
        raise InputError(f"no field begins with {prefix!r}", hint="`fieldmark fields` lists them all.")
    if json:
        _print_json([{**asdict(field), "default": _plain(field.default)} for field in listed])
        return
    rows = []
    for field in listed:
        key = field.key if field.variant is None else f"{field.key} ({field.variant})"
        rows.append((key, field.type, _plain(field.default), f"{field.meaning} ({field.unit})" if field.unit else field.meaning))
    _print_table(("field", "type", "default", "meaning"), rows, left=("type", "default", "meaning"))


@app.command
def cache(*, clear: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show what the cache of decoded images holds, or empty it.

    Parameters
    ----------
    clear
        Delete everything that no process is using.
    """
    from datetime import datetime

    from fieldmark.datasets.pixel_cache import clear_cache, default_cache_dir, list_cache

    folder = default_cache_dir()
    if clear:
        print(f"freed {clear_cache(folder) / 2**20:,.0f} MiB in {folder}")
        return
    entries = list_cache(folder)
    rows = [
        (entry.key, entry.images, entry.side, f"{entry.bytes / 2**20:,.0f}", f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}")
        for entry in entries
    ]
    print(f"{folder}: {sum(entry.bytes for entry in entries) / 2**20:,.0f} MiB")
    _print_table(("entry", "images", "side", "MiB", "last used"), rows)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command; exit 0, 1 (a check failed), 2 (bad input), 130 (interrupted) or, for a crash, 1 with a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with needed_for("this command"):
            app(sys.argv[1:] if arguments is None else arguments, exit_on_error=False, print_error=False, error_formatter=None)
        sys.stdout.flush()
        code = 0
    except CycloptsError as error:
        _print_error([str(error)], "`fieldmark --help` lists the commands.")
        code = InputError.exit_code
    except FieldmarkError as error:
        _print_error(error.problems, error.hint)
        code = error.exit_code
    except KeyboardInterrupt:
        _print_error(["stopped; nothing was left half done"], None)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _is_setting(text: str) -> bool:
    """Whether an argument is `key=value` rather than a dataset; a folder of such a name is given as ./key=value."""
    return re.match(r"[A-Za-z_][\w.]*=", text) is not None


def _terminate(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _console(quiet: bool) -> Console:
    from fieldmark.core.console import Console

    return Console(quiet)


def _hand_over(run: Any, as_json: bool) -> None:
    if as_json:
        _print_json({"run": str(run.path), **run.summary.to_json()})


def _print_json(value: Any) -> None:
    from fieldmark.core.files import json_text

    print(json_text(value, indent=2))


def _print_table(columns: tuple[str, ...], rows: list[Any], left: tuple[str, ...] = ()) -> None:
    from rich.console import Console as Rich

    from fieldmark.core.console import table

    wide = None if sys.stdout.isatty() else 200
    Rich(highlight=False, width=wide).print(table(None, columns, rows, left))


def _print_error(problems: Iterable[str | Problem], hint: str | None) -> None:
    for problem in problems:
        print(f"fieldmark: {problem}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_plain(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
