"""The parts of a study, as its folder records them: rungs, datasets and seeds, and the run folder of each combination."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.files import storage_error, write_json
from fieldmark.core.names import suggest
from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import flat
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.layouts.location import locate
from fieldmark.ensembles.method import Method, method_of
from fieldmark.scoring.metrics import METRICS

Arrangement = Literal["ladder", "independent", "grid"]
SCHEMA = 1
QUICK = "Quick form: a rehearsal, not a measurement."
"""What every form of its table begins with."""
_LONGEST_SLUG = 80


class DamagedStudy(InputError):
    """A study.json that cannot be read; the runs in its folder may be sound."""


@dataclass(frozen=True)
class Rung:
    """One recipe of a study.

    settings: its own change as in the study file: dotted keys, and `extends` or `on`; empty for the base (a quick form adds its own)
    before: the rung that it is built on, in a ladder
    options: in a grid, the option of each factor
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    before: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return slug(self.name)

    @property
    def branch(self) -> bool:
        """Whether it is a side branch of a ladder: built on a rung that it names, and not kept by the rungs after it."""
        return "on" in self.settings


@dataclass(frozen=True)
class StudyEnsemble:
    """Runs of a study that are combined, for each dataset and seed: the rungs that are its `members`, and the options of its method."""

    name: str
    members: tuple[str, ...]
    method: dict[str, str]

    @property
    def slug(self) -> str:
        return slug(self.name)

    def chosen(self) -> Method:
        """Raises InputError if the options are not those of a method."""
        options = {key: value for key, value in self.method.items() if key != "method"}
        return method_of(self.method.get("method", "(none)"), **options)


@dataclass(frozen=True)
class Published:
    """What a source reports of the rungs, in per cent, by their names."""

    source: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class StudyDataset:
    """`name` is unique in the study, and the name of its folder; `given` is DATA as the user gave it, made absolute."""

    name: str
    given: str


