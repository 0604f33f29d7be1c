"""How known an image is: seven scores from logits and features, each fitted once and kept as arrays in rejection.safetensors.

Scores are float64 (n,), higher where an image is more like what was trained on. A row with a logit or feature that is not finite scores
-inf.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import safetensors
import safetensors.numpy
from scipy.special import logsumexp

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file
from fieldmark.scoring.decompositions import SMALLEST_VARIANCE, principal_axes, shrunk_covariance, whitening
from fieldmark.scoring.metrics import confidences
from fieldmark.scoring.nearest_cosines import NearestCosines, largest
from fieldmark.scoring.predictions import Predictions

NEIGHBOURS = 3

_ROWS_AT_ONCE = 1024
_SMALLEST_DEVIATION = 1e-6
_AGAIN = "`fieldmark calibrate RUN` writes it anew."


@dataclass(frozen=True, eq=False)
class Score(ABC):
    """A fitted score. Its fields are the arrays that it needs; the last dimension of the first one is that of the features, D."""

    name: ClassVar[str]
    of_features: ClassVar[bool] = True
    """Whether it is fitted on the features of train; the others depend on logits alone."""
    of_scatter: ClassVar[bool] = False
    """Whether fitting it decomposes the scatter of the features, which takes seconds."""

    @classmethod
    @abstractmethod
    def fit(cls, labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Self:
        """On n training images, all labelled and finite: int32 (n,), float32 (n, C) and float32 (n, D)."""

    @abstractmethod
    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Of rows that are finite."""

    @property
    def width(self) -> int | None:
        """How many features it was fitted on; None if it needs none."""
        return next((int(getattr(self, field.name).shape[-1]) for field in fields(self)), None)

    def __call__(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """From logits (n, C) and features (n, D), some rows at a time, so that memory holds them.

        Raises InputError if it was fitted on another number of features.
        """
        if self.width not in (None, features.shape[1]):
            raise InputError(
                f"the score {self.name} was fitted on {self.width} features, and this run has {features.shape[1]}",
                hint="`fieldmark calibrate RUN` fits it anew.",
            )
        result = np.full(len(logits), -np.inf)
        for start in range(0, len(logits), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            finite = _finite(logits[part], features[part])
            if finite.any():
                result[part][finite] = self.of_finite(logits[part][finite], features[part][finite])
        return result

    def save(self, path: Path) -> None:
        """Write it, whole or not at all; equal scores make equal bytes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        content = safetensors.numpy.save(arrays, {"score": self.name})
        with whole_file(path) as temporary:
            temporary.write_bytes(content)


class _OfLogits(Score):
    of_features = False

    @classmethod
    def fit(cls, labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Self:
        return cls()


class Msp(_OfLogits):
    """The largest softmax probability (Hendrycks and Gimpel, ICLR 2017)."""

    name = "msp"

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return confidences(logits)


class MaxLogit(_OfLogits):
    """The largest logit (Hendrycks et al., ICML 2022; Vaze et al., ICLR 2022)."""

    name = "max-logit"

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return _largest(logits)


class Energy(_OfLogits):
    """The logarithm of the sum of exponentials of the logits (Liu et al., NeurIPS 2020)."""

    name = "energy"

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return energy(logits)


@dataclass(frozen=True, eq=False)
class _OfNeighbours(Score):
    """reference: float32 (n, D), features of the training images as rows of length 1"""

    reference: np.ndarray

    def near(self, features: np.ndarray) -> np.ndarray:
        """The mean cosine with the nearest training images, float64 (n,)."""
        return self._nearest(unit_length(features), NEIGHBOURS).mean(axis=1, dtype=np.float64)

    @cached_property
    def _nearest(self) -> NearestCosines:
        return NearestCosines(self.reference)


@dataclass(frozen=True, eq=False)
class Knn(_OfNeighbours):
    """The mean cosine of the features with those of the 3 nearest training images.

    After Sun et al. (ICML 2022), who take the distance to the k-th; in fine-grained data a class may have ten images.
    """

    name = "knn"

    @classmethod
    def fit(cls, labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Self:
        return cls(unit_length(features))

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return self.near(features)


@dataclass(frozen=True, eq=False)
class MaxLogitAndKnn(_OfNeighbours):
    """The sum of max-logit and knn, each standardised over training images, which are not counted among their own neighbours.

    largest, nearness: the mean and standard deviation of max-logit and of knn, float64 (2,)
    """

    name = "max-logit+knn"
    largest: np.ndarray
    nearness: np.ndarray

    @classmethod
    def fit(cls, labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Self:
        reference = unit_length(features)
        some = np.arange(0, len(reference), math.ceil(len(reference) / _ROWS_AT_ONCE))
        cosines = reference[some] @ reference.T
        cosines[np.arange(len(some)), some] = -1
        return cls(reference, _moments(_largest(logits[some])), _moments(largest(cosines, NEIGHBOURS).mean(axis=1, dtype=np.float64)))

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return _standardised(_largest(logits), self.largest) + _standardised(self.near(features), self.nearness)


@dataclass(frozen=True, eq=False)
class Mahalanobis(Score):
    """Minus the squared distance to the nearest class mean under one shared covariance (Lee et al., NeurIPS 2018).

    The covariance is shrunk (Ledoit and Wolf, Journal of Multivariate Analysis 2004).

    centre: of the class means, float64 (D,)
    whitening: float64 (D, D), from features less the centre to those whose covariance is the identity
    means: of the classes, whitened, float64 (classes, D)
    """

    name = "mahalanobis"
    of_scatter = True
    centre: np.ndarray
    whitening: np.ndarray
    means: np.ndarray

    @classmethod
    def fit(cls, labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Self:
        order = np.argsort(labels, kind="stable")
        of_class = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        means = np.stack([features[rows].mean(axis=0, dtype=np.float64) for rows in of_class])
        residuals = features.astype(np.float64)
        for rows, mean in zip(of_class, means, strict=True):
            residuals[rows] -= mean
        to_identity = whitening(shrunk_covariance(residuals))
        centre = means.mean(axis=0)
        return cls(centre, to_identity, (means - centre) @ to_identity)

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        whitened = (features - self.centre) @ self.whitening
        nearest = ((self.means**2).sum(axis=1) - 2 * whitened @ self.means.T).min(axis=1)
        return -np.maximum((whitened**2).sum(axis=1) + nearest, 0)


@dataclass(frozen=True, eq=False)
class Vim(Score):
    """Energy less the scaled norm of what lies outside the principal space of the features (Wang et al., CVPR 2022).

    The linear layer that it starts from is found from logits and features by least squares.

    origin: float64 (D,), the features from which all are measured
    outside: float64 (D, m), directions outside the principal space
    scale: of the norm, float64 ()
    """

    name = "vim"
    of_scatter = True
    origin: np.ndarray
    outside: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Self:
        width = features.shape[1]
        origin = _origin(features, logits)
        rows = features - origin
        variances, directions = principal_axes(rows)
        principal = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
        # At the rank nothing of the training images would be left outside. Two thirds are the paper's own largest share, 512 of 768.
        principal = min(principal, 2 * int((variances > SMALLEST_VARIANCE * variances[-1]).sum()) // 3)
        outside = np.ascontiguousarray(directions[:, : width - principal])
        norm = np.linalg.norm(rows @ outside, axis=1).mean()
        # Logarithms of probabilities are below 0, which must not turn the sign.
        scale = abs(_largest(logits).mean()) / norm if norm > 0 else 0.0
        return cls(origin, outside, np.array(scale))

    def of_finite(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return energy(logits) - self.scale * np.linalg.norm((features - self.origin) @ self.outside, axis=1)


_KINDS: dict[str, type[Score]] = {kind.name: kind for kind in (MaxLogitAndKnn, Msp, MaxLogit, Energy, Knn, Mahalanobis, Vim)}
SCORES = tuple(_KINDS)
"""In order of preference: see rejection.choose_score."""
OF_LOGITS = tuple(name for name, kind in _KINDS.items() if not kind.of_features)
"""The scores that need no images of train."""
OF_SCATTER = tuple(name for name, kind in _KINDS.items() if kind.of_scatter)
"""The scores that take seconds to fit."""


def fit_score(name: str, train: Predictions | None) -> Score:
    """One of SCORES, fitted.

    Those of features are fitted on the training images that have a label and are finite; they raise InputError if there are none, or
    no features. The others need no `train`. Raises ValueError for another name.
    """
    if name not in _KINDS:
        raise ValueError(f"there is no score {name!r}, only {', '.join(SCORES)}")
    if name in OF_LOGITS:
        return _KINDS[name]()
    if train is None:
        raise without_train(name)
    if not train.features.shape[1]:
        raise InputError(f"{name} needs features, and these predictions have none", hint=f"Choose among {', '.join(OF_LOGITS)}.")
    usable = _usable(train)
    if not usable.any():
        raise InputError(
            f"{name} is fitted on labelled training images with finite features, and there are none",
            hint=f"Choose among {', '.join(OF_LOGITS)}.",
        )
    return _KINDS[name].fit(train.labels[usable], train.logits[usable], train.features[usable])


def without_train(name: str) -> InputError:
    """For a score of features whose predictions of train are missing."""
    return InputError(
        f"unknown images are recognised by {name}, which needs the predictions of train, and these are missing",
        hint="`fieldmark evaluate RUN --split train` makes them; `fieldmark calibrate RUN` chooses a score that does not need them.",
    )


def fitted_scores(train: Predictions | None, names: Sequence[str] = SCORES) -> dict[str, Score]:
    """Those of `names` that can be fitted; without features of train, only those of logits."""
    usable = train is not None and train.features.shape[1] > 0 and _usable(train).any()
    return {name: fit_score(name, train) for name in names if name in OF_LOGITS or usable}


def load_score(path: Path, name: str) -> Score:
    """Read a score that `Score.save` wrote. Raises InputError if the file is damaged, or holds another score than `name`."""
    try:
        with safetensors.safe_open(path, "np") as file:
            found = (file.metadata() or {}).get("score")
            arrays = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 (it cannot be iterated)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=_AGAIN) from error
    if found != name:
        raise InputError(f"{path} holds the score {found}, and calibration.json names {name}", hint=_AGAIN)
    expected = {field.name for field in fields(_KINDS[name])}
    if set(arrays) != expected:
        raise InputError(f"{path} is damaged: it holds {', '.join(sorted(arrays))}, not {', '.join(sorted(expected))}", hint=_AGAIN)
    return _KINDS[name](**arrays)


def _finite(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Which rows are: bool (n,)."""
    return np.isfinite(logits).all(axis=1) & np.isfinite(features).all(axis=1)


def _usable(train: Predictions) -> np.ndarray:
    """Which rows a score is fitted on: bool (n,)."""
    return (train.labels >= 0) & _finite(train.logits, train.features)


def _largest(logits: np.ndarray) -> np.ndarray:
    return logits.max(axis=1).astype(np.float64)


def energy(logits: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of exponentials: float64 (n,)."""
    return np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def _moments(values: np.ndarray) -> np.ndarray:
    """Mean and standard deviation, float64 (2,); if values are all but equal, the deviation is 1."""
    mean, deviation = values.mean(), values.std()
    return np.array([mean, deviation if deviation > _SMALLEST_DEVIATION * max(abs(mean), 1) else 1.0])


def _standardised(values: np.ndarray, moments: np.ndarray) -> np.ndarray:
    return np.asarray((values - moments[0]) / moments[1])


def unit_length(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays so."""
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    return (features / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


def _origin(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The features for which the linear layer returns no logits, -W⁺ b: float64 (D,), with W and b by least squares."""
    mean, logit_mean = features.mean(axis=0, dtype=np.float64), logits.mean(axis=0, dtype=np.float64)
    rows = features - mean
    variances, directions = principal_axes(rows)
    sound = variances > SMALLEST_VARIANCE * variances[-1]
    along = directions[:, sound]
    weight = (along / variances[sound]) @ (along.T @ (rows.T @ (logits - logit_mean)))
    # A softmax does not ask for the logits' common part, in which W may be all but 0, and its inverse noise.
    return -np.linalg.pinv(weight.T, rcond=1e-2) @ (logit_mean - mean @ weight)
