"""parity.json: how the answers of a bundle compare with those of the run that it was exported from."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from fieldmark.core.record import Count, Measured, Record, RecordFile
from fieldmark.scoring.comparison import paired_interval


class Agreement(Record):
    """The bundle's answers against those of the run in float32, for `n` images of val.

    equal: images with the same likeliest class. clear: those where the run's two largest logits are more than 1e-3 apart; clear_equal: how
    many of these are equal. largest_difference: of calibrated probabilities. equal_unknown, equal_sets: images with the same verdict on
    whether they are of none of the classes, and with the same prediction set; None without calibration.
    """

    n: Count
    equal: Count
    clear: Count
    clear_equal: Count
    largest_difference: Measured
    equal_unknown: Count | None = None
    equal_sets: Count | None = None

    @property
    def changed(self) -> float:
        """Answers that changed, in per cent."""
        return 100 * (self.n - self.equal) / self.n if self.n else 0.0


class AccuracyLoss(Record):
    """Top-1 of the run less that of the bundle over `n` labelled images of val, in points, with its 95 % interval.

    lost, gained: images that only the run, or only the bundle, answers correctly. run, bundle: their top-1 in per cent.
    """

    n: Count
    run: float
    bundle: float
    lost: Count
    gained: Count
    points: float
    low: float
    high: float

    @classmethod
    def of(cls, run: np.ndarray, bundle: np.ndarray) -> Self:
        """From which images each answers correctly, bool (n,)."""
        lost, gained, n = int((run & ~bundle).sum()), int((bundle & ~run).sum()), len(run)
        low, high = paired_interval(lost, gained, n)
        points = 100 * (lost - gained) / n if n else 0.0
        right = [100 * float(each.mean()) if n else 0.0 for each in (run, bundle)]
        return cls(n=n, run=right[0], bundle=right[1], lost=lost, gained=gained, points=points, low=low, high=high)


class Attempt(Record):
    """One way of quantising: what cured it, and what came of it; `reason` says why it did not pass, "" if it did."""

    cures: tuple[str, ...]
    agreement: Agreement
    loss: AccuracyLoss
    reason: str = ""


class Limits(Record):
    """loss: of accuracy, in points; changed: of answers, in per cent. strict: whether the loss must be proven to be within its limit."""

    loss: float = 0.5
    changed: float = 5.0
    strict: bool = False


class Parity(RecordFile):
    """How a bundle compares with its run.

    proven: whether the upper end of the loss's interval is within the limit; images: if it is not, about how many images of val it would
    take to prove it, None if the loss itself is over the limit. files: the same agreement from the images' files, decoder included.
    attempts: at int8, those before it as well. learnt: whether the run was trained on val. machine: what it was measured on.
    """

    SCHEMA: ClassVar[int] = 1

    limits: Limits
    agreement: Agreement
    files: Agreement
    loss: AccuracyLoss
    proven: bool
    images: Count | None = None
    attempts: tuple[Attempt, ...] = ()
    learnt: bool = False
    machine: dict[str, str]
