"""New classes from a few photos, without training: classes are recognised by their means under one shared covariance.

That is linear discriminant analysis on the network's features, scaled to length 1, for the classes that it was trained on as well: its own
logits of them cannot be compared with those of a class that it never saw. See McDonnell et al., NeurIPS 2023 (RanPAC), and Mai et al.,
NeurIPS 2024, on what fine-tuning leaves of classes that it did not see.

The mean of k photos lies farther out than that of the class, by as much as an image lies from its mean, divided by k. A class is given back
what that costs it, but never so much that it claims more images of val, none of which shows it, than a class has on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from fieldmark.core.errors import InputError
from fieldmark.scoring.decompositions import shrunk_covariance, whitening
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection import auroc
from fieldmark.scoring.rejection_scores import Mahalanobis, unit_length

_ROUNDER = 0.5
"""How far the covariance is drawn towards a sphere, beyond Ledoit and Wolf: for means of few photos."""
_NEAR, _BY_CHANCE = 1 / 3, 1 / 2
"""Photos are not told from a class if their squared distance from it, less what chance puts there, is below this share of that between
neighbouring classes, and below this share of what chance puts there. Of five photos of a class of cars itself, nine in ten lie closer."""
_APART = 0.01
"""The quantile of the agreement within classes below which photos are not of one class."""


@dataclass(frozen=True, eq=False)
class Enrolled:
    """A class that was added: features float32 (k, D), of length 1, of k photos, and the SHA-256 of their files."""

    name: str
    features: np.ndarray
    hashes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Head:
    """Logits of all classes, in place of the network's own: weight float32 (C, D), bias float32 (C,), for features of length 1."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From features (n, D) as the network returns them to logits float32 (n, C) and these features at length 1."""
        unit = unit_length(features)
        return unit @ self.weight.T + self.bias, unit


