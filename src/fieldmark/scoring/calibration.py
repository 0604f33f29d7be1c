"""Probabilities that mean what they say: logits are rescaled so that on val they are as likely as can be (Guo et al., ICML 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy.optimize import brentq, minimize

from fieldmark.scoring import metrics
from fieldmark.scoring.crossfit import cross_fitted
from fieldmark.scoring.intervals import units_of
from fieldmark.scoring.predictions import Predictions, softmax

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures are kept between these: without a single mistake the likeliest is 0, which would call every answer certain."""
_EVIDENCE = 4.0
"""Twice the log-likelihood that a temperature other than 1 has to gain on val: the square of two standard errors."""
_STEPS = 50
_IMAGES_A_NUMBER = 32
"""For each number of a vector, so many further images speak for what it starts from."""
Scaling = Literal["temperature", "vector"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Logits become `scale * logits + bias`: float64 (C,) each. With a temperature all scales are 1 / temperature, and the bias is 0."""

    scaling: Scaling
    scale: np.ndarray
    bias: np.ndarray

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits, float32 (n, C); a row that is not finite stays so."""
        return (logits * self.scale + self.bias).astype(np.float32)

    @classmethod
    def of(cls, temperature: float, classes: int) -> Calibration:
        return cls("temperature", np.full(classes, 1 / temperature), np.zeros(classes))


_Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Calibration]
"""From logits, labels, and the unit, such as a group of images, that each image belongs to: int64 (n,)."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What val says of how to calibrate.

    nll: the mean negative log-likelihood of val, in nats, as it is ("none"), by a temperature, and by the vector where that is wanted,
        each image judged by a fit without it.
    cross_fitted: the logits of val so calibrated by the chosen scaling, float32 (n, C); NaN where there is no label.
    """

    calibration: Calibration
    temperature: float
    nll: dict[str, float]
    cross_fitted: np.ndarray


def fit_calibration(val: Predictions, scaling: Scaling = "temperature") -> Fitted:
    """A temperature, or a scale and a bias for each class, which can change what is answered and needs many images of each class.

    Both are drawn towards what they start from, a temperature of 1 and the temperature, as far as val leaves it open whether they differ.
    Raises InputError where val has no labelled images.
    """
    known = val.labelled()
    logits, labels = known.logits.astype(np.float64), known.labels
    losses = {"none": -metrics.log_likelihoods(logits, labels)}
    units = units_of(known.groups, len(known))
    calibrated = logits
    for name in dict.fromkeys(("temperature", scaling)):
        calibrated = cross_fitted(partial(_answers, _FITS[name], logits, labels, units), units)
        losses[name] = -metrics.log_likelihoods(calibrated, labels)
    finite = np.isfinite(losses["none"])
    said = np.full(val.logits.shape, np.nan, np.float32)
    said[val.labels >= 0] = calibrated
    return Fitted(
        calibration=_FITS[scaling](logits, labels, units),
        temperature=fit_temperature(logits, labels, units),
        nll={name: float(each[finite].mean()) if finite.any() else math.inf for name, each in losses.items()},
        cross_fitted=said,
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None) -> float:
    """The likeliest temperature, drawn towards 1: what to divide logits, float (n, C), by. 1 without a finite row.

    With so few images that it is within two standard errors of 1 it is 1; beyond, 1 counts for the less, the clearer val speaks (James and
    Stein, Berkeley Symposium 1961). So a calibrated network is hardly harmed by a small val, and one that is far off is corrected even so.

    labels: int (n,); units: int (n,), alike for images that belong together and so count as one.
    """
    finite = np.isfinite(logits).all(axis=1)
    n = int(finite.sum())
    if not n:
        return 1.0
    logits, labels = logits[finite].astype(np.float64), labels[finite]
    likeliest = likeliest_temperature(logits, labels)
    gained = (metrics.log_likelihoods(logits / likeliest, labels) - metrics.log_likelihoods(logits, labels)).mean()
    evidence = 2 * gained * (n if units is None else len(np.unique(units[finite])))
    return likeliest_temperature(logits, labels, n * _EVIDENCE / (evidence - _EVIDENCE)) if evidence > _EVIDENCE else 1.0


def likeliest_temperature(logits: np.ndarray, labels: np.ndarray, more: float = 0.0) -> float:
    """The temperature by which labels, int (n,), are as likely as can be, and those of `more` further images that are as right as they say.

    logits: float (n, C), finite. The likelihood is concave in the temperature's inverse, so that there is one answer.
    """
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)

    def expected(inverse: float) -> float:
        """The logit of the right class if the probabilities are true."""
        weights = np.exp(inverse * logits)
        return float((np.einsum("nc,nc->n", weights, logits) / weights.sum(axis=1)).mean())

    n = len(labels)
    right = (n * logits[np.arange(n), labels].mean() + more * expected(1)) / (n + more)
    if expected(1 / COLDEST) <= right:
        return COLDEST
    if expected(1 / HOTTEST) >= right:
        return HOTTEST
    return 1 / float(brentq(lambda inverse: expected(inverse) - right, 1 / HOTTEST, 1 / COLDEST, xtol=1e-9))


