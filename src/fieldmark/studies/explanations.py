"""What the figures of a study's table mean, in sentences."""

from __future__ import annotations

from fieldmark.scoring.metrics import METRICS
from fieldmark.studies.statistics import Gain
from fieldmark.studies.table import DatasetTable, StudyTable

_ALONE = "the intervals of figures of test are for new test images alone (a bootstrap)"
_IN_PARENTHESES = "In parentheses: 95 % intervals for new test images alone, by a paired bootstrap; no verdict rests on them"


def about(dataset: DatasetTable) -> list[str]:
    """What the figures of a dataset's table mean."""
    return [*_accuracies(dataset), *_corrected(dataset), *_gains(dataset)]


def _accuracies(dataset: DatasetTable) -> list[str]:
    measured = [row.measured for row in dataset.rows if row.measured is not None]
    single = [each for each in measured if each.test.sd is None]
    if measured and len(single) == len(measured):
        return [f"Accuracies in per cent, of one seed; {_ALONE}."]
    sentences = ["Accuracies in per cent: mean over seeds ± standard deviation."]
    return [*sentences, f"Of a rung with one seed, {_ALONE}."] if single else sentences


def _corrected(dataset: DatasetTable) -> list[str]:
    """Of metrics that few images bias."""
    figures = [row.measured.metrics for row in dataset.rows if row.measured is not None]
    keys = dict.fromkeys(key for each in figures for key, figure in each.items() if figure is not None and figure.computed is not None)
    if not keys:
        return []
    return [f"{' and '.join(METRICS[key].title for key in keys)} corrected for few images, as in the reports; as computed: table.csv."]


def sources(table: StudyTable) -> list[str]:
    """Of the column of published figures."""
    if len(table.published) == 1:
        return [f"Published: {table.published[0].source}."]
    return [f"Published [{number}]: {each.source}." for number, each in enumerate(table.published, 1)]


def _gains(dataset: DatasetTable) -> list[str]:
    comparisons = dataset.sensitivity.comparisons
    if not comparisons:
        return []
    if not _any_interval(dataset):
        return [f"Gains in points; none has an interval for new seeds, which takes two seeds or more of both rungs. {_IN_PARENTHESES}."]
    if comparisons == 1:
        return ["The gain in points with a 95 % interval for new seeds and new test images alike; *: significant, it excludes zero."]
    number = "both" if comparisons == 2 else f"all {comparisons:,}"
    together = f"corrected for {number} comparisons on this dataset; *: significant, the interval excludes zero."
    sentence = f"Gains in points with 95 % intervals for new seeds and new test images alike, {together}"
    single = f"The gain of a rung with one seed, or over such a rung, has no such interval. {_IN_PARENTHESES}."
    return [sentence, single] if _any_single(dataset) else [sentence]


def _found(dataset: DatasetTable) -> list[Gain]:
    over = [gain for row in dataset.rows for gain in (row.over_before, row.over_base) if gain is not None]
    return over + [effect.gain for effect in dataset.effects]


def _any_single(dataset: DatasetTable) -> bool:
    """Whether a gain has no interval for new seeds because a rung has one."""
    return any(gain.significant is None for gain in _found(dataset))


def _any_interval(dataset: DatasetTable) -> bool:
    """Whether a gain has an interval for new seeds."""
    return any(gain.significant is not None for gain in _found(dataset))


def limits(dataset: DatasetTable) -> list[str]:
    """What the study can detect on a dataset."""
    sentences = []
    if dataset.sensitivity.noise is not None:
        sentences.append(f"Between seeds, test top-1 has a standard deviation of {dataset.sensitivity.noise:.2f} points.")
    if dataset.sensitivity.smallest is not None:
        sentences.append(
            f"A true gain of {dataset.sensitivity.smallest:.1f} points would be significant in about four of five such studies."
        )
    elif _any_interval(dataset):
        sentences.append(
            "How large a gain such a study would find cannot be estimated: the seeds are too few or too much alike, or the images too few."
        )
    return sentences


def heading(dataset: DatasetTable) -> str:
    if dataset.test is None:
        return dataset.name
    return f"{dataset.name}: {dataset.test.images:,} test images of {dataset.test.classes:,} classes"
