"""Sets of classes that hold the right one with a promised probability (split conformal prediction; Vovk et al. 2005).

`probabilities` is float (n, C), calibrated by the caller, `labels` int (n,) in [0, C). The promise is kept on average over images drawn
as those were on which a rule is fitted, whatever the model; nothing is promised for a single image or, but for `fit_class_sets`, for a
class.

A set is the smallest whose mass reaches a level (APS; Romano, Sesia and Candès, NeurIPS 2020), or the same with a penalty on long sets
(RAPS; Angelopoulos et al., ICLR 2021), both without their random draw: the best class always scores 0, so that no set is empty, and an
image gets the same set each time, without an id. Coverage is exact all the same, since a rule is fitted on the scores that it is used
with. Only where the best class alone is right more often than promised do sets of that one class cover more. With the draw they would not,
but only by leaving images without a class; giving these their best class puts coverage above the promise for any model. The price is that
coverage leans a little to the images that the model is sure of, which the coverage by size of `coverage_report` shows.

RAPS gains most from a model that ranks well but whose probabilities are too high for some images and too low for others; from a
calibrated one little, at the price of the images on which it chooses.

A row that is not finite gets all classes. All raise InputError where there are no images and for a coverage outside (0, 1), and ValueError
where shapes, labels or probabilities do not fit.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from fieldmark.core import randomness
from fieldmark.core.errors import InputError
from fieldmark.scoring.intervals import allowed_by_chance, units_of
from fieldmark.scoring.metrics import check_labels

Method = Literal["aps", "raps"]
_PENALTIES = (0.0, 0.001, 0.01, 0.1, 0.2, 0.5)
_CHOOSING = 0.3
"""Share of the images on which RAPS chooses; the quantile is of the others."""
_FEWEST_OF_A_CLASS = 30
_SIZES = (0, 1, 2, 4, 11, 101)
"""Where the bins of set sizes begin."""


@dataclass(frozen=True)
class SetRule:
    """An image's set is the classes whose score (`aps_scores`) is at most the quantile.

    coverage: the promise, in (0, 1).
    quantile: at least 0; infinite, for sets of all classes, where there were too few images to promise less.
    penalty, k_reg: of RAPS; the penalty is 0 for APS.
    class_quantiles: one for each class, None for a class that goes by `quantile`; empty where all do.
    n: the images whose scores gave the quantile; None in records that do not say.
    units: how many they are if the images of a group count as one; None in records that do not say.
    """

    method: Method
    coverage: float
    quantile: float
    penalty: float = 0.0
    k_reg: int = 1
    class_quantiles: tuple[float | None, ...] = ()
    n: int | None = None
    units: int | None = None

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in each image's set: bool (n, C). The best class always is."""
        quantiles = [self.quantile if each is None else each for each in self.class_quantiles] or self.quantile
        return aps_scores(probabilities, self.penalty, self.k_reg) <= np.asarray(quantiles)

    def allowed_coverage(self) -> tuple[float, float] | None:
        """The middle 95 % of the shares of all images that rules fitted on `n` images cover, in [0, 1].

        None where n is not known or the sets hold all classes. Images of which many score alike, as where the best class alone is right
        more often than promised, can be covered more often.
        """
        if self.n is None or math.isinf(self.quantile):
            return None
        return allowed_by_chance(_place(self.n, self.coverage), self.n, self.units)

    @property
    def holds_all(self) -> bool:
        """Whether every set holds all classes, because there were too few images to promise less."""
        return math.isinf(self.quantile) and all(each is None for each in self.class_quantiles)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, in which an infinite quantile is null."""
        finite = None if math.isinf(self.quantile) else self.quantile
        return asdict(self) | {"quantile": finite, "class_quantiles": list(self.class_quantiles)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SetRule:
        quantile = math.inf if values["quantile"] is None else values["quantile"]
        return cls(**values | {"quantile": quantile, "class_quantiles": tuple(values["class_quantiles"])})


@dataclass(frozen=True)
class SizeBin:
    """The n images whose sets have `smallest` to `largest` classes, and the share of them whose set holds their label."""

    smallest: int
    largest: int
    n: int
    coverage: float


@dataclass(frozen=True)
class CoverageReport:
    """Sets beside the labels: shares in [0, 1], sizes in classes.

    single: share of sets of one class; largest: size of the largest set.
    by_size: bins of 0, 1, 2 to 3, 4 to 10, 11 to 100 and more classes, up to C; those that hold images.
    class_coverage: one for each class, None where it has no images.
    """

    n: int
    coverage: float
    mean_size: float
    median_size: float
    single: float
    largest: int
    by_size: tuple[SizeBin, ...]
    class_coverage: tuple[float | None, ...]


@dataclass(frozen=True)
class Resplit:
    """Coverage over random halves of the same images: its mean and standard deviation, and the mean size of the sets.

    top1: share of all images whose best class is right. Where it is above the promise, no sets that are never empty cover less.
    """

    promised: float
    splits: int
    coverage: float
    deviation: float
    size: float
    top1: float


def aps_scores(probabilities: np.ndarray, penalty: float = 0.0, k_reg: int = 1) -> np.ndarray:
    """How much probability is passed before each class is reached: float64 (n, C), 0 for the best class.

    The mass of the classes ranked above it, plus `penalty` for each place that its rank, from 1, lies beyond `k_reg`, which is at least 1.
    Equal probabilities rank in the order of the classes. -inf in rows that are not finite, so that any set holds all classes there.
    """
    above, order = _ordered(probabilities)
    scores = np.empty_like(above)
    np.put_along_axis(scores, order, above + _penalties(np.arange(1, above.shape[1] + 1), penalty, k_reg), axis=1)
    return scores


def fit_sets(
    probabilities: np.ndarray, labels: np.ndarray, coverage: float, method: Method, seed: int = 0, groups: np.ndarray | None = None
) -> SetRule:
    """The rule whose sets hold the label of a new image with probability `coverage`.

    The quantile is the ceil((n + 1) coverage)-th smallest score of the labels. RAPS first chooses on 30 % of the images, drawn by the
    seed, as in its paper: k_reg is the same quantile of the labels' ranks, the penalty of a small grid, which holds that of APS, 0, is the
    one with the smallest sets; n is the others then. Images of one group, int (n,), -1 for none, are not parted by that.
    """
    return _fit(_Ranked.of(probabilities, labels), np.arange(len(labels)), units_of(groups, len(labels)), coverage, method, (seed,))[0]


def fit_class_sets(
    probabilities: np.ndarray, labels: np.ndarray, coverage: float, method: Method, seed: int = 0, groups: np.ndarray | None = None
) -> SetRule:
    """As `fit_sets`, with quantiles of their own, and so the promise, for the classes that have enough images (Vovk, ACML 2012).

    Enough is 30, or 1 / (1 - coverage) - 1 where that is more: with fewer no quantile of theirs could promise as much. With 30 the coverage
    that a class gets still varies by 5 points (one standard deviation, of 90 %) with the images that it was fitted on.
    """
    ranked = _Ranked.of(probabilities, labels)
    rule, rows = _fit(ranked, np.arange(len(labels)), units_of(groups, len(labels)), coverage, method, (seed,))
    scores = ranked.label_scores(rows, rule.penalty, rule.k_reg)
    of_class = [scores[labels[rows] == index] for index in range(probabilities.shape[1])]
    own = [_quantile(each, coverage) if len(each) >= _FEWEST_OF_A_CLASS else math.inf for each in of_class]
    return replace(rule, class_quantiles=tuple(None if math.isinf(each) else each for each in own))


def coverage_report(sets: np.ndarray, labels: np.ndarray) -> CoverageReport:
    """What sets, bool (n, C), hold of the labels."""
    check_labels(sets, labels)
    covered, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    bins = np.searchsorted(_SIZES, sizes, side="right") - 1
    ends = [min(end, sets.shape[1]) for end in (*(start - 1 for start in _SIZES[1:]), sets.shape[1])]
    counts = np.bincount(labels, minlength=sets.shape[1])
    hits = np.bincount(labels[covered], minlength=sets.shape[1])
    return CoverageReport(
        n=len(labels),
        coverage=float(covered.mean()),
        mean_size=float(sizes.mean()),
        median_size=float(np.median(sizes)),
        single=float((sizes == 1).mean()),
        largest=int(sizes.max()),
        by_size=tuple(
            SizeBin(_SIZES[each], ends[each], int((bins == each).sum()), float(covered[bins == each].mean()))
            for each in np.unique(bins).tolist()
        ),
        class_coverage=tuple(hit / count if count else None for hit, count in zip(hits.tolist(), counts.tolist(), strict=True)),
    )


def resplit_coverage(
    probabilities: np.ndarray,
    labels: np.ndarray,
    coverage: float,
    method: Method,
    splits: int = 100,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Resplit:
    """Whether the promise is kept: the rule fitted on a random half of the images and measured on the other, `splits` times.

    Images of one group, int (n,), -1 for none, go to the same half. Raises InputError where there are fewer than two images or groups.
    """
    ranked, units = _Ranked.of(probabilities, labels), units_of(groups, len(labels))
    if units.max() == 0:
        raise InputError("one image, or images of one group, cannot be halved")
    covered, sizes = [], []
    for split in range(splits):
        fitted = _part(units, 0.5, randomness.key(seed, "resplit", split))
        rule, _ = _fit(ranked, np.flatnonzero(fitted), units, coverage, method, (seed, split))
        rest = np.flatnonzero(~fitted)
        covered.append((ranked.label_scores(rest, rule.penalty, rule.k_reg) <= rule.quantile).mean())
        sizes.append(ranked.mean_size(rest, rule.quantile, rule.penalty, rule.k_reg))
    top1 = float((ranked.finite & (ranked.ranks == 1)).mean())
    return Resplit(coverage, splits, float(np.mean(covered)), float(np.std(covered)), float(np.mean(sizes)), top1)


@dataclass(frozen=True, eq=False)
class _Ranked:
    """All that fitting needs of the probabilities.

    above: float64 (C, n), the mass ranked above each place; ranks: int64 (n,), the labels' places, from 1; finite: bool (n,)
    """

    above: np.ndarray
    ranks: np.ndarray
    finite: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> _Ranked:
        check_labels(probabilities, labels)
        above, order = _ordered(probabilities)
        ranks = (order == labels[:, None]).argmax(axis=1) + 1
        return cls(np.ascontiguousarray(above.T), ranks, np.isfinite(above[:, 0]))

    def label_scores(self, rows: np.ndarray, penalty: float, k_reg: int) -> np.ndarray:
        ranks = self.ranks[rows]
        return self.above[ranks - 1, rows] + _penalties(ranks, penalty, k_reg)

    def mean_size(self, rows: np.ndarray, quantile: float, penalty: float, k_reg: int) -> float:
        total = 0
        for place, above in enumerate(self.above):
            # Scores grow with the place: where no set reaches one, none reaches the next.
            reached = int((above[rows] + _penalties(np.array(place + 1), penalty, k_reg) <= quantile).sum())
            if not reached:
                break
            total += reached
        return total / len(rows)


def _fit(
    ranked: _Ranked, rows: np.ndarray, units: np.ndarray, coverage: float, method: Method, keys: tuple[int, ...]
) -> tuple[SetRule, np.ndarray]:
    """The rule fitted on some of the images, and those of them whose scores gave the quantile."""
    if not 0 < coverage < 1:
        raise InputError(f"a coverage of {coverage:g} cannot be promised", hint="It is a probability between 0 and 1, such as 0.9.")
    penalty, k_reg = 0.0, 1
    if method == "raps":
        chosen = _part(units[rows], _CHOOSING, randomness.key(*keys, "raps"))
        choosing, rows = rows[chosen], rows[~chosen]
        k_reg = int(min(_quantile(ranked.ranks[choosing], coverage), len(ranked.above)))
        if len(choosing):
            penalty = min(_PENALTIES, key=lambda each: _size_with(ranked, choosing, coverage, each, k_reg))
    quantile = _quantile(ranked.label_scores(rows, penalty, k_reg), coverage)
    return SetRule(method, coverage, quantile, penalty, k_reg, n=len(rows), units=len(np.unique(units[rows]))), rows


def _size_with(ranked: _Ranked, rows: np.ndarray, coverage: float, penalty: float, k_reg: int) -> float:
    return ranked.mean_size(rows, _quantile(ranked.label_scores(rows, penalty, k_reg), coverage), penalty, k_reg)


def _quantile(scores: np.ndarray, coverage: float) -> float:
    place = _place(len(scores), coverage)
    # Where most rows are not finite, it would be -inf: the others keep their best class.
    return max(float(np.partition(scores, place - 1)[place - 1]), 0.0) if place <= len(scores) else math.inf


def _place(n: int, coverage: float) -> int:
    """Which of n scores, from 1, is the quantile; beyond n where they are too few."""
    return math.ceil((n + 1) * coverage - 1e-9)  # 0.07 * 100 is 7.000000000000001


def _ordered(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mass above each place, float64 (n, C), and which class holds it, int64 (n, C)."""
    finite = np.isfinite(probabilities).all(axis=1)
    known = np.where(finite[:, None], probabilities, 0).astype(np.float64)
    sums = known.sum(axis=1)[finite]
    if (known < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        raise ValueError("these are not probabilities: some are negative, or do not add up to 1")
    order = np.argsort(-known, axis=1, kind="stable")
    above = np.zeros_like(known)
    np.cumsum(np.take_along_axis(known, order[:, :-1], axis=1), axis=1, out=above[:, 1:])
    above[~finite] = -np.inf
    return above, order


def _penalties(ranks: np.ndarray, penalty: float, k_reg: int) -> np.ndarray:
    return penalty * np.maximum(ranks - k_reg, 0)


def _part(units: np.ndarray, share: float, stream: int) -> np.ndarray:
    """Which images are drawn, bool (n,): whole units, together as near to the share as they allow."""
    order = randomness.permutation(stream, int(units.max()) + 1)
    sizes = np.bincount(units, minlength=len(order))[order]
    drawn = np.zeros(len(order), bool)
    drawn[order[np.cumsum(sizes) - sizes / 2 <= share * len(units)]] = True
    return drawn[units]