@dataclass(frozen=True)
class PlannedRun:
    """One training of a study. `recipe` has its seed."""

    dataset: StudyDataset
    rung: Rung
    seed: int
    recipe: Recipe
    path: Path

    @property
    def name(self) -> str:
        return f"{self.dataset.name}/{self.rung.slug}/seed-{self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run's own manifest says so, and its report exists, which is written last."""
        folder = RunFolder(self.path)
        try:
            return folder.manifest().status == "finished" and folder.report_file.is_file()
        except InputError:
            return False


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is trained. The base is the first of `rungs`; `recipes` are theirs, in the same order, resolved except for the seed.

    source: the study as it was named on the command line, or the absolute path of its file
    settings: the `key=value` given with it
    quick: whether it is a rehearsal, by the section `quick` of the study file
    metrics: keys of further metrics of test in its tables, such as top5
    """

    name: str
    title: str
    source: str
    settings: tuple[str, ...]
    arrangement: Arrangement
    rungs: tuple[Rung, ...]
    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    quick: bool = False
    ensembles: tuple[StudyEnsemble, ...] = ()
    metrics: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StudyPlan(Study):
    """A study on its datasets, in its folder."""

    folder: Path
    datasets: tuple[StudyDataset, ...]

    @property
    def file(self) -> Path:
        return self.folder / "study.json"

    def run_path(self, dataset: StudyDataset, rung: Rung, seed: int) -> Path:
        return self.folder / "runs" / dataset.name / rung.slug / f"seed-{seed}"

    def run(self, dataset: StudyDataset, rung: Rung, seed: int) -> PlannedRun:
        recipe = self.recipes[self.rungs.index(rung)]
        seeded = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
        return PlannedRun(dataset, rung, seed, seeded, self.run_path(dataset, rung, seed))

    def runs(self) -> list[PlannedRun]:
        """Every run, one seed after another, so that all rungs have a first result early."""
        return [self.run(dataset, rung, seed) for seed in self.seeds for dataset in self.datasets for rung in self.rungs]

    def ensemble_path(self, dataset: StudyDataset, ensemble: StudyEnsemble, seed: int) -> Path:
        return self.folder / "ensembles" / dataset.name / ensemble.slug / f"seed-{seed}"

    def members(self, dataset: StudyDataset, ensemble: StudyEnsemble, seed: int) -> list[PlannedRun]:
        return [self.run(dataset, rung, seed) for name in ensemble.members for rung in self.rungs if rung.name == name]

    def save(self) -> None:
        values = {
            "schema": SCHEMA,
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "settings": list(self.settings),
            "arrangement": self.arrangement,
            "rungs": [
                asdict(rung) | {"recipe": recipe.model_dump(mode="json")} for rung, recipe in zip(self.rungs, self.recipes, strict=True)
            ],
            "datasets": [asdict(dataset) for dataset in self.datasets],
            "seeds": list(self.seeds),
            "quick": self.quick,
            "ensembles": [asdict(ensemble) for ensemble in self.ensembles],
            "metrics": list(self.metrics),
            "published": [asdict(each) for each in self.published],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.file, values)
        except OSError as error:
            raise storage_error(error, self.file) from error

    @classmethod
    def load(cls, folder: str | Path) -> StudyPlan:
        """Raises InputError if `folder` holds no study, and DamagedStudy if it holds a damaged one."""
        folder = Path(folder)
        file = folder / "study.json"
        if not file.is_file():
            raise InputError(f"{folder} is not the folder of a study: it has no {file.name}", hint="`fieldmark study run` makes one.")
        try:
            stored = _Stored.model_validate_json(file.read_bytes())
            rungs = [Rung(row.name, row.settings, row.before, row.options) for row in stored.rungs]
            recipes = [recipe_from(row.recipe, str(file)) for row in stored.rungs]
            datasets = [StudyDataset(row.name, row.given) for row in stored.datasets]
            ensembles = [StudyEnsemble(row.name, tuple(row.members), row.method) for row in stored.ensembles]
            metrics = known_metrics(stored.metrics)
            if unknown := {name for each in ensembles for name in each.members} - {rung.name for rung in rungs}:
                raise ValueError(f"ensembles have members that are not rungs: {unknown}")
            for listed in (
                [rung.slug for rung in rungs],
                [dataset.name for dataset in datasets],
                stored.seeds,
                [each.slug for each in ensembles],
            ):
                if len(set(listed)) < len(listed) or "" in listed:
                    raise ValueError(f"{listed} must be distinct and not empty")
        except (OSError, ValueError, InputError) as error:
            hint = f"`fieldmark study run … --out {folder}` writes it again; finished runs are kept."
            raise DamagedStudy(f"{file} is damaged: {str(error).splitlines()[0]}", hint=hint) from None
        return cls(
            folder=folder,
            name=stored.name,
            title=stored.title,
            source=stored.source,
            settings=tuple(stored.settings),
            arrangement=stored.arrangement,
            rungs=tuple(rungs),
            recipes=tuple(recipes),
            datasets=tuple(datasets),
            seeds=tuple(stored.seeds),
            quick=stored.quick,
            ensembles=tuple(ensembles),
            metrics=metrics,
            published=tuple(Published(each.source, each.figures) for each in stored.published),
        )

    def grown_from(self, earlier: StudyPlan) -> StudyPlan:
        """The plan with the datasets and seeds of an earlier one in the same folder.

        A study may grow: more seeds, datasets and rungs. Raises InputError naming everything that has changed instead, because the
        earlier runs would not belong in its table.
        """
        if earlier.quick != self.quick:
            there, here = ("quick", "full") if earlier.quick else ("full", "quick")
            raise InputError(f"{self.folder} holds the {there} form of a study, and this is the {here} form", hint="Choose another --out.")
        problems = []
        if earlier.arrangement != self.arrangement and len(earlier.rungs) > 1:
            problems.append(f"its changes are arranged as {earlier.arrangement} there, and as {self.arrangement} now")
        ours = dict(zip((rung.name for rung in self.rungs), self.recipes, strict=True))
        for rung, recipe in zip(earlier.rungs, earlier.recipes, strict=True):
            if rung.name not in ours:
                problems.append(f"{rung.name!r} is no longer in the study")
            elif changed := differences(recipe, ours[rung.name]):
                problems.append(f"{rung.name!r} has changed: {', '.join(changed)}")
        problems += [
            f"the ensemble {each.name!r} has changed; delete ensembles/*/{each.slug} there, and it is made again"
            for each in earlier.ensembles
            if any(each.name == other.name and each != other for other in self.ensembles)
            and any((self.folder / "ensembles").glob(f"*/{each.slug}"))
        ]
        before = {rung.name: rung.before for rung in self.rungs}
        moved = [rung for rung in earlier.rungs if rung.name in before and before[rung.name] != rung.before]
        if not problems and moved:
            one = moved[0]
            problems.append(f"a rung was inserted: {one.name!r} is built on {before[one.name]!r} now, and on {one.before!r} there")
        if problems:
            where = f"{self.folder} holds runs of a different version of this study: "
            raise InputError(*(where + problem for problem in problems), hint="Choose another --out, or move that folder away.")
        known = {dataset.given: dataset for dataset in earlier.datasets}
        fresh = [dataset for dataset in self.datasets if dataset.given not in known]
        datasets = named_datasets([dataset.given for dataset in fresh], taken=tuple(dataset.name for dataset in earlier.datasets))
        return replace(self, datasets=(*earlier.datasets, *datasets), seeds=tuple(sorted({*earlier.seeds, *self.seeds})))


def known_metrics(keys: Sequence[str]) -> tuple[str, ...]:
    """Keys of metrics that a study's tables may have besides top-1, each once. Raises InputError for others."""
    choice = [key for key in METRICS if key != "top1"]
    problems = [Problem(f"there is no metric {key!r}{suggest(key, choice)}", place="metrics") for key in keys if key not in choice]
    if problems:
        raise InputError(*problems, hint=f"The metrics are {', '.join(choice)}.")
    return tuple(dict.fromkeys(keys))


