"""Coarser levels of the classes: accuracy by level, how bad mistakes are, and naming the genus where the species is unsure.

`probabilities` is float (n, C), calibrated by the caller, `labels` int (n,) in [0, C), `predicted` int (n,) of classes, -1 for no answer.
`levels` hold, by name, the parent's name of each class in the order of the classes. `parents`, int (C,), are one level by index, as in
`fieldmark.datasets.dataset.Level`. Shares are in [0, 1]. A row that is not finite predicts nothing, which is wrong at every level.
All raise InputError where there are no images, and ValueError where shapes or labels do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import betaincinv

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Level
from fieldmark.scoring import metrics

_RISK = 0.05


@dataclass(frozen=True)
class LevelFigures:
    """One level of `names` names.

    top1: share of images whose predicted class has the right parent.
    top1_summed: share whose right parent has the largest sum of its classes' probabilities.
    chance: what a class named at random, all alike, gets of top1.
    """

    name: str
    names: int
    top1: float
    top1_summed: float
    chance: float


@dataclass(frozen=True)
class LevelMistakes:
    """Share of mistakes that name a class with the right parent, and what random mistakes on the same images would have."""

    name: str
    within: float
    random: float


@dataclass(frozen=True)
class Severity:
    """How far off the `mistakes` are (Bertinetto et al., CVPR 2020). An image without an answer is none of them.

    levels: from fine to coarse; empty without mistakes.
    height: mean height of the lowest common ancestor of the named and the right class: 1 for the same parent at the finest level, one more
        for each level that they do not share. random_height: the same of random mistakes on the same images. Both are None without
        mistakes, and where the levels do not nest.
    """

    mistakes: int
    levels: tuple[LevelMistakes, ...]
    height: float | None
    random_height: float | None


@dataclass(frozen=True)
class Backoff:
    """Answers the species where its probability reaches a threshold, or else the parent where the sum of its classes' does, or nothing.

    precision: what the thresholds were fitted for; a threshold is infinite where no answers of its level are as precise.
    parents: the parent of each class.
    """

    precision: float
    species_threshold: float
    parent_threshold: float
    parents: tuple[int, ...]

    @property
    def silent(self) -> str | None:
        """Why nothing is answered, as a sentence; None if something may be."""
        if not (math.isinf(self.species_threshold) and math.isinf(self.parent_threshold)):
            return None
        fewest = math.ceil(math.log(_RISK) / math.log(self.precision) - 1e-9)
        return (
            f"no threshold on val is shown to be right for {100 * self.precision:g} % of what it answers, so nothing is answered; "
            f"that takes {fewest:,} answers on val without a mistake, and more with some"
        )

    def answers(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The level of each answer, 0 for a species, 1 for a parent, -1 for none, and its index at that level, or -1: int64 (n,) each."""
        (species, sure), (parent, parent_sure) = _guesses(probabilities, self._parents)
        level = np.where(sure >= self.species_threshold, 0, np.where(parent_sure >= self.parent_threshold, 1, -1))
        level[~np.isfinite(sure)] = -1
        return level, np.where(level == 0, species, np.where(level == 1, parent, -1))

    @cached_property
    def _parents(self) -> np.ndarray:
        return np.array(self.parents)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, in which an infinite threshold is null."""
        thresholds = {name: None if math.isinf(value) else value for name, value in asdict(self).items() if name.endswith("threshold")}
        return asdict(self) | thresholds | {"parents": list(self.parents)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Backoff:
        thresholds = {name: math.inf if value is None else value for name, value in values.items() if name.endswith("threshold")}
        return cls(**values | thresholds | {"parents": tuple(values["parents"])})


@dataclass(frozen=True)
class Answered:
    """Answers at one level: `n` images, `right` of them rightly answered; precision is None without answers, share is of all images."""

    n: int
    right: int
    share: float
    precision: float | None


@dataclass(frozen=True)
class BackoffReport:
    """What is answered of n images.

    right: share of all images answered rightly at either level.
    species_only: the largest share of these images that species alone could answer as precisely as all answers together are, had the
        threshold been chosen on them; None where nothing is answered.
    """

    n: int
    species: Answered
    parent: Answered
    unanswered: int
    right: float
    species_only: float | None


def level_accuracy(predicted: np.ndarray, labels: np.ndarray, parents: np.ndarray) -> float:
    """Share of images whose predicted class has the right parent."""
    metrics.check_answers(predicted, labels, len(parents))
    return float(((predicted >= 0) & (parents[predicted] == parents[labels])).mean())


def level_figures(probabilities: np.ndarray, labels: np.ndarray, levels: Mapping[str, Sequence[str]]) -> list[LevelFigures]:
    """The figures of each level, from the one with the most names to the one with the fewest."""
    predicted = metrics.predicted_classes(probabilities, labels)
    rows = []
    for level in _fine_to_coarse(levels, probabilities.shape[1]):
        shares = np.bincount(level.parents) / len(level.parents)
        summed = _summed(probabilities, level.parents)
        rows.append(
            LevelFigures(
                name=level.name,
                names=len(level.names),
                top1=level_accuracy(predicted, labels, level.parents),
                top1_summed=metrics.top_k(summed, level.parents[labels], 1),
                chance=float(shares[level.parents[labels]].mean()),
            )
        )
    return rows


def mistake_severity(predicted: np.ndarray, labels: np.ndarray, levels: Mapping[str, Sequence[str]]) -> Severity:
    """How often mistakes stay within the parent at each level, and how high their lowest common ancestors are.

    A random mistake names any other class than the right one, all alike; what these get is computed, not drawn. Raises ValueError where
    there are no levels.
    """
    classes = len(next(iter(levels.values()), ()))
    metrics.check_answers(predicted, labels, classes)
    ordered = _fine_to_coarse(levels, classes)
    wrong = (predicted >= 0) & (predicted != labels)
    if not wrong.any():
        return Severity(0, (), None, None)
    named, right = predicted[wrong], labels[wrong]
    rows = []
    for level in ordered:
        others = (np.bincount(level.parents) - 1) / (classes - 1)
        within = level.parents[named] == level.parents[right]
        rows.append(LevelMistakes(level.name, float(within.mean()), float(others[level.parents[right]].mean())))
    if not _nested(ordered):
        return Severity(len(named), tuple(rows), None, None)
    # Where levels nest, who shares one shares all that are coarser.
    height, random_height = 1 + sum(1 - row.within for row in rows), 1 + sum(1 - row.random for row in rows)
    return Severity(len(named), tuple(rows), height, random_height)


def fit_backoff(probabilities: np.ndarray, labels: np.ndarray, parents: np.ndarray, precision: float) -> Backoff:
    """Thresholds with which the answers of each level are right at a rate of at least `precision`; the parent's on what the species leaves.

    Each is the lowest whose answers on these images have a precision with a lower bound (Clopper and Pearson, Biometrika 1934; one-sided,
    95 %) of `precision`. The lowest whose answers merely were that precise would be one that luck has chosen: in simulation it holds on new
    images in about half of all fits, with the bound in more than nine of ten; not in 95 %, because many thresholds are looked at. The price
    is answers where images are few: of 300 a third fewer, and without a mistake it still takes 59 to show 0.95.
    Raises InputError for a precision outside (0, 1).
    """
    if not 0 < precision < 1:
        raise InputError(f"a precision of {precision:g} cannot be asked for", hint="It is a share between 0 and 1, such as 0.95.")
    metrics.check_answers(labels, labels, len(parents))
    (species, sure), (parent, parent_sure) = _guesses(probabilities, parents)
    threshold = _lowest_threshold(sure, species == labels, precision)
    left = sure < threshold
    parent_threshold = _lowest_threshold(parent_sure[left], (parent == parents[labels])[left], precision)
    return Backoff(precision, threshold, parent_threshold, tuple(parents.tolist()))


def backoff_report(backoff: Backoff, probabilities: np.ndarray, labels: np.ndarray) -> BackoffReport:
    """What the answers are worth on images that the thresholds were not fitted on."""
    parents = np.array(backoff.parents)
    metrics.check_answers(labels, labels, len(parents))
    level, index = backoff.answers(probabilities)
    n = len(labels)
    right = index == np.select([level == 0, level == 1], [labels, parents[labels]], -2)
    counts = [(int((level == each).sum()), int(right[level == each].sum())) for each in (0, 1)]
    species, parent = (Answered(count, hits, count / n, hits / count if count else None) for count, hits in counts)
    answered, hits = species.n + parent.n, species.right + parent.right
    guess, sure = _guesses(probabilities, parents)[0]
    _, counted, hit = _by_threshold(sure, guess == labels)
    as_precise = counted[hit * answered >= hits * counted]
    species_only = float(as_precise.max(initial=0) / n) if answered else None
    return BackoffReport(n, species, parent, n - answered, hits / n, species_only)


def _guesses(probabilities: np.ndarray, parents: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """For species and parents the likeliest, the first of equals, int64 (n,), and its probability, float64 (n,); -inf if not finite."""
    if probabilities.ndim != 2 or probabilities.shape[1] != len(parents):
        raise ValueError(f"probabilities {probabilities.shape} and {len(parents)} parents do not fit together")
    finite = np.isfinite(probabilities).all(axis=1)
    species, parent = (
        (values.argmax(axis=1), np.where(finite, values.max(axis=1), -np.inf).astype(np.float64))
        for values in (probabilities, _summed(probabilities, parents))
    )
    return species, parent


def _summed(probabilities: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """The probability of each parent: float64 (n, parents); NaN in rows that are not finite."""
    # Not a matrix product, whose last digits change with the number of rows.
    finite = np.isfinite(probabilities).all(axis=1, keepdims=True)
    known, present = np.where(finite, probabilities, np.nan), int(parents.max()) + 1
    return np.array([np.bincount(parents, row, present) for row in known]).reshape(len(known), present)


def _lowest_threshold(confidence: np.ndarray, right: np.ndarray, precision: float) -> float:
    thresholds, answered, hits = _by_threshold(confidence, right)
    bounds = np.where(hits > 0, betaincinv(np.maximum(hits, 1), answered - hits + 1, _RISK), 0)
    return float(thresholds[bounds >= precision].min(initial=math.inf))


def _by_threshold(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All thresholds that part the finite confidences, falling, and how many images each answers, how many of them rightly."""
    finite = np.isfinite(confidence)
    order = np.argsort(-confidence[finite], kind="stable")
    ordered, hits = confidence[finite][order], np.cumsum(right[finite][order])
    ends = np.flatnonzero(np.diff(ordered, append=-np.inf))
    return ordered[ends], ends + 1, hits[ends]


def _fine_to_coarse(levels: Mapping[str, Sequence[str]], classes: int) -> list[Level]:
    for name, parents in levels.items():
        if len(parents) != classes:
            raise ValueError(f"the level {name} has {len(parents)} parents where there are {classes} classes")
    return sorted((Level.of(name, parents) for name, parents in levels.items()), key=lambda level: -len(level.names))


def _nested(levels: Sequence[Level]) -> bool:
    """Whether every name of a level lies within one name of the next."""
    return all(len(set(zip(fine.of_classes(), coarse.of_classes(), strict=True))) == len(fine.names) for fine, coarse in pairwise(levels))
