"""How much better or worse each run is than the first, and whether that is significant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldmark.reports.comparison.entries import Entry
from fieldmark.scoring.comparison import Difference, compare, holm

_ENDS = (1, 2, 5, 10, 20, 50, 100)
"""The possible ends of the scale of differences, in points."""


@dataclass(frozen=True)
class Pair:
    """A run minus the first one. `p` is corrected for the number of such pairs; `both` and `neither` count images."""

    name: str
    difference: Difference
    p: float
    both: int
    neither: int

    @property
    def significant(self) -> bool:
        return self.difference.significant and self.p < 0.05

    @property
    def digits(self) -> int:
        """Decimals with which an interval that excludes zero does not seem to touch it, nor one that holds it to exclude it."""
        ends = (self.difference.low, self.difference.high)
        return 2 if any(0 < abs(end) < 0.05 for end in ends) else 1


def compare_with_first(first: Entry, others: Sequence[Entry]) -> list[Pair]:
    recipe = first.run.recipe
    found = [compare(entry.test, first.test, recipe.evaluate.resamples, recipe.train.seed) for entry in others]
    corrected = holm([each.p for each in found])
    return [
        Pair(entry.name, each, p, int((entry.hits & first.hits).sum()), int((~entry.hits & ~first.hits).sum()))
        for entry, each, p in zip(others, found, corrected, strict=True)
    ]


def scale_end(pairs: Sequence[Pair]) -> int:
    """The end of the scale that contains all intervals."""
    reach = max(max(-pair.difference.low, pair.difference.high) for pair in pairs)
    return next(end for end in _ENDS if end >= reach or end == _ENDS[-1])


def signed(value: float, digits: int = 1) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: not -0.0


def small(p: float) -> str:
    """With as many digits as it takes to see on which side of 0.05 it is."""
    if p < 0.0001:
        return "<\u00a00.0001"
    digits = 2
    while digits < 9 and (p < 0.05) != (float(f"{p:.{digits}g}") < 0.05):
        digits += 1
    return f"{p:.{digits}g}"


def of_chance(p: float) -> str:
    """As it is written after p."""
    return small(p) if p < 0.0001 else f"=\u00a0{small(p)}"
