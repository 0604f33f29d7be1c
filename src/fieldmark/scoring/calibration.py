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
from fieldmark.scoring.predictions import Predictions

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures are kept between these: without a single mistake the likeliest is 0, which would call every answer certain."""
_STEPS = 50
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


_Fit = Callable[[np.ndarray, np.ndarray], Calibration]


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

    Raises InputError where val has no labelled images.
    """
    known = val.labelled()
    logits, labels = known.logits.astype(np.float64), known.labels
    losses = {"none": -metrics.log_likelihoods(logits, labels)}
    units = units_of(known.groups, len(known))
    calibrated = logits
    for name in dict.fromkeys(("temperature", scaling)):
        calibrated = cross_fitted(partial(_answers, _FITS[name], logits, labels), units)
        losses[name] = -metrics.log_likelihoods(calibrated, labels)
    finite = np.isfinite(losses["none"])
    said = np.full(val.logits.shape, np.nan, np.float32)
    said[val.labels >= 0] = calibrated
    temperature = fit_temperature(logits, labels)
    return Fitted(
        calibration=Calibration.of(temperature, logits.shape[1]) if scaling == "temperature" else _of_vector(logits, labels),
        temperature=temperature,
        nll={name: float(each[finite].mean()) if finite.any() else math.inf for name, each in losses.items()},
        cross_fitted=said,
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What to divide logits, float (n, C), by so that the labels, int (n,), are as likely as can be; 1 without a finite row.

    The likelihood is concave in the temperature's inverse, so that there is one answer.
    """
    finite = np.isfinite(logits).all(axis=1)
    if not finite.any():
        return 1.0
    logits, labels = logits[finite].astype(np.float64), labels[finite]
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        """Of the negative log-likelihood, by the inverse: how far the expected logit is above the right one."""
        weights = np.exp(inverse * logits)
        return float((np.einsum("nc,nc->n", weights, logits) / weights.sum(axis=1)).mean() - right)

    if slope(1 / COLDEST) <= 0:
        return COLDEST
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-9))


def _of_temperature(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    return Calibration.of(fit_temperature(logits, labels), logits.shape[1])


def _of_vector(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """A scale and a bias for each class, from the best temperature on."""
    finite = np.isfinite(logits).all(axis=1)
    logits, labels, classes = logits[finite], labels[finite], logits.shape[1]
    temperature = fit_temperature(logits, labels)
    if not len(labels):
        return Calibration.of(temperature, classes)
    rows = np.arange(len(labels))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = parameters[:classes] * logits + parameters[classes:]
        scaled -= scaled.max(axis=1, keepdims=True)
        right = scaled[rows, labels]
        residuals = np.exp(scaled, out=scaled)
        sums = residuals.sum(axis=1)
        residuals /= sums[:, None]
        residuals[rows, labels] -= 1
        gradient = np.concatenate([np.einsum("nc,nc->c", residuals, logits), residuals.sum(axis=0)]) / len(labels)
        return float((np.log(sums) - right).mean()), gradient

    start = np.concatenate([np.full(classes, 1 / temperature), np.zeros(classes)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    return Calibration("vector", found[:classes], found[classes:])


_FITS: dict[Scaling, _Fit] = {"temperature": _of_temperature, "vector": _of_vector}


def _answers(fit: _Fit, logits: np.ndarray, labels: np.ndarray, fitted: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Calibrated logits of the rows that are held; as they are where there is nothing to fit on."""
    return fit(logits[fitted], labels[fitted])(logits[held]) if len(fitted) else logits[held].astype(np.float32)


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
