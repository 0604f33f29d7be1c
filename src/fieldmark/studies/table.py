"""The answer of a study: for each dataset and rung its accuracy, its gains with what they show, and its cost. Pure: nothing is read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from unicodedata import category

import numpy as np

from fieldmark.core.names import some
from fieldmark.studies.ensembles import EnsembleRow
from fieldmark.studies.plan import Arrangement, Rung, StudyDataset, StudyPlan
from fieldmark.studies.results import Absent, Images, Outcome, Results
from fieldmark.studies.stages import StageRow, stage_rows
from fieldmark.studies.statistics import Gain, Spread, gains, smallest_gain, spread

_NAMED = 8
"""How many runs a note names."""
_LONGEST = 500
_BREAKING = ("Cc", "Zl", "Zp")
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_VERSIONS = ("fieldmark", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Cost:
    """Means over the seeds of a rung; `macs` are multiply-adds an image, `seconds` those of training."""

    parameters: float
    trainable: float
    macs: float
    epochs: float
    steps: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Row:
    """One rung on one dataset; `number` is its place in the plan, 0 for the base. Accuracies in per cent, gains in points.

    `name` and `change`, as all text of a table, are single lines.

    `test_low` to `test_high` is the 95 % interval of the mean test accuracy, None where it has one seed. What is None otherwise was not
    measured, or cannot be compared.
    """

    number: int
    rung: Rung
    name: str
    change: str
    planned: int
    finished: int
    val: Spread | None
    test: Spread | None
    test_low: float | None
    test_high: float | None
    over_before: Gain | None
    over_base: Gain | None
    cost: Cost | None

    @property
    def on(self) -> str | None:
        """The rung that a side branch of a ladder is built on; None for all other rungs."""
        return one_line(str(self.rung.before)) if self.rung.branch else None


@dataclass(frozen=True)
class Effect:
    """In a grid: what `option` of `factor` gains over its first option, `against`, on average over the other factors."""

    factor: str
    option: str
    against: str
    gain: Gain


@dataclass(frozen=True)
class DatasetTable:
    """What the study found on one dataset.

    images, classes: of test; None before any run has finished
    stages: of the rungs that were trained in several
    ensembles: of the rungs, one for each seed
    comparisons: how many the intervals are corrected for
    chosen: of the rungs that can be compared, the one with the highest mean val top-1
    noise: standard deviation of test top-1 over seeds in points, pooled over the rungs
    smallest: the gain in points that 80 % of such studies would show
    headline, answer, verdicts, notes: in words; the answer begins with the headline
    """

    dataset: StudyDataset
    name: str
    images: int | None
    classes: int | None
    rows: tuple[Row, ...]
    effects: tuple[Effect, ...]
    stages: tuple[StageRow, ...]
    ensembles: tuple[EnsembleRow, ...]
    comparisons: int
    chosen: Row | None
    noise: float | None
    smallest: float | None
    headline: str
    answer: str
    verdicts: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StudyTable:
    name: str
    title: str
    arrangement: Arrangement
    seeds: tuple[int, ...]
    quick: bool
    datasets: tuple[DatasetTable, ...]


def study_table(plan: StudyPlan, results: Results) -> StudyTable:
    """The gains of each dataset are corrected together for all distinct comparisons that are made there.

    Runs are compared image by image, so a rung whose test is another than that of the base has no gain, and a note says why.
    """
    datasets = tuple(_dataset_table(plan, results, dataset) for dataset in plan.datasets)
    return StudyTable(one_line(plan.name), one_line(plan.title), plan.arrangement, plan.seeds, plan.quick, datasets)


def change_in_words(settings: dict[str, Any]) -> str:
    """As on the command line: `optim.lr=0.01, augment.flip=0.5`; what a rung is built on is put likewise."""
    values = {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in settings.items()}
    return one_line(", ".join(f"{key}={value}" for key, value in values.items()))


def one_line(text: str) -> str:
    """Without line breaks, control characters and what would turn the writing direction of the text around it; at most 500 characters."""
    kept = ("\ufffd" if category(each) == "Cs" else " " if category(each) in _BREAKING else each for each in text if each not in _TURNING)
    line = " ".join("".join(kept).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _dataset_table(plan: StudyPlan, results: Results, dataset: StudyDataset) -> DatasetTable:
    finished = {rung.name: results.of(dataset, rung) for rung in plan.rungs}
    images = _reference(finished, plan.rungs[0])
    alike = {name: [outcome for outcome in outcomes if outcome.images is images] for name, outcomes in finished.items()}
    hits = {name: np.stack([outcome.hits for outcome in outcomes]) for name, outcomes in alike.items() if outcomes}
    before, over_base, of_factors = _comparisons(plan, list(hits))
    found = _found([*before.values(), *over_base.values(), *of_factors.values()], hits)
    intervals = _intervals(hits)
    rows, stages = [], []
    for number, rung in enumerate(plan.rungs):
        outcomes = alike[rung.name] or finished[rung.name]
        stages += stage_rows(number, one_line(rung.name), outcomes)
        low, high = intervals.get(rung.name, (None, None))
        rows.append(
            Row(
                number,
                rung,
                one_line(rung.name),
                change_in_words(rung.settings),
                len(plan.seeds),
                len(finished[rung.name]),
                spread([outcome.figures.val_top1 for outcome in outcomes]) if outcomes else None,
                spread([outcome.figures.test_top1 for outcome in outcomes]) if outcomes else None,
                low,
                high,
                found[before[rung.name]] if rung.name in before else None,
                found[over_base[rung.name]] if rung.name in over_base else None,
                _cost(outcomes) if outcomes else None,
            )
        )
    effects = tuple(
        Effect(one_line(factor), one_line(option), one_line(first), found[weights])
        for (factor, option, first), weights in of_factors.items()
    )
    chosen = max((row for row in rows if row.rung.name in hits), key=lambda row: row.val.mean if row.val else -math.inf, default=None)
    judged = _judged(plan.arrangement, rows, effects)
    weights = np.array(list(found)) if found else None
    return DatasetTable(
        dataset,
        one_line(dataset.name),
        len(images) if images is not None else None,
        len(images.class_names) if images is not None else None,
        tuple(rows),
        effects,
        tuple(stages),
        results.ensembles.get(dataset, ()),
        len(found),
        chosen,
        _noise(list(alike.values())),
        None if weights is None else smallest_gain(list(hits.values()), weights),
        _headline(rows, judged, chosen),
        _answer(plan.arrangement, rows, judged, chosen),
        tuple(map(_verdict, judged)),
        tuple(map(one_line, _notes(results, dataset, finished, alike, images, len(plan.seeds)))),
    )


def _reference(finished: dict[str, list[Outcome]], base: Rung) -> Images | None:
    """The test images that are compared: those of most runs of the base, or of most runs where it has none."""
    outcomes = finished[base.name] or [outcome for each in finished.values() for outcome in each]
    counts = Counter(id(outcome.images) for outcome in outcomes)
    return max((outcome.images for outcome in outcomes), key=lambda images: counts[id(images)], default=None)


_Weights = tuple[float, ...]


def _comparisons(
    plan: StudyPlan, names: Sequence[str]
) -> tuple[dict[str, _Weights], dict[str, _Weights], dict[tuple[str, str, str], _Weights]]:
    """Contrasts of the rungs in `names`, in their order: by rung over the rung before, by rung over the base, and of options of factors."""

    def contrast(more: Sequence[str], less: Sequence[str]) -> _Weights:
        return tuple((name in more) / len(more) - (name in less) / len(less) for name in names)

    base = plan.rungs[0].name
    before = {
        rung.name: contrast([rung.name], [rung.before])
        for rung in plan.rungs
        if rung.name in names and rung.before is not None and rung.before in names
    }
    over_base = {name: contrast([name], [base]) for name in names if base in names and name != base}
    of_factors: dict[tuple[str, str, str], _Weights] = {}
    factors = plan.rungs[0].options if len(names) == len(plan.rungs) else {}
    for factor in factors if len(factors) > 1 else ():
        cells: dict[str, list[str]] = {}
        for rung in plan.rungs:
            cells.setdefault(rung.options[factor], []).append(rung.name)
        first, *others = cells
        of_factors |= {(factor, option, first): contrast(cells[option], cells[first]) for option in others}
    return before, over_base, of_factors


def _found(weights: Sequence[_Weights], hits: dict[str, np.ndarray]) -> dict[_Weights, Gain]:
    distinct = list(dict.fromkeys(weights))
    return dict(zip(distinct, gains(list(hits.values()), np.array(distinct)), strict=True)) if distinct else {}


def _intervals(hits: dict[str, np.ndarray]) -> dict[str, tuple[float | None, float | None]]:
    """Of the mean accuracy of each rung by itself, in per cent."""
    each = list(hits.values())
    alone = [gains(each, row[None])[0] for row in np.eye(len(each))]
    return {name: (level.low, level.high) for name, level in zip(hits, alone, strict=True)}


def _cost(outcomes: Sequence[Outcome]) -> Cost:
    figures = [outcome.figures for outcome in outcomes]
    return Cost(*(fmean(getattr(each, name) for each in figures) for name in Cost.__dataclass_fields__))


def _noise(rungs: Sequence[Sequence[Outcome]]) -> float | None:
    accuracies = [[outcome.figures.test_top1 for outcome in outcomes] for outcomes in rungs if len(outcomes) > 1]
    if not accuracies:
        return None
    free = [len(values) - 1 for values in accuracies]
    return math.sqrt(sum(k * float(np.var(values, ddof=1)) for k, values in zip(free, accuracies, strict=True)) / sum(free))


# ---- in words ---------------------------------------------------------------------------------------------------------------------


def _judged(arrangement: Arrangement, rows: Sequence[Row], effects: Sequence[Effect]) -> list[tuple[str, Gain | None, str]]:
    """The changes that the study asks about: name, gain and what it is a gain over."""
    if effects:
        return [(f"{effect.factor} {effect.option}", effect.gain, f"over {effect.against}, averaged") for effect in effects]
    if arrangement == "ladder":
        return [(row.name, row.over_before, f"over {row.on or 'the rung before'}") for row in rows[1:]]
    return [(row.name, row.over_base, "over the base") for row in rows[1:]]


def _headline(rows: Sequence[Row], judged: Sequence[tuple[str, Gain | None, str]], chosen: Row | None) -> str:
    known = [gain for _, gain, _ in judged if gain is not None]
    if chosen is None:
        return "No run has finished yet"
    if len(rows) == 1:
        return f"{chosen.name}: {_tested(chosen)}"
    if not known:
        return "Nothing can be compared yet"
    if all(gain.shown is None for gain in known):
        each = all(row.test_low is None for row in rows)
        return f"With {'one seed each' if each else 'so few seeds'}, no gain can be told from chance"
    better = sum(bool(gain.shown) and gain.value > 0 for gain in known)
    of = f"Of {len(judged)} changes," if len(judged) > 1 else "The one change"
    if len(judged) == 1:
        return f"{of} is {'' if better else 'not '}shown to help"
    return f"{of} {_counted(better)} shown to help"


def _answer(arrangement: Arrangement, rows: Sequence[Row], judged: Sequence[tuple[str, Gain | None, str]], chosen: Row | None) -> str:
    text = _headline(rows, judged, chosen)
    shown = [(name, gain) for name, gain, _ in judged if gain is not None and gain.shown]
    text += _listed([name for name, gain in shown if gain.value > 0])
    worse = [name for name, gain in shown if gain.value < 0]
    text += f"; {_counted(len(worse))} shown to harm{_listed(worse)}" if worse else ""
    unknown = sum(gain is None for _, gain, _ in judged)
    text += f"; {unknown} cannot be compared yet" if 0 < unknown < len(judged) else ""
    single = sum(gain is not None and gain.shown is None for _, gain, _ in judged)
    text += f"; {single} cannot be told from chance with one seed" if 0 < single < len(judged) - unknown else ""
    text += "."
    climbed = [row for row in rows if not row.rung.branch]
    if arrangement == "ladder" and len(climbed) > 2 and (together := climbed[-1].over_base) is not None and together.shown is not None:
        text += f" All together: {together.words()} over the base{', shown' if together.shown else ''}."
    if len(rows) > 1 and chosen is not None:
        text += f" Chosen on validation: {chosen.name}, {_tested(chosen)}."
    return text


def _tested(row: Row) -> str:
    assert row.test is not None
    if row.test.sd is None:
        return f"{row.test.mean:.1f} % on test, with one seed"
    return f"{row.test.mean:.1f} ± {row.test.sd:.1f} % on test, over {row.finished} seeds"


def _counted(number: int) -> str:
    return f"{'none' if number == 0 else number} {'is' if number < 2 else 'are'}"


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _verdict(judged: tuple[str, Gain | None, str]) -> str:
    name, gain, over = judged
    if gain is None:
        return f"{name}: cannot be compared yet"
    if gain.shown is None:
        return f"{name}: {gain.words()}"
    if gain.shown:
        return f"{name}: {gain.words()} {over}, shown" + ("" if gain.value > 0 else " to harm")
    return f"{name}: no difference shown ({gain.words().partition(', no')[0]})"


def _notes(
    results: Results,
    dataset: StudyDataset,
    finished: dict[str, list[Outcome]],
    alike: dict[str, list[Outcome]],
    images: Images | None,
    seeds: int,
) -> list[str]:
    outcomes = [outcome for each in finished.values() for outcome in each]
    absent = [run for run in results.absent if run.dataset == dataset]
    notes = []
    single = [name for name, each in alike.items() if len(each) == 1]
    if outcomes and max(len(each) for each in alike.values()) < 2:
        further = "More seeds are to come." if seeds > 1 else "Run the study again with --seeds 3."
        notes.append(f"One seed each: a gain cannot be told from chance, so no verdict is given. {further}")
    elif single:
        notes.append(
            f"One seed of {some(single, _NAMED)}: where it is compared, a gain cannot be told from chance, so no verdict is given."
        )
    waiting = [run for run in absent if run.state == "waiting"]
    if waiting:
        named = "; ".join(f"{_run(run)} ({run.reason})" for run in waiting[:_NAMED])
        more = f"; and {len(waiting) - _NAMED:,} more" if len(waiting) > _NAMED else ""
        notes.append(f"{len(waiting)} of {len(outcomes) + len(absent)} runs are not finished: {named}{more}.")
    for name, each in finished.items():
        others = [outcome for outcome in each if images is not None and outcome.images is not images]
        if others and images is not None:
            what = "is not compared" if len(others) == len(each) else f"is compared without seed {', '.join(str(o.seed) for o in others)}"
            notes.append(f"{name} {what}: {others[0].images.differs(images)}.")
    notes += [f"Left out: {_run(run)}: {run.reason}" for run in absent if run.state == "broken"]
    notes += [f"Failed: {_run(run)}: {run.reason}" for run in absent if run.state == "failed"]
    settings = [_made_with(outcome) for outcome in outcomes]
    for what in settings[0] if settings else ():
        counts = Counter(each[what] for each in settings)
        if len(counts) > 1:
            listed = ", ".join(f"{kind} in {number}" for kind, number in counts.most_common())
            notes.append(f"The runs differ in {what} ({listed}), which may be part of a difference.")
    return notes


def _made_with(outcome: Outcome) -> dict[str, str]:
    made = {"arithmetic": outcome.figures.precision, "device": outcome.figures.device}
    return made | {f"the version of {package}": outcome.versions.get(package, "unknown") for package in _VERSIONS}


def _run(run: Absent) -> str:
    return f"{run.rung.name}, seed {run.seed}"
