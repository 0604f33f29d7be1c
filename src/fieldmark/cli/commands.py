"""The commands: each parses its arguments, calls one function of the API, whose docstring is its help, and prints what that returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators

from fieldmark import api
from fieldmark.cli.printing import print_json, print_table, say
from fieldmark.cli.registration import DATA, DEPLOY, LOOK, START, TRAIN, USE, command, study
from fieldmark.core.names import some, typed

Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Print nothing but errors.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
Switch = Annotated[bool, Parameter(negative="")]
Jobs = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Images = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
Engine = Literal["local", "ray"]


@command(api.demo, "demo", group=START)
def demo(*settings: str, out: Path | None = None, quiet: Quiet = False) -> None:
    found = api.demo(*settings, out=out, quiet=quiet)
    test, classes = found.run.summary.test, len(found.run.class_names)
    say(
        quiet,
        "",
        f"{test.top1:.1f} % of {test.n:,} images of birds that it had not seen are classified correctly, "
        f"with a 95 % interval of {test.top1_low:.1f} to {test.top1_high:.1f}; guessing gets {100 / classes:.1f} %.",
        "Open the report in a browser to see which species it confuses. Then:",
        f"  fieldmark predict {typed(found.run.path)} {typed(found.birds / 'unseen')}   # birds of species that it cannot know",
        "  fieldmark train PHOTOS                 # a folder of your own, with one folder of images per class",
    )


@command(
    api.train,
    "train photos",
    "train photos --out runs/mine train.epochs=20 model.name=resnet18",
    "train labels.csv --recipe small-data",
    group=TRAIN,
)
def train(data: str, /, *settings: str, recipe: str = "default", out: Path | None = None, quiet: Quiet = False, json: Json = False) -> None:
    _print_run(api.train(data, *settings, recipe=recipe, out=out, quiet=quiet), json)


@command(api.resume, "resume runs/mine", group=TRAIN)
def resume(run: Path, /, *, moved_to: str | None = None, quiet: Quiet = False, json: Json = False) -> None:
    _print_run(api.resume(run, moved_to=moved_to, quiet=quiet), json)


@command(api.ensemble, "ensemble runs/one runs/two --method mean --out runs/both", group=TRAIN)
def ensemble(
    runs: list[Path],
    /,
    *,
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


@command(
    api.evaluate,
    "evaluate runs/mine",
    "evaluate runs/mine --data more-photos",
    "evaluate runs/mine --data clinic.csv data.columns=label=taxon",
    "evaluate runs/mine --unknown photos-of-other-things",
    group=LOOK,
)
def evaluate(
    run: Path,
    /,
    *settings: str,
    data: str | None = None,
    split: str = "test",
    crop: Literal["none", "box", "both"] | None = None,
    corrupt: str | None = None,
    unknown: Images = (),
    moved_to: str | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    found = api.evaluate(
        run,
        data=data,
        split=split,
        crop=crop,
        corrupt=corrupt,
        unknown=unknown,
        moved_to=moved_to,
        settings=settings,
        quiet=quiet,
    )
    from fieldmark.cli.evaluations import as_json, as_text

    print_json(as_json(found)) if json else say(quiet, *as_text(found))


@command(api.calibrate, "calibrate runs/mine --accept 0.99 --coverage 0.95", group=USE)
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
    moved_to: str | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    found = api.calibrate(
        run,
        accept=accept,
        coverage=coverage,
        precision=precision,
        scaling=scaling,
        score=score,
        unknown=unknown,
        moved_to=moved_to,
        quiet=quiet,
    )
    from fieldmark.cli.tables import decisions_table

    if json:
        print_json(found.record.model_dump(by_alias=True))
    else:
        say(quiet, decisions_table(found), f"temperature {found.record.temperature:.3f}; everything is in {run / 'calibration.json'}")


@command(api.stream, "predict runs/mine photo.jpg", "predict runs/mine photos --csv answers.csv", group=USE)
def predict(
    run: Path,
    sources: list[str],
    /,
    *,
    csv: Path | None = None,
    boxes: Path | None = None,
    top: int = 5,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    answers = api.stream(run, sources, csv, boxes, top, quiet)
    from fieldmark.answering.images import without_answer
    from fieldmark.cli.answers import answer_as_json, answer_line

    problems = {}
    for answer in answers:
        if not answer.classes:
            problems[answer.path] = answer.note
        if json:
            print(answer_as_json(answer))
        elif csv is None and not quiet:
            print(answer_line(answer))
    if failed := without_answer(sources, problems):
        raise failed


@command(api.explain, "explain runs/mine photo.jpg --out explained", group=LOOK)
def explain(
    run: Path,
    images: list[str],
    /,
    *,
    out: Path,
    method: Literal["auto", "grad-cam", "grad-cam++", "layer-cam", "rollout"] = "auto",
    boxes: Path | None = None,
    quiet: Quiet = False,
) -> None:
    found = api.explain(run, images, out=out, method=method, boxes=boxes, quiet=quiet)
    from fieldmark.answering.images import without_answer

    if found.summary is not None:
        say(quiet, f"deleting what the maps mark, beyond deleting as much elsewhere: {found.summary}")
    say(quiet, f"the page is {found.page}")
    if failed := without_answer(images, found.problems):
        raise failed


@command(api.submit, "submit runs/mine submission.csv --columns id=name,label=class", group=USE)
def submit(
    run: Path,
    out: Path,
    /,
    *settings: str,
    data: str | None = None,
    columns: str | None = None,
    like: Path | None = None,
    quiet: Quiet = False,
) -> None:
    found = api.submit(run, out, data=data, columns=columns, quiet=quiet, like=like, settings=settings)
    say(quiet, f"the predictions of {_in_folders(found.folders)} are in {found.file}")
    if found.blank:
        say(quiet, f"left out, because the images beside them have labels and are those of training: {_in_folders(found.blank)}")
    if found.samples:
        say(quiet, f"a sample submission lies next to the data: --like {typed(found.samples[0])} takes its ids and columns")
    if found.unanswered:
        say(quiet, f"{found.unanswered:,} of the images could not be read or have no finite probabilities; their predictions are empty")
    if found.unasked:
        say(quiet, f"{found.unasked:,} unlabelled images are not in the sample and were left out")


def _in_folders(folders: Sequence[tuple[str, int]]) -> str:
    """As in "53 images in test"."""
    said = [f"{count:,} {'image' if count == 1 else 'images'}" + ("" if folder == "." else f" in {folder}") for folder, count in folders]
    return some(said)


@command(
    api.export,
    "export runs/mine --out bundles/mine",
    "export runs/mine --format openvino --int8 --out bundles/mine-int8",
    "export runs/mine --batch 8 --with enroll,neighbours --out bundles/mine",
    group=DEPLOY,
)
def export(
    run: Path,
    /,
    *,
    out: Path,
    format: Annotated[str, Parameter(show_choices=True)] = "onnx",
    int8: Switch = False,
    batch: tuple[int, ...] = (1,),
    include: Annotated[tuple[str, ...], Parameter(name="--with", consume_multiple=False, negative="")] = (),
    max_loss: float = 0.5,
    max_changed: float = 5.0,
    strict: Switch = False,
    quiet: Quiet = False,
) -> None:
    bundle = api.export(
        run,
        out,
        format=format,  # type: ignore[arg-type]  # checked there
        int8=int8,
        batch=batch,
        include=tuple(part for each in include for part in each.split(",")),  # type: ignore[misc]  # checked there
        max_loss=max_loss,
        max_changed=max_changed,
        strict=strict,
        quiet=quiet,
    )
    say(quiet, f"the bundle is {bundle.path}")


@command(
    api.enroll,
    "enroll bundles/mine Wren photos/wren --out bundles/more",
    "enroll bundles/more Wren --remove --out bundles/fewer",
    "enroll bundles/more --list",
    group=DEPLOY,
)
def enroll(
    bundle: Path,
    name: str | None = None,
    /,
    *images: str,
    out: Path | None = None,
    parents: Annotated[
        tuple[str, ...] | None,
        Parameter(name="--parent", consume_multiple=False, negative="", help="LEVEL=NAME: its parent in the taxonomy; itself by default."),
    ] = None,
    boxes: Path | None = None,
    remove: Annotated[Switch, Parameter(help="Remove the class again.")] = False,
    list: Annotated[Switch, Parameter(help="Name the classes that were enrolled.")] = False,
    quiet: Quiet = False,
) -> None:
    from fieldmark.cli.enrolments import as_lines, listed, wanted

    wanted(name, images, out, remove=remove, list=list)
    if list:
        say(False, *listed(api.load_bundle(bundle)))
    elif remove:
        say(quiet, *as_lines(api.remove_enrolled(bundle, name, out, quiet)))  # type: ignore[arg-type]  # checked above
    else:
        of_levels = dict(each.partition("=")[::2] for each in parents or ())
        say(quiet, *as_lines(api.enroll(bundle, name, images, out, of_levels, boxes, quiet)))  # type: ignore[arg-type]  # checked above


@command(
    api.benchmark,
    "benchmark runs/mine bundles/mine bundles/mine-int8 --threads 1",
    "benchmark bundles/mine-int8 --budget-ms 20 --alongside 1",
    group=DEPLOY,
)
def benchmark(
    folders: list[Path],
    /,
    *,
    threads: int | None = None,
    alongside: int = 0,
    budget_ms: float | None = None,
    out: Path | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    from fieldmark.cli.speeds import as_text

    found = api.benchmark(*folders, threads=threads, alongside=alongside, out=out, quiet=quiet)
    print_json(found.to_dict()) if json else say(quiet, *as_text(found))
    if budget_ms is not None:
        found.check_budget(budget_ms)


@command(
    api.serve,
    "serve bundles/mine",
    "serve birds=bundles/birds cars=runs/cars --port 8080",
    "serve bundles/mine --host 0.0.0.0 --api-key open-sesame",
    group=DEPLOY,
)
def serve(
    models: list[str],
    /,
    *,
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
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    cors: tuple[str, ...] = (),
    allow_host: tuple[str, ...] = (),
    feedback: Path | None = None,
    quiet: Quiet = False,
) -> None:
    api.serve(
        *models,
        host=host,
        port=port,
        threads=threads,
        max_batch=max_batch,
        queue=queue,
        deadline=deadline,
        max_wait_ms=max_wait_ms,
        max_mb=max_mb,
        max_images=max_images,
        max_megapixels=max_megapixels,
        max_frames=max_frames,
        api_key=api_key,
        tls_cert=tls_cert,
        tls_key=tls_key,
        cors=cors,
        allow_host=allow_host,
        feedback=feedback,
        quiet=quiet,
    )


@command(api.report, "report runs/mine", "report runs/one runs/two --out comparison.html", group=LOOK)
def report(runs: list[Path], /, *, out: Path | None = None, quiet: Quiet = False) -> None:
    say(quiet, f"the report is {api.report(*runs, out=out, quiet=quiet)}")


@command(
    api.run_study,
    "study run noise-floor photos --out studies/noise",
    "study run mine.yaml photos --out studies/mine --seeds 5",
    of=study,
    name="run",
)
def study_run(
    study: str,
    /,
    *data: Annotated[
        str, Parameter(required=True, help="One or several datasets, and recipe keys that change the base, such as train.epochs=12.")
    ],
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


@command(api.study_table, "study table studies/noise", "study table studies/noise --metrics top5,macro_f1", of=study, name="table")
def study_table(folder: Path, /, *, metrics: str | None = None, quiet: Quiet = False, json: Json = False) -> None:
    found = api.study_table(folder, quiet=quiet or json, metrics=metrics)
    from fieldmark.studies.formats import as_json

    if json:
        print_json(as_json(found))


@command(api.search, "study search tune photos --out studies/tune --hours 8", of=study, name="search")
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


@command(api.list_studies, "study list", "study list noise-floor", of=study, name="list")
def study_list(name: str | None = None, /) -> None:
    found = api.list_studies(name)
    if name is None:
        print_table(("study", "what it asks"), [(each.name, each.title) for each in found], left=("what it asks",))
    else:
        print(found[0].text, end="")


@command(api.draw_birds, "birds birds --species 9 --per-class 60", group=DATA)
def birds(out: Path, /, *, species: int = 18, per_class: int = 180, size: int = 96, seed: int = 0, quiet: Quiet = False) -> None:
    sheet = api.draw_birds(out, species=species, per_class=per_class, size=size, seed=seed, quiet=quiet)
    say(quiet, f"the birds are in {out}; {sheet.name} there shows one of each species")


@command(
    api.describe_dataset,
    "layouts",
    "layouts photos",
    "layouts photos data.class_depth=2",
    group=DATA,
    help="List the layouts of datasets that can be read, or say what a dataset contains.",
)
def layouts(
    data: str | None = None,
    /,
    *settings: str,
    layout: str = "auto",
    columns: str | None = None,
    class_depth: str | None = None,
    images: str | None = None,
    suffix: str | None = None,
    missing_labels: Literal["words", "blank"] = "words",
    several_objects: Literal["ask", "largest", "leave-out"] = "ask",
    json: Json = False,
) -> None:
    if data is not None:
        found = api.describe_dataset(
            data,
            layout=layout,
            columns=columns,
            class_depth=class_depth,
            images=images,
            suffix=suffix,
            missing_labels=missing_labels,
            several_objects=several_objects,
            settings=settings,
            quiet=json,
        )
        print_json(found.to_dict()) if json else print(*found.lines(), sep="\n")
        return
    listed = api.list_layouts()
    if json:
        print_json([{"name": each.name, "title": each.title, "example": each.example} for each in listed])
    else:
        rows = [(each.name, each.title, f"fieldmark train {each.example}") for each in listed]
        print_table(("layout", "dataset", "command"), rows, left=("dataset", "command"))


@command(api.list_models, "models", "models mobilenet", group=DATA)
def models(pattern: str | None = None, /, *, json: Json = False) -> None:
    found = api.list_models(pattern)
    if json:
        print_json([model.to_dict() for model in found])
    else:
        rows = [(model.name, *model.figures(), model.line) for model in found]
        print_table(("model", "parameters", "multiply-adds", "size", "pretrained", ""), rows, left=("",))


@command(api.list_recipes, "recipes", "recipes small-data", group=DATA)
def recipes(name: str | None = None, /) -> None:
    found = api.list_recipes(name)
    if name is None:
        print_table(("recipe", "what it is"), [(each.name, each.title) for each in found], left=("what it is",))
    else:
        print(found[0].text, end="")


@command(api.list_fields, "fields train", "fields --schema", group=DATA)
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


@command(api.image_cache, "cache", "cache --clear", group=DATA)
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
