"""The findings of a study on one dataset, in words: headline, answer, a verdict on each change, and notes on what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fieldmark.core.names import some
from fieldmark.studies.plan import Arrangement, StudyDataset, StudyPlan
from fieldmark.studies.results import Absent, Images, Outcome, Results
from fieldmark.studies.statistics import Gain
from fieldmark.studies.table import Conclusions, Effect, Row, one_line

_NAMED = 8
"""How many runs a note names."""
_VERSIONS = ("fieldmark", "torch", "torchvision", "timm")


class _Change(NamedTuple):
    """A change that the study asks about: its name, its gain, and what that is a gain over."""

    name: str
    gain: Gain | None
    over: str


def conclusions(
    plan: StudyPlan,
    results: Results,
    dataset: StudyDataset,
    rows: Sequence[Row],
    effects: Sequence[Effect],
    chosen: Row | None,
    tied: Sequence[Row],
    images: Images | None,
) -> Conclusions:
    """`images` are the test images that rungs are compared on; None before any run has finished."""
    changes = _changes(plan.arrangement, rows, effects)
    return Conclusions(
        headline=_headline(rows, changes, chosen),
        answer=_answer(plan.arrangement, rows, changes, chosen, tied),
        verdicts=tuple(map(_verdict, changes)),
        notes=tuple(map(one_line, _notes(plan, results, dataset, images))),
    )


def _changes(arrangement: Arrangement, rows: Sequence[Row], effects: Sequence[Effect]) -> list[_Change]:
    if effects:
        return [_Change(f"{effect.factor} {effect.option}", effect.gain, f"over {effect.against}, averaged") for effect in effects]
    if arrangement == "ladder":
        return [_Change(row.name, row.over_before, f"over {row.on or 'the rung before'}") for row in rows[1:]]
    return [_Change(row.name, row.over_base, "over the base") for row in rows[1:]]


def _headline(rows: Sequence[Row], changes: Sequence[_Change], chosen: Row | None) -> str:
    known = [change.gain for change in changes if change.gain is not None]
    if chosen is None:
        return "No run has finished yet"
    if len(rows) == 1:
        return f"{chosen.name}: {_tested(chosen)}"
    if not known:
        return "Nothing can be compared yet"
    if all(gain.significant is None for gain in known):
        seeds = "one seed each" if all(row.measured is None or row.measured.test.sd is None for row in rows) else "so few seeds"
        return f"With {seeds}, no gain can be distinguished from chance"
    better = sum(gain.significant is True and gain.value > 0 for gain in known)
    if len(changes) == 1:
        return f"The one change {'helps' if better else 'does not help'} significantly"
    return f"Of {len(changes)} changes, {_counted(better, 'help')} significantly"


def _answer(arrangement: Arrangement, rows: Sequence[Row], changes: Sequence[_Change], chosen: Row | None, tied: Sequence[Row]) -> str:
    text = _headline(rows, changes, chosen)
    significant = [(change.name, change.gain) for change in changes if change.gain is not None and change.gain.significant]
    text += _listed([name for name, gain in significant if gain.value > 0])
    worse = [name for name, gain in significant if gain.value < 0]
    text += f"; {_counted(len(worse), 'harm')} significantly{_listed(worse)}" if worse else ""
    unknown = sum(change.gain is None for change in changes)
    text += f"; {unknown} cannot be compared yet" if 0 < unknown < len(changes) else ""
    single = sum(change.gain is not None and change.gain.significant is None for change in changes)
    text += f"; {single} cannot be distinguished from chance with one seed" if 0 < single < len(changes) - unknown else ""
    text += "."
    climbed = [row for row in rows if not row.rung.branch]
    together = climbed[-1].over_base if arrangement == "ladder" and len(climbed) > 2 else None
    if together is not None and together.significant is not None:
        text += f" All together: {together} over the base, {'' if together.significant else 'not '}significant."
    if len(rows) > 1 and chosen is not None:
        text += f" Chosen on validation: {chosen.name}, {_tested(chosen)}."
        if tied:
            others = some([row.name for row in tied], _NAMED)
            text += f" On val it is tied with {others}; of equals, the first in the study is chosen."
    return text


def _tested(row: Row) -> str:
    assert row.measured is not None
    test = row.measured.test
    if test.sd is None:
        return f"{test.mean:.1f} % on test, with one seed"
    return f"{test.mean:.1f} ± {test.sd:.1f} % on test, over {row.finished} seeds"


def _counted(number: int, verb: str) -> str:
    """`none helps`, `1 helps`, `2 help`."""
    return f"{'none' if number == 0 else number} {verb}{'s' * (number < 2)}"


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _verdict(change: _Change) -> str:
    name, gain, over = change
    if gain is None:
        return f"{name}: cannot be compared yet"
    if gain.significant is None:
        return f"{name}: {gain.words()}"
    if gain.significant:
        return f"{name}: {gain} {over}, significantly {'better' if gain.value > 0 else 'worse'}"
    return f"{name}: no significant difference ({gain})"


def _notes(plan: StudyPlan, results: Results, dataset: StudyDataset, images: Images | None) -> list[str]:
    finished = {rung.name: results.of(dataset, rung) for rung in plan.rungs}
    outcomes = [outcome for each in finished.values() for outcome in each]
    absent = [run for run in results.absent if run.dataset == dataset]
    notes = []
    seeds = {name: sum(outcome.images is images for outcome in each) for name, each in finished.items()}
    single = [name for name, count in seeds.items() if count == 1]
    if outcomes and max(seeds.values()) < 2:
        further = "More seeds are still to be trained." if len(plan.seeds) > 1 else "Run the study again with --seeds 3."
        notes.append(f"One seed each: a gain cannot be distinguished from chance, so there is no verdict. {further}")
    elif single:
        notes.append(f"One seed of {some(single, _NAMED)}: gains of it or over it cannot be distinguished from chance and have no verdict.")
    unfinished = [f"{_run(run)} ({run.reason})" for run in absent if run.state == "waiting"]
    unfinished += [f"{_run(outcome)} (trained, its report is missing)" for outcome in outcomes if not outcome.reported]
    if unfinished:
        named = "; ".join(unfinished[:_NAMED])
        more = f"; and {len(unfinished) - _NAMED:,} more" if len(unfinished) > _NAMED else ""
        notes.append(f"{len(unfinished)} of {len(outcomes) + len(absent)} runs are not finished: {named}{more}.")
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
            notes.append(f"The runs differ in {what} ({listed}), which may account for part of a difference.")
    return notes


def _made_with(outcome: Outcome) -> dict[str, str]:
    made = {"precision": outcome.summary.training.precision, "device": outcome.summary.training.device}
    return made | {f"the version of {package}": outcome.versions.get(package, "unknown") for package in _VERSIONS}


def _run(run: Absent | Outcome) -> str:
    return f"{run.rung.name}, seed {run.seed}"
