"""The analysis of a study: from the results of its runs to its table. Pure: nothing is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

import numpy as np

from fieldmark.core.summary import Summary
from fieldmark.scoring.metrics import METRICS
from fieldmark.studies.conclusions import conclusions
from fieldmark.studies.plan import Rung, StudyDataset, StudyPlan
from fieldmark.studies.results import Images, Outcome, Results
from fieldmark.studies.stages import stage_rows
from fieldmark.studies.statistics import Gain, gains, smallest_gain, spread
from fieldmark.studies.table import (
    Cost,
    DatasetTable,
    Effect,
    Figure,
    Measured,
    Row,
    Sensitivity,
    SplitSize,
    StudyTable,
    change_in_words,
    one_line,
)

_Weights = tuple[float, ...]


def study_table(plan: StudyPlan, results: Results) -> StudyTable:
    """The table of a study. The gains of each dataset are corrected together for all distinct comparisons made there.

    Runs are compared image by image, so a rung tested on other images than the base has no gain, and a note says why.
    """
    return StudyTable(
        name=one_line(plan.name),
        title=one_line(plan.title),
        arrangement=plan.arrangement,
        seeds=plan.seeds,
        quick=plan.quick,
        metrics=tuple(METRICS[key] for key in plan.metrics),
        published=tuple(replace(each, source=one_line(each.source)) for each in plan.published),
        datasets=tuple(_dataset_table(plan, results, dataset) for dataset in plan.datasets),
    )


def _dataset_table(plan: StudyPlan, results: Results, dataset: StudyDataset) -> DatasetTable:
    finished = {rung.name: results.of(dataset, rung) for rung in plan.rungs}
    images = _reference(finished, plan.rungs[0])
    comparable = {name: [outcome for outcome in outcomes if outcome.images is images] for name, outcomes in finished.items()}
    hits = {name: np.stack([outcome.hits for outcome in outcomes]) for name, outcomes in comparable.items() if outcomes}
    compared = _comparisons(plan, list(hits))
    found = _gains([*compared.before.values(), *compared.over_base.values(), *compared.effects.values()], hits)
    intervals = _intervals(hits)
    rows, stages = [], []
    for number, rung in enumerate(plan.rungs):
        outcomes = comparable[rung.name] or finished[rung.name]
        stages += stage_rows(number, one_line(rung.name), outcomes)
        rows.append(
            Row(
                number=number,
                rung=rung,
                name=one_line(rung.name),
                change=change_in_words(rung.settings),
                planned=len(plan.seeds),
                finished=len(finished[rung.name]),
                measured=_measured(outcomes, intervals.get(rung.name), plan.metrics) if outcomes else None,
                over_before=found[compared.before[rung.name]] if rung.name in compared.before else None,
                over_base=found[compared.over_base[rung.name]] if rung.name in compared.over_base else None,
            )
        )
    effects = tuple(
        Effect(factor=one_line(factor), option=one_line(option), against=one_line(first), gain=found[weights])
        for (factor, option, first), weights in compared.effects.items()
    )
    comparable_rows = [row for row in rows if row.rung.name in hits]
    chosen = max(comparable_rows, key=_mean_val, default=None)
    tied = tuple(row for row in comparable_rows if chosen is not None and row is not chosen and _mean_val(row) == _mean_val(chosen))
    return DatasetTable(
        dataset=dataset,
        name=one_line(dataset.name),
        test=None if images is None else SplitSize(images=len(images), classes=len(images.class_names)),
        rows=tuple(rows),
        effects=effects,
        stages=tuple(stages),
        ensembles=results.ensembles.get(dataset, ()),
        chosen=chosen,
        tied=tied,
        sensitivity=Sensitivity(
            comparisons=len(found),
            noise=_noise(list(comparable.values())),
            smallest=smallest_gain(list(hits.values()), np.array(list(found))) if found else None,
        ),
        conclusions=conclusions(plan, results, dataset, rows, effects, chosen, tied, images),
    )


def _mean_val(row: Row) -> float:
    """Rounded, so that the same images classified correctly by other seeds are the same mean."""
    return -math.inf if row.measured is None else round(row.measured.val.mean, 9)


def _reference(finished: Mapping[str, Sequence[Outcome]], base: Rung) -> Images | None:
    """The test images that are compared: those of most runs of the base, or of most runs if it has none."""
    outcomes = finished[base.name] or [outcome for each in finished.values() for outcome in each]
    counts = Counter(id(outcome.images) for outcome in outcomes)
    return max((outcome.images for outcome in outcomes), key=lambda images: counts[id(images)], default=None)


class _Comparisons(NamedTuple):
    """Contrasts of the rungs: by rung over the rung before and over the base, and by (factor, option, first option) of a grid."""

    before: dict[str, _Weights]
    over_base: dict[str, _Weights]
    effects: dict[tuple[str, str, str], _Weights]


def _comparisons(plan: StudyPlan, names: Sequence[str]) -> _Comparisons:
    """Those between the rungs in `names`; weights are in the order of `names`."""

    def contrast(more: Sequence[str], less: Sequence[str]) -> _Weights:
        return tuple((name in more) / len(more) - (name in less) / len(less) for name in names)

    base = plan.rungs[0].name
    before = {
        rung.name: contrast([rung.name], [rung.before])
        for rung in plan.rungs
        if rung.name in names and rung.before is not None and rung.before in names
    }
    over_base = {name: contrast([name], [base]) for name in names if base in names and name != base}
    effects: dict[tuple[str, str, str], _Weights] = {}
    factors = plan.rungs[0].options if len(names) == len(plan.rungs) else {}
    for factor in factors if len(factors) > 1 else ():
        cells: dict[str, list[str]] = {}
        for rung in plan.rungs:
            cells.setdefault(rung.options[factor], []).append(rung.name)
        first, *others = cells
        effects |= {(factor, option, first): contrast(cells[option], cells[first]) for option in others}
    return _Comparisons(before, over_base, effects)


def _gains(weights: Sequence[_Weights], hits: Mapping[str, np.ndarray]) -> dict[_Weights, Gain]:
    distinct = list(dict.fromkeys(weights))
    return dict(zip(distinct, gains(list(hits.values()), np.array(distinct)), strict=True)) if distinct else {}


def _intervals(hits: Mapping[str, np.ndarray]) -> dict[str, Gain]:
    """The mean accuracy of each rung in per cent, with an interval of its own."""
    each = list(hits.values())
    alone = [gains(each, row[None])[0] for row in np.eye(len(each))]
    return dict(zip(hits, alone, strict=True))


def _measured(outcomes: Sequence[Outcome], accuracy: Gain | None, metrics: Sequence[str]) -> Measured:
    summaries = [outcome.summary for outcome in outcomes]
    low, high = (None, None) if accuracy is None else (accuracy.low, accuracy.high)
    if len(summaries) == 1:
        low, high = summaries[0].test.top1_low, summaries[0].test.top1_high
    return Measured(
        val=spread([each.val.top1 for each in summaries]),
        test=spread([each.test.top1 for each in summaries]),
        low=low,
        high=high,
        metrics={key: _figure(key, summaries) for key in metrics},
        cost=Cost(
            parameters=fmean(each.model.parameters for each in summaries),
            trainable=fmean(each.model.trainable for each in summaries),
            macs=fmean(each.model.macs for each in summaries),
            epochs=fmean(each.training.epochs for each in summaries),
            steps=fmean(each.training.steps for each in summaries),
            seconds=fmean(each.training.seconds for each in summaries),
            images_per_second=fmean(each.training.images_per_second or 0.0 for each in summaries),
        ),
    )


def _figure(key: str, summaries: Sequence[Summary]) -> Figure | None:
    corrected = all(each.test.has(f"{key}_corrected") for each in summaries)
    of_test = [each.test.estimate(key) if corrected else each.test.interval(key) for each in summaries]
    values = [value for value, _, _ in of_test if value is not None]
    if len(values) < len(summaries):
        return None
    over_seeds = spread(values)
    _, low, high = of_test[0] if len(summaries) == 1 else (None, None, None)
    computed = None
    if corrected:
        computed = fmean(value for each in summaries for value in each.test.interval(key)[:1] if value is not None)
    return Figure(mean=over_seeds.mean, sd=over_seeds.sd, low=low, high=high, computed=computed)


def _noise(rungs: Sequence[Sequence[Outcome]]) -> float | None:
    accuracies = [[outcome.summary.test.top1 for outcome in outcomes] for outcomes in rungs if len(outcomes) > 1]
    if not accuracies:
        return None
    free = [len(values) - 1 for values in accuracies]
    return math.sqrt(sum(k * float(np.var(values, ddof=1)) for k, values in zip(free, accuracies, strict=True)) / sum(free))
