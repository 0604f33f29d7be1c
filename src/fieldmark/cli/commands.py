"""The commands: each parses its arguments, calls one function of the API, whose docstring is its help, and prints what that returns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter, validators

from fieldmark import __version__, api
from fieldmark.cli.printing import print_json, print_table, say

app = App(
    name="fieldmark",
    help="Train, prove and ship fine-grained image classifiers.",
    version_flags=["--version"],
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
study = App(name="study", help="Train many recipes with many seeds; one table says which change helped.", result_action="return_value")
app.command(study)

Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Print nothing but errors.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
Switch = Annotated[bool, Parameter(negative="")]
Jobs = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Images = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
Engine = Literal["local", "ray"]


_Command = Callable[..., None]


def _command(
    function: Callable[..., Any], group: App = app, name: str | None = None, help: str | None = None
) -> Callable[[_Command], _Command]:
    """Make a command of `group`. Its help is the docstring of the API function that it calls; `help` replaces all but the arguments."""

    def register(command: _Command) -> _Command:
        command.__doc__ = function.__doc__
        group.command(command, name=name, help=help)
        return command

    return register


@_command(api.demo)
def demo(*settings: str, out: Path | None = None, quiet: Quiet = False) -> None:
    found = api.demo(*settings, out=out, quiet=quiet)
    test, classes = found.run.summary.test, len(found.run.class_names)
    say(
        quiet,
        "",
        f"{test.top1:.1f} % of {test.n:,} images of birds that it had not seen are classified correctly, "
        f"with a 95 % interval of {test.top1_low:.1f} to {test.top1_high:.1f}; guessing gets {100 / classes:.1f} %.",
        "Open the report in a browser to see which species it confuses. Then:",
        f"  fieldmark predict {found.run.path} {found.birds / 'unseen'}   # birds of species that it cannot know",
        "  fieldmark train PHOTOS                 # a folder of your own, with one folder of images per class",
    )


@_command(api.train)
def train(data: str, /, *settings: str, recipe: str = "default", out: Path | None = None, quiet: Quiet = False, json: Json = False) -> None:
    _print_run(api.train(data, *settings, recipe=recipe, out=out, quiet=quiet), json)


@_command(api.resume)
def resume(run: Path, /, *, quiet: Quiet = False, json: Json = False) -> None:
    _print_run(api.resume(run, quiet=quiet), json)


@_command(api.ensemble)
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
    run = api.ensemble(*runs, method=method, out=out, of=of, weights=weights, fit_on=fit_on, ingredients=ingredients, quiet=quiet)
    _print_run(run, json)


@_command(api.evaluate)
def evaluate(
    run: Path,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    crop: Literal["none", "box", "both"] | None = None,
    corrupt: str | None = None,
    unknown: Images = (),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    found = api.evaluate(run, data=data, split=split, crop=crop, corrupt=corrupt, unknown=unknown, quiet=quiet)
    from fieldmark.cli.evaluations import as_json, as_text

    print_json(as_json(found)) if json else say(quiet, *as_text(found))


@_command(api.calibrate)
def calibrate(
    run: Path,
    /,
    *,
    accept: float = 0.95,
    coverage: float = 0.9,
    precision: float = 0.95,
    scaling: Literal["temperature", "vector"] = "temperature",
    score: str | None = None,
    unknown: Images = (),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    found = api.calibrate(
        run, accept=accept, coverage=coverage, precision=precision, scaling=scaling, score=score, unknown=unknown, quiet=quiet
    )
    from fieldmark.cli.tables import decisions_table

    if json:
        print_json(found.record.model_dump(by_alias=True))
    else:
        say(quiet, decisions_table(found), f"temperature {found.record.temperature:.3f}; everything is in {run / 'calibration.json'}")


@_command(api.predict)
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
    answers = api.predict(run, sources, csv=csv, boxes=boxes, top=top, quiet=quiet)
    from fieldmark.cli.answers import answer_as_json, answer_line

    for answer in answers:
        if json:
            print(answer_as_json(answer))
        elif csv is None and not quiet:
            print(answer_line(answer))


@_command(api.explain)
def explain(
    run: Path,
    /,
    *images: str,
    out: Path,
    method: Literal["auto", "grad-cam", "grad-cam++", "layer-cam", "rollout"] = "auto",
    boxes: Path | None = None,
    quiet: Quiet = False,
) -> None:
    found = api.explain(run, images, out=out, method=method, boxes=boxes, quiet=quiet)
    if found.summary is not None:
        say(quiet, f"deleting what the maps mark, beyond deleting as much elsewhere: {found.summary}")
    say(quiet, f"the page is {found.page}")


@_command(api.submit)
def submit(run: Path, out: Path, /, *, data: str | None = None, columns: str = "id=stem,label=class", quiet: Quiet = False) -> None:
    found = api.submit(run, out, data=data, columns=columns, quiet=quiet)
    say(quiet, f"the predictions are in {found.file}")
    if found.unanswered:
        say(quiet, f"{found.unanswered:,} of the images could not be read or have no finite probabilities; their predictions are empty")


@_command(api.report)
def report(*runs: Path, out: Path | None = None, quiet: Quiet = False) -> None:
    say(quiet, f"the report is {api.report(*runs, out=out)}")


@_command(api.run_study, study, "run")
def study_run(
    study: str,
    /,
    *data: Annotated[str, Parameter(help="One or several datasets, and recipe keys that change the base, such as train.epochs=12.")],
    out: Path,
    seeds: int | None = None,
    jobs: Jobs | None = None,
    engine: Engine = "local",
    dry_run: Switch = False,
    quick: Switch = False,
    quiet: Quiet = False,
) -> None:
    settings = [text for text in data if _is_setting(text)]
    datasets = [text for text in data if not _is_setting(text)]
    api.run_study(study, datasets, *settings, out=out, seeds=seeds, jobs=jobs, engine=engine, dry_run=dry_run, quick=quick, quiet=quiet)


@_command(api.study_table, study, "table")
def study_table(folder: Path, /, *, quiet: Quiet = False, json: Json = False) -> None:
    found = api.study_table(folder, quiet=quiet or json)
    from fieldmark.studies.formats import as_json

    if json:
        print_json(as_json(found))


@_command(api.search, study, "search")
def study_search(
    study: str,
    data: str,
    /,
    *settings: str,
    out: Path,
    trials: int | None = None,
    hours: float | None = None,
    jobs: Jobs | None = None,
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    api.search(study, data, *settings, out=out, trials=trials, hours=hours, jobs=jobs, engine=engine, quiet=quiet)


@_command(api.list_studies, study, "list")
def study_list(name: str | None = None, /) -> None:
    found = api.list_studies(name)
    if name is None:
        print_table(("study", "what it asks"), [(each.name, each.title) for each in found], left=("what it asks",))
    else:
        print(found[0].text, end="")


@_command(api.draw_birds)
def birds(out: Path, /, *, species: int = 18, per_class: int = 180, size: int = 96, seed: int = 0, quiet: Quiet = False) -> None:
    sheet = api.draw_birds(out, species=species, per_class=per_class, size=size, seed=seed, quiet=quiet)
    say(quiet, f"the birds are in {out}; {sheet.name} there shows one of each species")


@_command(api.describe_dataset, help="List the layouts of datasets that can be read, or say what a dataset contains.")
def layouts(data: str | None = None, /, *, layout: str = "auto", columns: str | None = None, json: Json = False) -> None:
    if data is not None:
        found = api.describe_dataset(data, layout=layout, columns=columns, quiet=json)
        print_json(found.to_dict()) if json else print(*found.lines(), sep="\n")
        return
    listed = api.list_layouts()
    if json:
        print_json([{"name": each.name, "title": each.title, "example": each.example} for each in listed])
    else:
        rows = [(each.name, each.title, f"fieldmark train {each.example}") for each in listed]
        print_table(("layout", "dataset", "command"), rows, left=("dataset", "command"))


@_command(api.list_models)
def models(pattern: str | None = None, /, *, json: Json = False) -> None:
    found = api.list_models(pattern)
    if json:
        print_json([model.to_dict() for model in found])
    else:
        rows = [(model.name, *model.figures(), model.line) for model in found]
        print_table(("model", "parameters", "multiply-adds", "size", "pretrained", ""), rows, left=("",))


@_command(api.list_recipes)
def recipes(name: str | None = None, /) -> None:
    found = api.list_recipes(name)
    if name is None:
        print_table(("recipe", "what it is"), [(each.name, each.title) for each in found], left=("what it is",))
    else:
        print(found[0].text, end="")


@_command(api.list_fields)
def fields(
    prefix: str = "",
    /,
    *,
    json: Json = False,
    schema: Annotated[bool, Parameter(negative="", help="Print the JSON schema of a recipe file, for editors.")] = False,
) -> None:
    if schema:
        print_json(api.recipe_schema())
        return
    found = api.list_fields(prefix)
    from fieldmark.cli.tables import fields_as_json, fields_rows

    if json:
        print_json(fields_as_json(found))
    else:
        print_table(("field", "type", "default", "meaning"), fields_rows(found), left=("type", "default", "meaning"))


@_command(api.image_cache)
def cache(*, clear: Switch = False) -> None:
    found = api.image_cache(clear=clear)
    from fieldmark.cli.tables import cache_rows

    if clear:
        print(f"freed {found.freed / 2**20:,.0f} MiB in {found.folder}")
    else:
        print(f"{found.folder}: {found.bytes / 2**20:,.0f} MiB")
        print_table(("entry", "images", "side", "MiB", "last used"), cache_rows(found))


def _print_run(run: Any, as_json: bool) -> None:
    if as_json:
        print_json({"run": str(run.path), **run.summary.to_json()})


def _is_setting(text: str) -> bool:
    """Whether an argument is `key=value` rather than a dataset; a folder of such a name is given as ./key=value."""
    return re.match(r"[A-Za-z_][\w.]*=", text) is not None
