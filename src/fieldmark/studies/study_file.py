"""Study files: a base recipe, named changes of it, and seeds.

    base: default                      # a recipe's name, a file, or a mapping with `extends` as in a recipe file
    base_name: plain                   # what the table calls it
    seeds: 3                           # 0, 1 and 2; or a list
    ladder:                            # each change on top of those before it
      flip: {augment.flip: 0.5}
      smoothing: {loss.label_smoothing: 0.1}
      crop: {on: flip, augment.crop.name: none}  # a side branch: on that rung, and not carried on
    quick:                             # the study as a rehearsal, for --quick
      seeds: 1
      base: {train.epochs: 2}          # on the base, and on every recipe that a rung extends
      rungs:
        smoothing: {data.size: 32}     # on single rungs, after their own settings

Instead of `ladder`: `independent`, each change alone on the base, or on a recipe of its own (`extends: cheap`); or `grid`, all
combinations of the options of factors, the first option of each being the base:

    grid:
      augment.flip: [0, 0.5]           # values of a recipe key
      optimiser:                       # or named changes
        sgd: {optim.name: sgd, optim.lr: 0.05}
        adamw: {optim.name: adamw}

In addition there may be ensembles of the rungs, made for each seed when their runs are finished:

    ensembles:
      mean: {method: mean}             # of all rungs, the base among them
      stack: {members: [flip, crop], method: stack, fit_on: val}

The tables may have further metrics of test, and figures in per cent that others have published, by source and rung:

    metrics: [top5, macro_f1]
    published:
      "Somebody et al., A Paper, 2020":
        base: 88.2
        flip: 89.1

A file with none of the three arrangements has one recipe, whose spread over seeds is the noise that gains have to exceed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import suggest
from fieldmark.core.presets import STUDIES, Source
from fieldmark.core.recipe.fields import fields
from fieldmark.core.recipe.layers import Layer, Setting, base_layers, read_layer, setting_texts, settings_layer
from fieldmark.core.recipe.merge import build_recipe
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import flat, identity
from fieldmark.core.yaml_text import line_of, parse, plain, show
from fieldmark.ensembles.method import impossible
from fieldmark.studies.plan import Arrangement, Published, Rung, Study, StudyEnsemble, known_metrics

_ARRANGEMENTS: tuple[Arrangement, ...] = ("ladder", "independent", "grid")
_KEYS = ("base", "base_name", "seeds", *_ARRANGEMENTS, "ensembles", "metrics", "published", "search", "quick")
_ENSEMBLE_KEYS = ("members", "method", "of", "weights", "fit_on", "ingredients")
_QUICK_KEYS = ("seeds", "base", "rungs")
_REFERENCES: dict[str, Arrangement] = {"extends": "independent", "on": "ladder"}
"""The keys that say what a rung is built on, with the arrangement that allows each."""
_MOST_RUNGS = 1000
_BASE = "base"
_OF_THE_STUDY = tuple(f"data.{name}" for name in ("splits", "split_seed", "val_fraction", "test_fraction", "folds", "fold"))


@dataclass(frozen=True)
class _Change:
    """A rung and what it adds to what it is built on.

    `extended`: the layers of the recipe that it extends instead of the base; empty if it extends none, or one that cannot be read.
    """

    rung: Rung
    layers: tuple[Layer, ...]
    origin: str
    extended: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class _Quick:
    """The section `quick`: settings of the base, settings of rungs by name with their places in the file, and the seeds."""

    base: Layer = field(default_factory=list)
    rungs: dict[str, Layer] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None


def load_study(name: str | Path, overrides: Sequence[str | Mapping[str, Any]] = (), seeds: int | None = None, quick: bool = False) -> Study:
    """A study that comes with Fieldmark, or of a file. `overrides` (`key=value`) change the base and the recipes that rungs extend.

    quick: the form that the section of that name describes

    Raises InputError naming every problem at once, each with its place in the file.
    """
    source = STUDIES.read(name)
    values = parse(source.text, source.origin)
    if quick and "quick" not in values:
        raise _without_quick(source)
    problems: list[Problem] = []
    _check_keys(values, _KEYS, "", "a study", source, problems)
    section = _quick(values, source, problems)
    used = section if quick else _Quick()
    on_top = (used.base, settings_layer(overrides, problems))
    base = _base(values, source, on_top, problems)
    arrangement = _arrangement(values, source, problems)
    changes = _changes(values, arrangement, on_top, source, problems)
    names = [change.rung.name for change in changes]
    for given, where in section.places.items():
        if given not in names:
            problems.append(Problem(f"the study has no rung {given!r}{suggest(given, names)}", place="quick.rungs", origin=where))
    ensembles = _ensembles(values, names, source, problems)
    rungs, recipes = _recipes(base, [_in_quick_form(change, used) for change in changes], problems)
    if len(recipes) == len(rungs):
        by_name = dict(zip((rung.name for rung in rungs), recipes, strict=True))
        for ensemble in ensembles:
            origin = line_of(values["ensembles"], ensemble.name, source.origin)
            of_members = {name: by_name[name] for name in ensemble.members if name in by_name}
            place = f"ensembles: {ensemble.name}"
            problems += [Problem(reason, place=place, origin=origin) for reason in _impossible(ensemble, of_members)]
    metrics, published = _metrics(values, source, problems), _published(values, names, source, problems)
    chosen = _seeds(values.get("seeds", 3), "seeds", line_of(values, "seeds", source.origin), problems)
    if seeds is not None and seeds < 1:
        problems.append(Problem(f"--seeds: expected at least 1, got {seeds}"))
    _refuse(problems)
    return Study(
        name=Path(name).stem,
        title=_title(source),
        source=str(name) if source.folder is None else str(Path(name).resolve()),
        settings=setting_texts(overrides),
        arrangement=arrangement,
        rungs=rungs,
        recipes=recipes,
        seeds=(used.seeds or chosen) if seeds is None else tuple(range(seeds)),
        quick=quick,
        ensembles=ensembles,
        metrics=metrics,
        published=published,
    )


def search_section(name: str | Path, overrides: Sequence[str | Mapping[str, Any]] = ()) -> tuple[list[Layer], dict[str, Any], str]:
    """The base's layers and the section `search` of a study file, with the file's name. Raises InputError if there is none."""
    source = STUDIES.read(name)
    values = parse(source.text, source.origin)
    problems: list[Problem] = []
    _check_keys(values, _KEYS, "", "a study", source, problems)
    base = _base(values, source, (settings_layer(overrides, problems),), problems)
    section = values.get("search")
    if not isinstance(section, dict):
        problems.append(Problem(f"{source.origin} has no section search, which defines what is searched over"))
        section = {}
    _refuse(problems)
    return base, section, source.origin


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise InputError(
            *dict.fromkeys(problems), hint="docs/manual/studies.md describes study files; `fieldmark fields` lists a recipe's keys."
        )


def _title(source: Source) -> str:
    first = source.text.lstrip().partition("\n")[0]
    return first.removeprefix("#").partition(": ")[2].strip() if first.startswith("#") else ""


def _check_keys(values: dict[Any, Any], known: Sequence[str], prefix: str, what: str, source: Source, problems: list[Problem]) -> None:
    for key in values:
        if key not in known:
            where = line_of(values, key, source.origin)
            problems.append(
                Problem(
                    f"{what} has no such key{suggest(str(key), known)}",
                    place=f"{prefix}{key}",
                    remedy=f"it has {', '.join(known)}",
                    origin=where,
                )
            )


def _base(values: dict[str, Any], source: Source, on_top: Sequence[Layer], problems: list[Problem]) -> list[Layer]:
    base = values.get("base", "default")
    if not isinstance(base, str | dict):
        problems.append(
            Problem(f"expected a recipe's name or a mapping, got {show(base)}", place="base", origin=line_of(values, "base", source.origin))
        )
        base = "default"
    return _start(base, source, on_top, problems)


def _start(recipe: str | dict[str, Any], source: Source, on_top: Sequence[Layer], problems: list[Problem]) -> list[Layer]:
    """The layers of a recipe that rungs are built on, with those that go on top of each."""
    layers = [*base_layers(recipe, source, problems), *on_top]
    for setting in (setting for layer in layers for setting in layer if setting.key == "train.seed"):
        problems.append(Problem("a study sets the seeds in `seeds`", place="train.seed", origin=setting.origin))
    return layers


def _arrangement(values: dict[str, Any], source: Source, problems: list[Problem]) -> Arrangement:
    given = [name for name in _ARRANGEMENTS if name in values]
    if len(given) > 1:
        problems.append(Problem(f"{' and '.join(given)}: a study has only one of these", origin=line_of(values, given[1], source.origin)))
    return given[0] if given else "independent"


def _changes(
    values: dict[str, Any], arrangement: Arrangement, on_top: Sequence[Layer], source: Source, problems: list[Problem]
) -> list[_Change]:
    """The base and the rungs after it."""
    name = values.get("base_name", _BASE)
    if not isinstance(name, str) or (arrangement == "grid" and "base_name" in values):
        why = "a grid's base is its first cell" if arrangement == "grid" else f"expected a name, got {show(name)}"
        problems.append(Problem(why, place="base_name", origin=line_of(values, "base_name", source.origin)))
        name = _BASE
    section = values.get(arrangement)
    origin = line_of(values, arrangement, source.origin)
    if section is not None and not isinstance(section, dict):
        problems.append(Problem(f"expected names with the settings of each, got {show(section)}", place=arrangement, origin=origin))
        section = None
    if arrangement == "grid":
        return _grid(section or {}, origin, source, problems)
    changes = [_Change(Rung(name), (), origin)]
    above = name
    for title, settings in (section or {}).items():
        where = line_of(section or {}, title, source.origin)
        called = f"{arrangement}: {title}"
        layer = _layer(settings, called, where, source, problems, arrangement)
        before = above if arrangement == "ladder" else None
        extended: tuple[Layer, ...] = ()
        for reference in (setting for setting in layer if setting.key in _REFERENCES):
            if reference.key == "on":
                before = _earlier(reference, [change.rung.name for change in changes], section or {}, called, problems) or before
            else:
                extended = _extended(reference, called, source, on_top, problems)
        rung = Rung(str(title), _settings(layer), before)
        above = above if rung.branch else rung.name
        own = [setting for setting in layer if setting.key not in _REFERENCES]
        changes.append(_Change(rung, (own,), where, extended))
    return changes


def _earlier(on: Setting, above: Sequence[str], section: dict[Any, Any], called: str, problems: list[Problem]) -> str | None:
    """The rung that another is `on`; None, and a problem, if there is no such rung above it."""
    name = str(on.value)
    if name in above:
        return name
    later = any(str(title) == name for title in section)
    why = f"{name!r} is not above it" if later else f"there is no rung {name!r} above it{suggest(name, above)}"
    problems.append(Problem(why, place=f"{called}: on", origin=on.origin))
    return None


def _extended(extends: Setting, called: str, source: Source, on_top: Sequence[Layer], problems: list[Problem]) -> tuple[Layer, ...]:
    """The layers of the recipe that a rung is built on instead of the base; none, and a problem, if it cannot be read."""
    if not isinstance(extends.value, str):
        problems.append(
            Problem(
                f"expected the name of a recipe or a file, got {show(extends.value)}", place=f"{called}: extends", origin=extends.origin
            )
        )
        return ()
    try:
        return tuple(_start(extends.value, source, on_top, problems))
    except InputError as error:
        problems += [problem.within(f"{called}: extends").written(extends.origin) for problem in error.problems]
        return ()


def _layer(settings: Any, title: str, where: str, source: Source, problems: list[Problem], arrangement: Arrangement | None = None) -> Layer:
    """The settings of a rung, or of the section quick. `extends` and `on` are kept if the arrangement allows them."""
    if not isinstance(settings, dict):
        problems.append(Problem(f"expected settings such as {{augment.flip: 0.5}}, got {show(settings)}", place=title, origin=where))
        return []
    layer = read_layer(settings, source.origin, problems)
    misplaced = [setting for setting in layer if _REFERENCES.get(setting.key, arrangement) != arrangement]
    for setting in misplaced:
        may = "extend a recipe" if setting.key == "extends" else "be built on another"
        problems.append(
            Problem(f"only a rung of `{_REFERENCES[setting.key]}` may {may}", place=f"{title}: {setting.key}", origin=setting.origin)
        )
    return [setting for setting in layer if setting not in misplaced]


def _grid(section: dict[Any, Any], origin: str, source: Source, problems: list[Problem]) -> list[_Change]:
    factors = [list(_options(factor, options, section, source, problems)) for factor, options in section.items()]
    if not factors or not all(factors):
        problems.append(Problem("expected factors with options, such as augment.flip: [0, 0.5]", place="grid", origin=origin))
        return [_Change(Rung(_BASE), (), origin)]
    cells = 1
    for options in factors:
        cells *= len(options)
    if cells > _MOST_RUNGS:
        problems.append(Problem(f"it has {cells:,} cells, and at most {_MOST_RUNGS:,} are allowed", place="grid", origin=origin))
        return [_Change(Rung(_BASE), (), origin)]
    changes = []
    for cell in itertools.product(*factors):
        layers = tuple(layer for _, layer in cell)
        chosen = dict(zip((str(factor) for factor in section), (option for option, _ in cell), strict=True))
        settings = {key: value for layer in layers for key, value in _settings(layer).items()}
        changes.append(_Change(Rung(", ".join(chosen.values()), settings, None, chosen), layers, origin))
    return changes


def _options(factor: Any, options: Any, section: dict[Any, Any], source: Source, problems: list[Problem]) -> Iterator[tuple[str, Layer]]:
    where = line_of(section, factor, source.origin)
    if isinstance(options, list):
        if factor not in {each.key for each in fields()}:
            nearest = suggest(str(factor), sorted({each.key for each in fields()}))
            problems.append(
                Problem(f"a list of values needs a recipe key, and there is no such key{nearest}", place=f"grid: {factor}", origin=where)
            )
        last = str(factor).rpartition(".")[2]
        for value in options:
            said = str(value).lower() if isinstance(value, bool) else str(plain(value, where))
            yield f"{last} {said}", read_layer({str(factor): value}, where, problems)
    elif isinstance(options, dict):
        for name, settings in options.items():
            here = line_of(options, name, source.origin)
            yield str(name), [] if settings is None else _layer(settings, f"grid: {factor}: {name}", here, source, problems)
    else:
        problems.append(Problem(f"expected a list of values or named changes, got {show(options)}", place=f"grid: {factor}", origin=where))


def _settings(layer: Layer) -> dict[str, Any]:
    return {setting.key: setting.value for setting in layer}


def _recipes(base: list[Layer], changes: Sequence[_Change], problems: list[Problem]) -> tuple[tuple[Rung, ...], tuple[Recipe, ...]]:
    """The recipe of each rung; a rung equal to another, or without a valid recipe, is a problem."""
    built: dict[str, Recipe] = {}
    twins: dict[str, str] = {}
    slugs: dict[str, str] = {}
    layers_of: dict[str, list[Layer]] = {}
    for change in changes:
        rung, name, slug = change.rung, change.rung.name, change.rung.slug
        if not slug:
            problems.append(Problem("a name needs a letter or a digit", place=repr(name), origin=change.origin))
        elif slug in slugs:
            problems.append(Problem(f"too similar to {slugs[slug]!r}: both are {slug} on disk", place=repr(name), origin=change.origin))
        slugs[slug] = name
        below = base if rung.before is None else layers_of[rung.before]
        layers_of[name] = layers = [*(change.extended or below), *change.layers]
        if "extends" in rung.settings and not change.extended:
            continue
        try:
            recipe = build_recipe(layers)
        except InputError as error:
            of = f"{name!r}, which extends {rung.settings['extends']}" if change.extended else repr(name)
            placed = [problem in problems or (problem.origin and not change.extended) for problem in error.problems]
            problems += [problem if known else problem.within(of) for problem, known in zip(error.problems, placed, strict=True)]
            continue
        if "train.seed" in rung.settings:
            problems.append(Problem("train.seed is set by `seeds`", place=repr(name), origin=change.origin))
        splits, others = (flat(each) for each in (recipe, next(iter(built.values()), recipe)))
        if kept := [key for key in _OF_THE_STUDY if splits[key] != others[key]]:
            problems.append(
                Problem(
                    f"{', '.join(kept)}: all rungs of a study must have the same splits",
                    place=repr(name),
                    remedy="set it in the base",
                    origin=change.origin,
                )
            )
        twin = twins.setdefault(identity(recipe), name)
        if twin != name:
            problems.append(Problem(f"{name!r} changes nothing: it is the recipe of {twin!r}", origin=change.origin))
        built[name] = _with_whole_paths(recipe)
    return tuple(change.rung for change in changes), tuple(built.values())


def _with_whole_paths(recipe: Recipe) -> Recipe:
    """With absolute paths: the study may be continued from another folder."""
    weights, taxonomy = recipe.model.weights, recipe.data.taxonomy
    if weights not in ("pretrained", "none"):
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": _whole(weights)})})
    if taxonomy not in ("auto", "none"):
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"taxonomy": _whole(taxonomy)})})
    return recipe


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _ensembles(values: dict[str, Any], rungs: Sequence[str], source: Source, problems: list[Problem]) -> tuple[StudyEnsemble, ...]:
    """The section `ensembles`."""
    section = values.get("ensembles", {})
    where = line_of(values, "ensembles", source.origin)
    if not isinstance(section, dict):
        problems.append(Problem(f"expected names with the method of each, got {show(section)}", place="ensembles", origin=where))
        return ()
    found: list[StudyEnsemble] = []
    for title, given in section.items():
        name, here = str(title), line_of(section, title, source.origin)
        if not isinstance(given, dict):
            problems.append(
                Problem(f"expected a method, such as {{method: mean}}, got {show(given)}", place=f"ensembles: {name}", origin=here)
            )
            continue
        _check_keys(given, _ENSEMBLE_KEYS, f"ensembles: {name}: ", "an ensemble", source, problems)
        members = given.get("members", list(rungs))
        if not isinstance(members, list) or len(members) < 2 or len(set(map(str, members))) < len(members):
            problems.append(
                Problem(f"members: expected at least two different rungs, got {show(members)}", place=f"ensembles: {name}", origin=here)
            )
            continue
        unknown = [str(member) for member in members if str(member) not in rungs]
        problems += [
            Problem(f"the study has no rung {member!r}{suggest(member, rungs)}", place=f"ensembles: {name}", origin=here)
            for member in unknown
        ]
        options = {key: str(given[key]) for key in _ENSEMBLE_KEYS[1:] if key in given}
        ensemble = StudyEnsemble(name, tuple(map(str, members)), options)
        try:
            ensemble.chosen()
        except InputError as error:
            problems += [problem.within(f"ensembles: {name}").written(here) for problem in error.problems]
        if not ensemble.slug or ensemble.slug in [each.slug for each in found]:
            problems.append(Problem(f"{name!r} needs a unique name, with letters or digits", place="ensembles", origin=here))
        found.append(ensemble)
    return tuple(found)


def _metrics(values: dict[str, Any], source: Source, problems: list[Problem]) -> tuple[str, ...]:
    """The key `metrics`."""
    given, where = values.get("metrics", []), line_of(values, "metrics", source.origin)
    if not isinstance(given, list):
        problems.append(Problem(f"expected a list such as [top5, macro_f1], got {show(given)}", place="metrics", origin=where))
        return ()
    try:
        return known_metrics([str(key) for key in given])
    except InputError as error:
        problems += [problem.written(where) for problem in error.problems]
        return ()


def _published(values: dict[str, Any], rungs: Sequence[str], source: Source, problems: list[Problem]) -> tuple[Published, ...]:
    """The section `published`."""
    section, where = values.get("published", {}), line_of(values, "published", source.origin)
    if not isinstance(section, dict):
        problems.append(Problem(f"expected sources with the figures of rungs, got {show(section)}", place="published", origin=where))
        return ()
    found = []
    for title, given in section.items():
        name, here = str(title).strip(), line_of(section, title, source.origin)
        if not name or not isinstance(given, dict):
            problems.append(
                Problem(f"expected figures such as {{{rungs[0]}: 88.2}}, got {show(given)}", place=f"published: {name}", origin=here)
            )
            continue
        for rung, figure in given.items():
            at = line_of(given, rung, source.origin)
            if str(rung) not in rungs:
                why = f"the study has no rung {str(rung)!r}{suggest(str(rung), rungs)}"
            elif isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure <= 100:
                why = f"expected per cent, got {show(figure)}"
            else:
                continue
            problems.append(Problem(why, place=f"published: {name}: {rung}", origin=at))
        found.append(Published(name, {str(rung): float(figure) for rung, figure in given.items() if isinstance(figure, int | float)}))
    return tuple(found)


def _impossible(ensemble: StudyEnsemble, recipes: dict[str, Recipe]) -> list[str]:
    """Why it could not be made; nothing if its method or its members are a problem already."""
    try:
        method = ensemble.chosen()
    except InputError:
        return []
    return list(impossible(method, recipes)) if len(recipes) == len(ensemble.members) else []


def _seeds(given: Any, key: str, origin: str, problems: list[Problem]) -> tuple[int, ...]:
    values = list(range(given)) if isinstance(given, int) and not isinstance(given, bool) else given
    if (
        not isinstance(values, list)
        or not values
        or any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in values)
    ):
        problems.append(Problem(f"expected a number of seeds or a list of whole numbers, got {show(given)}", place=key, origin=origin))
        return (0,)
    if len(set(values)) < len(values):
        problems.append(Problem(f"{show(given)} lists a seed twice", place=key, origin=origin))
    return tuple(int(each) for each in values)


# ---- the quick form ---------------------------------------------------------------------------------------------------------------


def _quick(values: dict[str, Any], source: Source, problems: list[Problem]) -> _Quick:
    """The section `quick`, checked whether it is used or not. Its settings are checked with the recipes that they change."""
    if "quick" not in values:
        return _Quick()
    section = values["quick"]
    if not isinstance(section, dict):
        problems.append(
            Problem(
                f"expected {', '.join(_QUICK_KEYS)}, got {show(section)}", place="quick", origin=line_of(values, "quick", source.origin)
            )
        )
        return _Quick()
    _check_keys(section, _QUICK_KEYS, "quick.", "the section quick", source, problems)
    lines = {key: line_of(section, key, source.origin) for key in _QUICK_KEYS}
    rungs = section.get("rungs", {})
    if not isinstance(rungs, dict):
        problems.append(Problem(f"expected names with the settings of each, got {show(rungs)}", place="quick.rungs", origin=lines["rungs"]))
        rungs = {}
    places = {str(name): line_of(rungs, name, source.origin) for name in rungs}
    return _Quick(
        _layer(section.get("base", {}), "quick.base", lines["base"], source, problems),
        {str(name): _layer(rungs[name], f"quick.rungs: {name}", places[str(name)], source, problems) for name in rungs},
        places,
        _seeds(section["seeds"], "quick.seeds", lines["seeds"], problems) if "seeds" in section else None,
    )


def _in_quick_form(change: _Change, quick: _Quick) -> _Change:
    """With the section's settings of this rung, which the rungs built on it have too."""
    layer = quick.rungs.get(change.rung.name, [])
    rung = replace(change.rung, settings=change.rung.settings | _settings(layer))
    return replace(change, rung=rung, layers=(*change.layers, layer))


def _without_quick(source: Source) -> InputError:
    have = [name for name in STUDIES.names() if "quick" in parse(STUDIES.text(name), name)]
    example = "quick: {seeds: 1, base: {train.epochs: 2, data.size: 32}}"
    others = f"; studies that come with Fieldmark and have one: {', '.join(have)}" if have else ""
    return InputError(f"{source.origin} has no section quick, which --quick needs", hint=f"Write one, such as {example}{others}.")
