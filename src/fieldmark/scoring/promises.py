"""What val promised of known images, beside what test shows: how often sets hold the right class, and how many images are accepted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.scoring.conformal import SetRule
from fieldmark.scoring.intervals import share_interval
from fieldmark.scoring.rejection import allowed_acceptance


@dataclass(frozen=True)
class Promise:
    """In per cent: what was promised on average over draws of val; the share of test that it holds for, with its 95 % interval.

    fitted_on: images of val that it was fitted on, in so many groups, or alone, `fitted_units`. allowed_low, allowed_high: the middle 95 %
    of the shares of all images that it holds for after a fit on as many units, a Beta distribution. All are None where an old run does not
    say, the ends also where nothing could be fitted.
    """

    promised: float
    measured: float
    low: float
    high: float
    fitted_on: int | None
    fitted_units: int | None
    allowed_low: float | None
    allowed_high: float | None

    @property
    def below_chance(self) -> bool:
        """Whether even the upper end of what was measured is below what chance allows, so that test is unlike val."""
        return self.allowed_low is not None and self.high < self.allowed_low

    def _allowed(self, may: str, fewer: str) -> str:
        """The end of a sentence; empty if the range is not known."""
        if self.allowed_low is None:
            return ""
        of_groups = "" if self.fitted_units in (None, self.fitted_on) else f" in {self.fitted_units:,} groups"
        text = f"; fitted on {self.fitted_on:,} images of val{of_groups} {may} {self.allowed_low:.1f} to {self.allowed_high:.1f} %"
        return f"{text}, and {fewer}: test is unlike val" if self.below_chance else text


@dataclass(frozen=True)
class SetCoverage(Promise):
    """The promise that sets hold the right class.

    mean_size: classes in a set of test, on average, of so many `classes`. holds_all: whether every set holds all of them.
    """

    mean_size: float
    classes: int
    holds_all: bool

    def __str__(self) -> str:
        if self.holds_all:
            return f"{self.promised:.6g} % sets: {self.fitted_on or 0:,} images of val are too few for any but sets of all classes"
        of_test = f"of {self.measured:.1f} % of test [{self.low:.1f}, {self.high:.1f}]"
        size = f"with {self.mean_size:.1f} of {self.classes:,} classes on average"
        return f"{self.promised:.6g} % sets hold the right class {of_test}, {size}{self._allowed('they may hold', 'hold fewer')}"


@dataclass(frozen=True)
class Acceptance(Promise):
    """The promise that the threshold accepts images of known classes. rejected: images of test, of `n`, that it takes for unknown ones."""

    rejected: int
    n: int

    def __str__(self) -> str:
        of_test = f"{self.measured:.1f} % of test [{self.low:.1f}, {self.high:.1f}]"
        come = f"{self.rejected:,} of {self.n:,} known images come out unknown"
        return f"{self.promised:.6g} % threshold accepts {of_test}: {come}{self._allowed('it may accept', 'accepts fewer')}"


def set_coverage(rule: SetRule, probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> SetCoverage:
    """Of calibrated probabilities, float (n, C), and labels, int (n,); groups as in `share_interval`."""
    sets = rule.sets(probabilities)
    return SetCoverage(
        *_measured(rule.coverage, sets[np.arange(len(labels)), labels], groups),
        rule.n,
        rule.units,
        *_per_cent(rule.allowed_coverage()),
        mean_size=float(sets.sum(axis=1).mean()),
        classes=sets.shape[1],
        holds_all=rule.holds_all,
    )


def acceptance(accept: float, accepted: np.ndarray, fitted_on: int, units: int | None, groups: np.ndarray | None = None) -> Acceptance:
    """Of a threshold for the share `accept`, fitted on so many images of val in so many units: which known images it accepts, bool (n,).

    groups are of these, as in `share_interval`.
    """
    return Acceptance(
        *_measured(accept, accepted, groups),
        fitted_on,
        units,
        *_per_cent(allowed_acceptance(accept, fitted_on, units)),
        rejected=int((~accepted).sum()),
        n=len(accepted),
    )


def _measured(promised: float, kept: np.ndarray, groups: np.ndarray | None) -> tuple[float, float, float, float]:
    measured, low, high = share_interval(kept, groups)
    return 100 * promised, 100 * measured, 100 * low, 100 * high


def _per_cent(ends: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if ends is None else (100 * ends[0], 100 * ends[1])
