"""Figures of merit from logits and labels.

`logits` is float (n, C), `labels` int (n,) in [0, C). What is undecided counts against the model, in all figures alike:
a tie for a place goes to the wrong class, and a row with a non-finite logit is wrong, predicts no class, and has a confidence of 1 and an
infinite negative log-likelihood. All raise InputError where there are no images, and ValueError where shapes or labels do not fit.
"""

from __future__ import annotations

import numpy as np

from fieldmark.core.errors import InputError

ECE_BINS = 15


def top_k_hits(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether fewer than k other classes reach the label's logit: bool (n,). With k >= C every finite row is a hit."""
    finite = _check(logits, labels)
    reached = (logits >= _label_logits(logits, labels)[:, None]).sum(axis=1)
    return finite & (reached <= k)


def predicted_classes(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class with the largest logit: int64 (n,).

    Of tied classes it is the first that is not the label; -1 where a logit is not finite.
    """
    finite = _check(logits, labels)
    best = logits == logits.max(axis=1, keepdims=True)
    tied = best.sum(axis=1) > 1
    best[np.flatnonzero(tied), labels[tied]] = False
    return np.where(finite, best.argmax(axis=1), -1)


def log_likelihoods(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Natural log of the label's softmax probability, computed in float64: float64 (n,); -inf where a logit is not finite."""
    finite = _check(logits, labels)
    shifted = _shifted(logits, finite)
    values = _label_logits(shifted, labels) - np.log(np.exp(shifted).sum(axis=1))
    return np.where(finite, values, -np.inf)


def confidences(logits: np.ndarray) -> np.ndarray:
    """The largest softmax probability, computed in float64: float64 (n,); 1 where a logit is not finite."""
    finite = np.isfinite(logits).all(axis=1)
    return np.where(finite, 1 / np.exp(_shifted(logits, finite)).sum(axis=1), 1.0)


def confidence_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The bin of each confidence, int64 (n,), where bin b of `bins` is the interval (b / bins, (b + 1) / bins]."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def f1_scores(hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 of each class from counts (..., C) of right predictions, images and predictions; NaN where neither of the last two occurs."""
    total = actual + predicted
    return np.divide(2 * hits, total, out=np.full(total.shape, np.nan), where=total > 0)


def top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of images whose label is among the k largest logits, in [0, 1]."""
    return float(top_k_hits(logits, labels, k).mean())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 over the classes that occur among labels or predictions, in [0, 1] (scikit-learn's default average of `macro`)."""
    classes = logits.shape[1]
    predicted = predicted_classes(logits, labels)
    counts = (np.bincount(rows, minlength=classes) for rows in (labels[predicted == labels], labels, predicted[predicted >= 0]))
    return float(np.nanmean(f1_scores(*counts)))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats."""
    return float(-log_likelihoods(logits, labels).mean())


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the predicted class over 15 bins of equal width, in [0, 1] (Guo et al., ICML 2017)."""
    confidence = confidences(logits)
    gap = confidence - top_k_hits(logits, labels, 1)
    return float(np.abs(np.bincount(confidence_bins(confidence), weights=gap)).sum() / len(labels))


def _check(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which rows are finite: bool (n,)."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} do not fit together")
    if len(labels) == 0:
        raise InputError("there are no labelled images to evaluate", hint="Evaluate a split that has images and labels.")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()} where there are {logits.shape[1]} classes")
    return np.isfinite(logits).all(axis=1)


def _label_logits(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]


def _shifted(logits: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Logits in float64 with a largest value of 0 in each row; 0 in rows that are not finite."""
    rows = np.where(finite[:, None], logits, 0).astype(np.float64)
    return rows - rows.max(axis=1, keepdims=True)