def _of_temperature(logits: np.ndarray, labels: np.ndarray, units: np.ndarray) -> Calibration:
    return Calibration.of(fit_temperature(logits, labels, units), logits.shape[1])


def _of_vector(logits: np.ndarray, labels: np.ndarray, units: np.ndarray) -> Calibration:
    """Scales and biases drawn towards the temperature: by further images, and by how little they gain on images not fitted on."""
    free = 2 * (logits.shape[1] - 1)

    def fit(rows: np.ndarray) -> tuple[Calibration, Calibration]:
        """The temperature, and the vector from it on."""
        start = _of_temperature(logits[rows], labels[rows], units[rows])
        together = len(rows) / max(len(np.unique(units[rows])), 1)  # images that speak as one
        return start, likeliest_vector(logits[rows], labels[rows], start, _IMAGES_A_NUMBER * free * together)

    def gain(fitted: np.ndarray, held: np.ndarray) -> np.ndarray:
        """What the vector adds to the log-likelihood of the images that are held."""
        if not len(fitted):
            return np.zeros(len(held))
        before, after = (metrics.log_likelihoods(each(logits[held]), labels[held]) for each in fit(fitted))
        return np.subtract(after, before, out=np.zeros(len(held)), where=np.isfinite(before))

    start, vector = fit(np.arange(len(labels)))
    gained = float(cross_fitted(gain, units).mean()) * len(np.unique(units))
    if gained <= 0:
        return Calibration("vector", start.scale, start.bias)
    share = gained / (gained + free)
    return Calibration("vector", start.scale + share * (vector.scale - start.scale), share * vector.bias)


def likeliest_vector(logits: np.ndarray, labels: np.ndarray, start: Calibration, more: float = 0.0) -> Calibration:
    """The scale and bias of each class by which labels, int (n,), and those of `more` further images are as likely as can be.

    The further images are as right as the start says; it is what is returned without a finite row of logits, float64 (n, C).
    """
    finite = np.isfinite(logits).all(axis=1)
    logits, labels, classes = logits[finite], labels[finite], logits.shape[1]
    n = len(labels)
    if not n:
        return start
    targets = softmax(start(logits)).astype(np.float64) * more / (n + more)
    targets[np.arange(n), labels] += n / (n + more)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = parameters[:classes] * logits + parameters[classes:]
        scaled -= scaled.max(axis=1, keepdims=True)
        right = np.einsum("nc,nc->n", targets, scaled)
        residuals = np.exp(scaled, out=scaled)
        sums = residuals.sum(axis=1)
        residuals /= sums[:, None]
        residuals -= targets
        gradient = np.concatenate([np.einsum("nc,nc->c", residuals, logits), residuals.sum(axis=0)]) / n
        return float((np.log(sums) - right).mean()), gradient

    found = minimize(loss, np.concatenate([start.scale, start.bias]), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    return Calibration("vector", found[:classes], found[classes:])


_FITS: dict[Scaling, _Fit] = {"temperature": _of_temperature, "vector": _of_vector}


def _answers(fit: _Fit, logits: np.ndarray, labels: np.ndarray, units: np.ndarray, fitted: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Calibrated logits of the rows that are held; as they are where there is nothing to fit on."""
    return fit(logits[fitted], labels[fitted], units[fitted])(logits[held]) if len(fitted) else logits[held].astype(np.float32)


@dataclass(frozen=True, eq=False)
class Reliability:
    """What the answers of each bin of confidence said and how often they were right; bins without images are left out.

    lows, highs: the ends of the bin; counts: its images; confidence, accuracy: their means, in [0, 1].
    """

    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(logits: np.ndarray, labels: np.ndarray) -> Reliability:
    """Of the predicted class, over the bins of the ECE."""
    confidence, hits = metrics.confidences(logits), metrics.top_k_hits(logits, labels, 1)
    bins = metrics.confidence_bins(confidence)
    counts = np.bincount(bins, minlength=metrics.ECE_BINS)
    used = np.flatnonzero(counts)
    sums = (np.bincount(bins, weights, metrics.ECE_BINS)[used] / counts[used] for weights in (confidence, hits))
    return Reliability(used / metrics.ECE_BINS, (used + 1) / metrics.ECE_BINS, counts[used], *sums)