class _StoredPart(BaseModel):
    model_config = ConfigDict(strict=True)


class _StoredRung(_StoredPart):
    name: str
    settings: dict[str, Any]
    before: str | None
    options: dict[str, str]
    recipe: dict[str, Any]


class _StoredEnsemble(_StoredPart):
    name: str
    members: Annotated[list[str], Field(min_length=2)]
    method: dict[str, str]

    @model_validator(mode="after")
    def _known(self) -> _StoredEnsemble:
        if "method" not in self.method:
            raise ValueError("an ensemble has no method")
        return self


class _StoredDataset(_StoredPart):
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    given: Annotated[str, Field(min_length=1)]


class _StoredPublished(_StoredPart):
    source: Annotated[str, Field(min_length=1)]
    figures: dict[str, float]


class _Stored(_StoredPart):
    """study.json."""

    version: Annotated[Literal[1], Field(alias="schema")]
    name: str
    title: str
    source: str
    settings: list[str]
    arrangement: Arrangement
    rungs: Annotated[list[_StoredRung], Field(min_length=1)]
    datasets: Annotated[list[_StoredDataset], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    quick: bool = False
    ensembles: list[_StoredEnsemble] = []
    metrics: list[str] = []
    published: list[_StoredPublished] = []


def slug(name: str) -> str:
    """A name as part of a path: lower-case letters, digits, dots and hyphens, at most 80 of them."""
    made = re.sub(r"[^\w.]+", "-", name.lower()).strip("-._")
    if len(made) <= _LONGEST_SLUG:
        return made
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{made[: _LONGEST_SLUG - 9]}-{digest}"


def named_datasets(given: list[str], taken: tuple[str, ...] = ()) -> tuple[StudyDataset, ...]:
    """Each dataset with a unique name: that of its folder, with a number if that is taken."""
    datasets: list[StudyDataset] = []
    for text in given:
        there = _existing(text)
        absolute = text if there is None else str(there)
        if any(dataset.given == absolute for dataset in datasets):
            raise InputError(f"{text} is given twice")
        wanted = slug(text.removeprefix("hf:") if there is None else there.name) or "data"
        used = {*taken, *(dataset.name for dataset in datasets)}
        name = next(name for name in (wanted, *(f"{wanted}-{number}" for number in range(2, len(used) + 3))) if name not in used)
        datasets.append(StudyDataset(name, absolute))
    return tuple(datasets)


def require_there(datasets: Iterable[StudyDataset]) -> None:
    """Raise InputError for a dataset that is named by a path at which nothing is."""
    for dataset in datasets:
        if dataset.given != "birds" and not dataset.given.startswith("hf:"):
            locate(dataset.given)


def _existing(text: str) -> Path | None:
    try:
        there = Path(text).expanduser()
        return there.resolve() if there.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user, a zero byte: reading it will raise the error
        return None


def differences(before: Recipe, after: Recipe) -> list[str]:
    """In words, the keys in which two recipes differ, except train.seed."""
    one, other = flat(before), flat(after)
    keys = [key for key in dict.fromkeys([*one, *other]) if key != "train.seed" and one.get(key) != other.get(key)]
    return [f"{key} {_value(one, key)} → {_value(other, key)}" for key in keys]


def _value(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "(none)"
