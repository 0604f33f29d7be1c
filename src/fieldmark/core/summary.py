"""summary.json: the answer of a finished run, for scripts, reports and studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fieldmark.core.record import Count, Measured, NonNegative, Percent, Record, RecordFile

MeasuredInterval = tuple[Measured, Measured, Measured]
"""A value, and the ends of its 95 % interval."""


class SplitMetrics(Record):
    """The metrics of one split over its `n` labelled images.

    Every metric of scoring.metrics.METRICS is an attribute under its key, followed by the ends of its 95 % interval, KEY_low and KEY_high,
    and, if few images bias it, by the value without that bias, KEY_corrected; if the run is calibrated, some are there once more as
    KEY_calibrated. Shares are in per cent, the others in their units.
    """

    __pydantic_extra__: dict[str, Measured]

    n: Count
    top1: Percent
    top1_low: Percent
    top1_high: Percent

    if TYPE_CHECKING:

        def __getattr__(self, key: str) -> Measured: ...

    def has(self, key: str) -> bool:
        """Whether it was measured, even if it is not a finite number."""
        return key in self.model_fields_set

    def interval(self, key: str) -> MeasuredInterval:
        """A metric by its key, such as "ece_calibrated"; None for one that was not measured."""
        value, low, high = (getattr(self, f"{key}{end}", None) for end in ("", "_low", "_high"))
        return value, low, high

    def estimate(self, key: str) -> MeasuredInterval:
        """The same with the value that belongs to the interval, corrected for what few images bias."""
        value, low, high = self.interval(key)
        corrected = getattr(self, f"{key}_corrected", None)
        return value if corrected is None else corrected, low, high


class DatasetSummary(Record):
    """Images by split: those that were used."""

    name: str
    classes: Count
    train: Count
    val: Count
    test: Count


class ModelSummary(Record):
    """macs: multiply-adds per image. input: channels, height and width in pixels. Of an ensemble, all networks together."""

    name: str
    parameters: Count
    trainable: Count
    macs: Count
    input: tuple[Count, Count, Count]


class StageSummary(Record):
    """One stage of a training. epochs: its first and its last, from 1."""

    epochs: tuple[Count, Count]
    trainable: tuple[str, ...]
    trainable_parameters: Count


class TrainingSummary(Record):
    """Of an ensemble, all trainings together; it has no best epoch. `stages` are unknown in the oldest summaries."""

    epochs: Count
    best_epoch: Count | None
    refit: bool = False
    steps: Count
    samples_seen: Count
    seconds: NonNegative
    images_per_second: NonNegative | None
    device: str
    precision: str
    stages: tuple[StageSummary, ...] = ()


class MemberSummary(Record):
    """The accuracies of one member, in per cent."""

    name: str
    val: Percent
    test: Percent
    test_low: Percent
    test_high: Percent


class DifferenceSummary(Record):
    """As scoring.comparison.Difference. shown: whether it is significant."""

    points: float
    low: float
    high: float
    n: Count
    wins: Count
    losses: Count
    p: float
    shown: bool


class EnsembleSummary(Record):
    """best_member: the name of the one with the best val, which the ensemble is compared with on test."""

    members: tuple[MemberSummary, ...]
    best_member: str
    over_best_member: DifferenceSummary


class Summary(RecordFile):
    """`ensemble` is None for a training."""

    status: Literal["finished"]
    dataset: DatasetSummary
    model: ModelSummary
    training: TrainingSummary
    ensemble: EnsembleSummary | None = None
    val: SplitMetrics
    test: SplitMetrics

    def of(self, split: Literal["val", "test"]) -> SplitMetrics:
        return self.val if split == "val" else self.test
