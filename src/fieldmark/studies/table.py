"""The table of a study: for each dataset and rung its accuracy, its gains and its cost. analysis.py fills it, formats.py writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unicodedata import category

from fieldmark.scoring.metrics import Metric
from fieldmark.studies.ensembles import EnsembleRow
from fieldmark.studies.plan import Arrangement, Published, Rung, StudyDataset
from fieldmark.studies.stages import StageRow
from fieldmark.studies.statistics import Gain, Spread

_LONGEST = 500
_BREAKING = ("Cc", "Zl", "Zp")
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Means over the seeds of a rung; `macs` are multiply-adds per image, `seconds` those of training."""

    parameters: float
    trainable: float
    macs: float
    epochs: float
    steps: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A further metric of test: per cent if it is a share.

    mean, sd: over the seeds, of the value that belongs to the intervals of the runs: if few images bias it, the corrected one
    low, high: with one seed, for new images
    computed: the mean as it is computed, without the correction; None where `mean` has none
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    computed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the finished runs of a rung measured: top-1 on val and test in per cent, and further `metrics` of test by their keys.

    `low` to `high` is the 95 % interval of the mean test top-1: for new seeds and images, with one seed for new images alone; both are
    None if the rung has several seeds and cannot be compared. A metric is None if it was not measured, or is not finite, in all runs.
    """

    val: Spread
    test: Spread
    low: float | None
    high: float | None
    metrics: Mapping[str, Figure | None]
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rung on one dataset; `number` is its place in the plan, 0 for the base. Gains are in points, None if they cannot be computed.

    name, change: single lines, as is all text of a table
    planned, finished: numbers of seeds
    measured: None before any of its runs has finished
    """

    number: int
    rung: Rung
    name: str
    change: str
    planned: int
    finished: int
    measured: Measured | None
    over_before: Gain | None
    over_base: Gain | None

    @property
    def on(self) -> str | None:
        """The rung that a side branch of a ladder is built on; None for all other rungs."""
        return one_line(str(self.rung.before)) if self.rung.branch else None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """In a grid: the gain of `option` of `factor` over its first option, `against`, averaged over the other factors."""

    factor: str
    option: str
    against: str
    gain: Gain


@dataclass(frozen=True, kw_only=True)
class SplitSize:
    """How many labelled images a split has, of how many classes."""

    images: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What the study can detect on a dataset.

    comparisons: how many the intervals are corrected for
    noise: standard deviation of test top-1 over seeds in points, pooled over the rungs; None with one seed each
    smallest: the gain in points that 80 % of such studies would find significant; None without intervals, and where it cannot be estimated
    """

    comparisons: int
    noise: float | None
    smallest: float | None


@dataclass(frozen=True, kw_only=True)
class Conclusions:
    """The findings on a dataset in words; the answer begins with the headline."""

    headline: str
    answer: str
    verdicts: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DatasetTable:
    """The findings of the study on one dataset.

    test: None before any run has finished
    stages: of the rungs that were trained in several
    ensembles: of the rungs, one for each seed
    chosen: of the rungs that can be compared, the one with the highest mean val top-1, of several the first in the study
    tied: the others with the same mean val top-1
    """

    dataset: StudyDataset
    name: str
    test: SplitSize | None
    rows: tuple[Row, ...]
    effects: tuple[Effect, ...]
    stages: tuple[StageRow, ...]
    ensembles: tuple[EnsembleRow, ...]
    chosen: Row | None
    tied: tuple[Row, ...]
    sensitivity: Sensitivity
    conclusions: Conclusions


@dataclass(frozen=True, kw_only=True)
class StudyTable:
    name: str
    title: str
    arrangement: Arrangement
    seeds: tuple[int, ...]
    quick: bool
    metrics: tuple[Metric, ...]
    published: tuple[Published, ...]
    datasets: tuple[DatasetTable, ...]


def change_in_words(settings: Mapping[str, Any]) -> str:
    """As on the command line: `optim.lr=0.01, augment.flip=0.5`, references to other recipes or rungs (`extends`, `on`) included."""
    values = {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in settings.items()}
    return one_line(", ".join(f"{key}={value}" for key, value in values.items()))


def one_line(text: str) -> str:
    """Without line breaks, control characters and marks that would turn the writing direction; at most 500 characters."""
    kept = ("\ufffd" if category(each) == "Cs" else " " if category(each) in _BREAKING else each for each in text if each not in _TURNING)
    line = " ".join("".join(kept).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
