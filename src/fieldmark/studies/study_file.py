"""Study files: a base recipe, named changes of it, and seeds.

    base: default                      # a recipe's name, a file, or a mapping with `extends` as in a recipe file
    base_name: plain                   # what the table calls it
    seeds: 3                           # 0, 1 and 2; or a list
    ladder:                            # each change on top of those before it
      flip: {augment.flip: 0.5}
      smoothing: {loss.label_smoothing: 0.1}

Instead of `ladder`: `independent`, each change alone on the base; or `grid`, all combinations of the options of factors, the first option
of each being the base:

    grid:
      augment.flip: [0, 0.5]           # values of a recipe key
      optimiser:                       # or named changes
        sgd: {optim.name: sgd, optim.lr: 0.05}
        adamw: {optim.name: adamw}

A file with none of them has one recipe, whose spread over seeds is the noise that changes have to stand out from.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.core.errors import InputError
from fieldmark.core.fields import fields
from fieldmark.core.presets import STUDIES, Source, suggest
from fieldmark.core.recipe import Layer, base_layers, build_recipe, identity, read_layer
from fieldmark.core.schema import Recipe
from fieldmark.core.yaml_text import line_of, parse, plain, show
from fieldmark.studies.plan import Arrangement, Rung, Study

_ARRANGEMENTS: tuple[Arrangement, ...] = ("ladder", "independent", "grid")
_KEYS = ("base", "base_name", "seeds", *_ARRANGEMENTS, "search")
_MOST_RUNGS = 1000
_BASE = "base"
_OF_THE_STUDY = frozenset(f"data.{name}" for name in ("splits", "split_seed", "val_fraction", "test_fraction", "folds", "fold"))


@dataclass(frozen=True)
class _Change:
    """What a rung adds to the recipe that it is built on."""

    rung: Rung
    layers: tuple[Layer, ...]
    origin: str


def load_study(name: str | Path, overrides: Sequence[str] = (), seeds: int | None = None) -> Study:
    """A study that comes with Fieldmark, or a file. `overrides` (`key=value`) change the base, which the changes are made to.

    Raises InputError naming every problem at once, each with where it stands.
    """
    source = STUDIES.read(name)
    values = parse(source.text, source.origin)
    problems: list[str] = []
    base = _base(values, source, overrides, problems)
    arrangement = _arrangement(values, source, problems)
    changes = _changes(values, arrangement, source, problems)
    rungs, recipes = _recipes(base, changes, arrangement, problems)
    chosen = _seeds(values.get("seeds", 3), line_of(values, "seeds", source.origin), problems) if seeds is None else tuple(range(seeds))
    if seeds is not None and seeds < 1:
        problems.append(f"--seeds: expected at least 1, got {seeds}")
    _refuse(problems)
    given = str(name) if source.folder is None else str(Path(name).resolve())
    return Study(
        name=Path(name).stem,
        title=_title(source),
        source=given,
        settings=tuple(overrides),
        arrangement=arrangement,
        rungs=rungs,
        recipes=recipes,
        seeds=chosen,
    )


def search_section(name: str | Path, overrides: Sequence[str] = ()) -> tuple[list[Layer], dict[str, Any], str]:
    """The base's layers and the section `search` of a study file, with the file's name. Raises InputError where it has none."""
    source = STUDIES.read(name)
    values = parse(source.text, source.origin)
    problems: list[str] = []
    base = _base(values, source, overrides, problems)
    section = values.get("search")
    if not isinstance(section, dict):
        problems.append(f"{source.origin} has no section search, which says what is searched over")
        section = {}
    _refuse(problems)
    return base, section, source.origin


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(*dict.fromkeys(problems), hint="docs/studies.md describes study files; `fieldmark fields` lists a recipe's keys.")


def _title(source: Source) -> str:
    first = source.text.lstrip().partition("\n")[0]
    return first.removeprefix("#").partition(": ")[2].strip() if first.startswith("#") else ""


def _base(values: dict[str, Any], source: Source, overrides: Sequence[str], problems: list[str]) -> list[Layer]:
    for key in values:
        if key not in _KEYS:
            where = line_of(values, key, source.origin)
            problems.append(f"{key}: a study has no such key{suggest(str(key), _KEYS)} ({where}); it has {', '.join(_KEYS)}")
    base = values.get("base", "default")
    if not isinstance(base, str | dict):
        problems.append(f"base: expected a recipe's name or a mapping, got {show(base)} ({line_of(values, 'base', source.origin)})")
        base = "default"
    layers = base_layers(base, source, overrides, problems)
    for setting in (setting for layer in layers for setting in layer if setting.key == "train.seed"):
        problems.append(f"train.seed: the seeds of a study are its `seeds` ({setting.origin})")
    return layers


def _arrangement(values: dict[str, Any], source: Source, problems: list[str]) -> Arrangement:
    given = [name for name in _ARRANGEMENTS if name in values]
    if len(given) > 1:
        problems.append(f"{' and '.join(given)}: a study has one of them ({line_of(values, given[1], source.origin)})")
    return given[0] if given else "independent"


def _changes(values: dict[str, Any], arrangement: Arrangement, source: Source, problems: list[str]) -> list[_Change]:
    """The base and what comes after it."""
    name = values.get("base_name", _BASE)
    if not isinstance(name, str) or (arrangement == "grid" and "base_name" in values):
        why = "a grid's base is its first cell" if arrangement == "grid" else f"expected a name, got {show(name)}"
        problems.append(f"base_name: {why} ({line_of(values, 'base_name', source.origin)})")
        name = _BASE
    section = values.get(arrangement)
    origin = line_of(values, arrangement, source.origin)
    if section is not None and not isinstance(section, dict):
        problems.append(f"{arrangement}: expected names with the settings of each, got {show(section)} ({origin})")
        section = None
    if arrangement == "grid":
        return _grid(section or {}, origin, source, problems)
    changes = [_Change(Rung(name), (), origin)]
    for title, settings in (section or {}).items():
        where = line_of(section or {}, title, source.origin)
        layer = _layer(settings, f"{arrangement}: {title}", where, source, problems)
        before = changes[-1].rung.name if arrangement == "ladder" else None
        changes.append(_Change(Rung(str(title), _settings(layer), before), (layer,), where))
    return changes


def _layer(settings: Any, title: str, where: str, source: Source, problems: list[str]) -> Layer:
    if not isinstance(settings, dict):
        problems.append(f"{title}: expected settings such as {{augment.flip: 0.5}}, got {show(settings)} ({where})")
        return []
    return read_layer(settings, source.origin, problems)


def _grid(section: dict[Any, Any], origin: str, source: Source, problems: list[str]) -> list[_Change]:
    factors = [list(_options(factor, options, section, source, problems)) for factor, options in section.items()]
    if not factors or not all(factors):
        problems.append(f"grid: expected factors with options, such as augment.flip: [0, 0.5] ({origin})")
        return [_Change(Rung(_BASE), (), origin)]
    cells = 1
    for options in factors:
        cells *= len(options)
    if cells > _MOST_RUNGS:
        problems.append(f"grid: it has {cells:,} cells, and {_MOST_RUNGS:,} are the most ({origin})")
        return [_Change(Rung(_BASE), (), origin)]
    changes = []
    for cell in itertools.product(*factors):
        layers = tuple(layer for _, layer in cell)
        chosen = dict(zip((str(factor) for factor in section), (option for option, _ in cell), strict=True))
        settings = {key: value for layer in layers for key, value in _settings(layer).items()}
        changes.append(_Change(Rung(", ".join(chosen.values()), settings, None, chosen), layers, origin))
    return changes


def _options(factor: Any, options: Any, section: dict[Any, Any], source: Source, problems: list[str]) -> Iterator[tuple[str, Layer]]:
    where = line_of(section, factor, source.origin)
    if isinstance(options, list):
        if factor not in {each.key for each in fields()}:
            nearest = suggest(str(factor), sorted({each.key for each in fields()}))
            problems.append(f"grid: {factor}: a list of values belongs to a recipe key, and there is no such key{nearest} ({where})")
        last = str(factor).rpartition(".")[2]
        for value in options:
            said = str(value).lower() if isinstance(value, bool) else str(plain(value, where))
            yield f"{last} {said}", read_layer({str(factor): value}, where, problems)
    elif isinstance(options, dict):
        for name, settings in options.items():
            here = line_of(options, name, source.origin)
            yield str(name), [] if settings is None else _layer(settings, f"grid: {factor}: {name}", here, source, problems)
    else:
        problems.append(f"grid: {factor}: expected a list of values or named changes, got {show(options)} ({where})")


def _settings(layer: Layer) -> dict[str, Any]:
    return {setting.key: setting.value for setting in layer}


def _recipes(
    base: list[Layer], changes: list[_Change], arrangement: Arrangement, problems: list[str]
) -> tuple[tuple[Rung, ...], tuple[Recipe, ...]]:
    """The recipe of each rung; every rung that is like another, or that has no recipe, is a problem."""
    built: list[Recipe] = []
    twins: dict[str, str] = {}
    slugs: dict[str, str] = {}
    layers = list(base)
    for change in changes:
        name, slug = change.rung.name, change.rung.slug
        if not slug:
            problems.append(f"{name!r}: a name needs a letter or a digit ({change.origin})")
        elif slug in slugs:
            problems.append(f"{name!r}: too much like {slugs[slug]!r}; both would be {slug} on disk ({change.origin})")
        slugs[slug] = name
        layers = [*(layers if arrangement == "ladder" else base), *change.layers]
        try:
            recipe = build_recipe(layers)
        except InputError as error:
            problems += error.problems
            continue
        if "train.seed" in change.rung.settings:
            problems.append(f"{name!r}: train.seed is what `seeds` is for ({change.origin})")
        if kept := sorted(set(change.rung.settings) & _OF_THE_STUDY):
            problems.append(f"{name!r}: {', '.join(kept)}: all rungs of a study have the same splits; set it in the base ({change.origin})")
        twin = twins.setdefault(identity(recipe), name)
        if twin != name:
            problems.append(f"{name!r} changes nothing: it is the recipe of {twin!r} ({change.origin})")
        built.append(_with_whole_paths(recipe))
    return tuple(change.rung for change in changes), tuple(built)


def _with_whole_paths(recipe: Recipe) -> Recipe:
    """Files made absolute: the study may be continued from another folder."""
    weights, taxonomy = recipe.model.weights, recipe.data.taxonomy
    if weights not in ("pretrained", "none"):
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": _whole(weights)})})
    if taxonomy not in ("auto", "none"):
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"taxonomy": _whole(taxonomy)})})
    return recipe


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _seeds(given: Any, origin: str, problems: list[str]) -> tuple[int, ...]:
    values = list(range(given)) if isinstance(given, int) and not isinstance(given, bool) else given
    if (
        not isinstance(values, list)
        or not values
        or any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in values)
    ):
        problems.append(f"seeds: expected how many, or a list of whole numbers, got {show(given)} ({origin})")
        return (0,)
    if len(set(values)) < len(values):
        problems.append(f"seeds: {show(given)} names a seed twice ({origin})")
    return tuple(int(each) for each in values)
