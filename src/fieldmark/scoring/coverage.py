"""How often sets of classes hold the right one on test, beside how often a rule that was fitted on so few images may."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.scoring.conformal import SetRule
from fieldmark.scoring.intervals import share_interval


@dataclass(frozen=True)
class SetCoverage:
    """In per cent: what was promised on average over draws of val; the share of test whose sets hold the label, with its 95 % interval.

    fitted_on: images of val that gave the quantile, of so many groups, or alone, `fitted_units`. allowed_low, allowed_high: the middle 95 %
    of what a rule from as many units covers of all images (a Beta distribution; Vovk, ACML 2012). All are None for rules of old runs, the
    ends also where there is no quantile. holds_all: whether every set holds all classes.
    """

    promised: float
    measured: float
    low: float
    high: float
    fitted_on: int | None
    allowed_low: float | None
    allowed_high: float | None
    fitted_units: int | None = None
    holds_all: bool = False

    @property
    def below_chance(self) -> bool:
        """Whether even the upper end of what was measured is below what chance allows, so that test is unlike val."""
        return self.allowed_low is not None and self.high < self.allowed_low

    def __str__(self) -> str:
        text = f"{self.promised:.6g} % sets hold the right class of {self.measured:.1f} % of test [{self.low:.1f}, {self.high:.1f}]"
        if self.holds_all:
            return f"{self.promised:.6g} % sets: {self.fitted_on or 0:,} images of val are too few for any but sets of all classes"
        if self.allowed_low is None:
            return text
        of_groups = "" if self.fitted_units in (None, self.fitted_on) else f" in {self.fitted_units:,} groups"
        text += f"; fitted on {self.fitted_on:,} images of val{of_groups} they may hold {self.allowed_low:.1f} to {self.allowed_high:.1f} %"
        return f"{text}, and hold fewer: test is unlike val" if self.below_chance else text


def set_coverage(rule: SetRule, probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> SetCoverage:
    """Of calibrated probabilities, float (n, C), and labels, int (n,); groups as in `share_interval`."""
    held = rule.sets(probabilities)[np.arange(len(labels)), labels]
    measured, low, high = (100 * each for each in share_interval(held, groups))
    allowed = rule.allowed_coverage()
    lowest, highest = (None, None) if allowed is None else (100 * allowed[0], 100 * allowed[1])
    return SetCoverage(100 * rule.coverage, measured, low, high, rule.n, lowest, highest, rule.units, rule.holds_all)