@dataclass(frozen=True, eq=False)
class KnownClasses:
    """What enrolment needs of a model: the C classes that it was trained on, and its images of val, which were not learnt.

    means: float32 (C, D), of features of length 1. counts: int32 (C,), images of train. covariance: float32 (D, D), within classes, shrunk.
    within, beyond: the mean squared distance under it of an image from the mean of its class, in train and in val.
    features, labels, groups, logits: of val, float32 (n, D) at length 1, int32 (n,), int32 (n,) or None, and float32 (n, C).
    """

    means: np.ndarray
    counts: np.ndarray
    covariance: np.ndarray
    within: float
    beyond: float
    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    logits: np.ndarray

    @classmethod
    def of(cls, train: Predictions, val: Predictions) -> KnownClasses:
        """Raises InputError if a class has no images of train, or val has none."""
        train, val = _usable(train), _usable(val)
        classes = len(train.class_names)
        counts = np.bincount(train.labels, minlength=classes)
        if (empty := np.flatnonzero(counts == 0)).size or not len(val):
            what = f"class {train.class_names[empty[0]]} has no images of train" if empty.size else "there are no images of val"
            raise InputError(f"{what}, and enrolling compares new classes with all of them")
        unit, of_val = unit_length(train.features).astype(np.float64), unit_length(val.features)
        means = np.stack([unit[train.labels == each].mean(axis=0) for each in range(classes)])
        residuals = unit - means[train.labels]
        free = len(unit) / max(len(unit) - classes, 1)
        covariance = free * shrunk_covariance(residuals)
        covariance = (1 - _ROUNDER) * covariance + _ROUNDER * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        axes = whitening(covariance)
        within = float(((residuals @ axes) ** 2).sum(axis=1).mean() * free)
        beyond = float((((of_val - means[val.labels]) @ axes) ** 2).sum(axis=1).mean() - within * (1 / counts[val.labels]).mean())
        return cls(
            means=means.astype(np.float32),
            counts=counts.astype(np.int32),
            covariance=covariance.astype(np.float32),
            within=within,
            beyond=max(beyond, within),
            features=of_val,
            labels=val.labels,
            groups=val.groups,
            logits=val.logits,
        )

    @cached_property
    def centre(self) -> np.ndarray:
        return self.means.mean(axis=0, dtype=np.float64)

    @cached_property
    def axes(self) -> np.ndarray:
        """From features less the centre to those whose covariance within a class is the identity."""
        return whitening(self.covariance.astype(np.float64))

    def whitened(self, unit: np.ndarray) -> np.ndarray:
        return (unit - self.centre) @ self.axes

    @cached_property
    def neighbourhood(self) -> float:
        """The median, over classes, of the squared distance to the nearest other one."""
        return float(np.median(_between(*self._placed(())).min(axis=1)))

    def head(self, enrolled: Sequence[Enrolled]) -> Head:
        """Of the classes that were trained, followed by those that were enrolled."""
        means, noise = self._placed(enrolled)
        bias = (noise - (means**2).sum(axis=1)) / 2
        of_val = self._whitened_val @ means.T + bias
        trained = len(self.means)
        best = of_val[:, :trained].max(axis=1)
        for column, each in enumerate(enrolled, trained):
            photos = len(each.features)
            allowed = int(photos / (photos + 1) * len(best) / (trained + 1))
            lead = np.sort(of_val[:, column] - best)[::-1]
            excess = max(lead[min(allowed, len(lead) - 1)], 0.0)
            bias[column] -= excess
            of_val[:, column] -= excess
        scale = _sharpness(of_val, self.labels)
        weight = means @ self.axes.T
        return Head((scale * weight).astype(np.float32), (scale * (bias - weight @ self.centre)).astype(np.float32))

    def rejection(self, enrolled: Sequence[Enrolled]) -> tuple[Mahalanobis, float | None]:
        """The distance to the nearest class, with the AUROC of images of val against themselves as if their class were unknown."""
        means, _ = self._placed(enrolled)
        whitened = self._whitened_val
        squared = (whitened**2).sum(axis=1, keepdims=True) + (means**2).sum(axis=1) - 2 * whitened @ means.T
        others = squared.copy()
        others[np.arange(len(others)), self.labels] = np.inf
        return Mahalanobis(self.centre, self.axes, means), auroc(-squared.min(axis=1), -others.min(axis=1))

    def like(self, features: np.ndarray, others: Sequence[Enrolled] = ()) -> int | None:
        """The class, or one of `others` after them, that photos, float32 (k, D), cannot be told from; None if there is none."""
        photos = self.whitened(features)
        means, noise = self._placed(others)
        by_chance = noise + self.beyond / len(photos)
        excess = ((photos.mean(axis=0) - means) ** 2).sum(axis=1) - by_chance
        nearest = int(excess.argmin())
        return nearest if excess[nearest] < min(_NEAR * self.neighbourhood, _BY_CHANCE * by_chance[nearest]) else None

    def agreement(self, features: np.ndarray) -> np.ndarray:
        """Of each of k > 1 photos, float32 (k, D), with the others: the mean cosine, seen from the centre of all classes; float64 (k,).

        Images of one class lie in one direction; those of different ones, in as many dimensions, at right angles.
        """
        return _agreement(self.whitened(features))

    def disagree(self, features: np.ndarray) -> bool:
        """Whether photos, float32 (k, D), agree less than images of one class do, but for one class in a hundred; two, not at all."""
        if len(features) < 2:
            return False
        return float(self.agreement(features).mean()) < (self._least_agreement if len(features) > 2 else 0)

    def _placed(self, enrolled: Sequence[Enrolled]) -> tuple[np.ndarray, np.ndarray]:
        """The whitened means of the trained and of these classes, float64 (C, D), and the squared distance that chance puts between each
        and its class, float64 (C,)."""
        photos = [self.whitened(each.features) for each in enrolled]
        means = np.concatenate([self._whitened_means, *(each.mean(axis=0, keepdims=True) for each in photos)])
        return means, np.concatenate([self.within / self.counts, [self.beyond / len(each) for each in photos]])

    @cached_property
    def _whitened_means(self) -> np.ndarray:
        return self.whitened(self.means)

    @cached_property
    def _whitened_val(self) -> np.ndarray:
        return self.whitened(self.features)

    @cached_property
    def _least_agreement(self) -> float:
        of_class = [np.flatnonzero(self.labels == label) for label in range(len(self.means))]
        found = [_agreement(self._whitened_val[rows]).mean() for rows in of_class if len(rows) > 1]
        return float(np.quantile(found, _APART)) if found else -1.0


def _usable(predictions: Predictions) -> Predictions:
    """Images with a label and finite features."""
    return predictions.take(np.flatnonzero((predictions.labels >= 0) & np.isfinite(predictions.features).all(axis=1)))


def _between(means: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Squared distances between classes less what chance adds to them, float64 (C, C), infinite on the diagonal."""
    lengths = (means**2).sum(axis=1)
    squared = lengths[:, None] + lengths - 2 * means @ means.T - noise[:, None] - noise
    np.fill_diagonal(squared, np.inf)
    return np.asarray(squared)


def _agreement(rows: np.ndarray) -> np.ndarray:
    """The mean cosine of each of n > 1 rows with the others, float64 (n,)."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(((unit @ unit.T).sum(axis=1) - 1) / (len(rows) - 1))


def _sharpness(scores: np.ndarray, labels: np.ndarray) -> float:
    """What scores (n, C) are multiplied with to be logits: the best for the likelihood of the labels."""
    spread = max(float(scores.std()), 1e-12)
    right = scores[np.arange(len(labels)), labels]

    def loss(power: float) -> float:
        scale = np.exp(power) / spread
        return float((logsumexp(scale * scores, axis=1) - scale * right).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded").x) / spread)
