"""Figures of merit from logits and labels.

`logits` is float (n, C), `labels` int (n,) in [0, C). What is undecided counts against the model, in all figures alike:
a tie for a place goes to the wrong class, and a row with a non-finite logit is wrong, predicts no class, and has a confidence of 1 and an
infinite negative log-likelihood. All raise InputError where there are no images, and ValueError where shapes or labels do not fit.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from fieldmark.core.errors import InputError

ECE_BINS = 15
_WORST_BRIER = 2.0


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


def adaptive_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The same with about as many images in each bin; equal confidences share one: int64 (n,) (Nixon et al., CVPR workshops 2019)."""
    first = np.searchsorted(np.sort(confidence), confidence, side="left")
    return first * bins // max(len(confidence), 1)


def squared_errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities from the label's corner, from 0 to 2: float64 (n,); 2 where a logit is not finite."""
    finite = _check(logits, labels)
    exponentials = np.exp(_shifted(logits, finite))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    errors = (probabilities**2).sum(axis=1) - 2 * _label_logits(probabilities, labels) + 1
    return np.where(finite, errors, _WORST_BRIER)


def class_counts(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class its images that were recognised, its images, and the images that were given it: int64 (C,) each."""
    predicted = predicted_classes(logits, labels)
    hits, actual, given = (
        np.bincount(rows, minlength=logits.shape[1]) for rows in (labels[predicted == labels], labels, predicted[predicted >= 0])
    )
    return hits, actual, given


def f1_scores(hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 of each class from counts (..., C) of right predictions, images and predictions; NaN where neither of the last two occurs."""
    total = actual + predicted
    return np.divide(2 * hits, total, out=np.full(total.shape, np.nan), where=total > 0)


def contributions(logits: np.ndarray, labels: np.ndarray) -> sparse.csr_array:
    """What each image adds to the sums that all figures are made of: float64 (n, 6 + 3 C + 2 * 15); see `figures_of`."""
    n, classes = logits.shape
    hit = top_k_hits(logits, labels, 1)
    predicted = predicted_classes(logits, labels)
    losses = -log_likelihoods(logits, labels)
    infinite = np.isinf(losses)
    confidence = confidences(logits)
    gap = confidence - hit
    first = np.stack(
        [np.ones(n), hit, top_k_hits(logits, labels, 5), np.where(infinite, 0, losses), infinite, squared_errors(logits, labels)], axis=1
    )
    return sparse.hstack(
        [
            sparse.csr_array(first),
            _one_hot(np.where(hit, labels, -1), classes),
            _one_hot(labels, classes),
            _one_hot(predicted, classes),
            _one_hot(confidence_bins(confidence), ECE_BINS, gap),
            _one_hot(adaptive_bins(confidence), ECE_BINS, gap),
        ],
        format="csr",
    )


def figures_of(sums: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """The figures of sets of images from their sums of `contributions`, float64 (..., K): float64 (...) each.

    top1, top5: share of images whose label is the first, or among the first five. balanced_accuracy: mean recall of the classes that have
    images. macro_f1: mean F1 of the classes that occur among labels or predictions. nll: in nats. brier: mean `squared_errors` (Brier,
    1950). ece, ece_adaptive: expected calibration error of the predicted class over 15 bins (Guo et al., ICML 2017).
    """
    n, top1, top5, loss, infinite, brier = np.moveaxis(sums[..., :6], -1, 0)
    hits, actual, predicted = (sums[..., 6 + part * classes : 6 + (part + 1) * classes] for part in range(3))
    gaps = np.abs(sums[..., 6 + 3 * classes :])
    recalls = np.divide(hits, actual, out=np.full(hits.shape, np.nan), where=actual > 0)
    return {
        "top1": top1 / n,
        "top5": top5 / n,
        "balanced_accuracy": np.nanmean(recalls, axis=-1),
        "macro_f1": np.nanmean(f1_scores(hits, actual, predicted), axis=-1),
        "nll": np.where(infinite > 0, np.inf, loss / n),
        "brier": brier / n,
        "ece": gaps[..., :ECE_BINS].sum(axis=-1) / n,
        "ece_adaptive": gaps[..., ECE_BINS:].sum(axis=-1) / n,
    }


def figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Those of `figures_of`, of all images."""
    sums = np.asarray(contributions(logits, labels).sum(axis=0))
    return {name: float(value) for name, value in figures_of(sums, logits.shape[1]).items()}


def top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of images whose label is among the k largest logits, in [0, 1]."""
    return float(top_k_hits(logits, labels, k).mean())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 over the classes that occur among labels or predictions, in [0, 1] (scikit-learn's default average of `macro`)."""
    return float(np.nanmean(f1_scores(*class_counts(logits, labels))))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats."""
    return float(-log_likelihoods(logits, labels).mean())


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the predicted class over 15 bins of equal width, in [0, 1] (Guo et al., ICML 2017)."""
    confidence = confidences(logits)
    gap = confidence - top_k_hits(logits, labels, 1)
    return float(np.abs(np.bincount(confidence_bins(confidence), weights=gap)).sum() / len(labels))


def _one_hot(column: np.ndarray, columns: int, values: np.ndarray | None = None) -> sparse.csr_array:
    """1, or a value, in the column of each row; nothing where that is -1."""
    rows = np.flatnonzero(column >= 0)
    entries = np.ones(len(rows)) if values is None else values[rows]
    return sparse.csr_array((entries, (rows, column[rows])), shape=(len(column), columns))


def check_labels(values: np.ndarray, labels: np.ndarray) -> None:
    """Raise InputError where there are no images, and ValueError where values (n, C) and labels int (n,) in [0, C) do not fit."""
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(f"values {values.shape} and labels {labels.shape} do not fit together")
    _check_any(labels)
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()} where there are {values.shape[1]} classes")


def check_answers(predicted: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Raise InputError where there are no images, and ValueError where predicted, int (n,) in [-1, C), and labels do not fit."""
    if labels.ndim != 1 or predicted.shape != labels.shape:
        raise ValueError(f"predicted {predicted.shape} and labels {labels.shape} do not fit together")
    _check_any(labels)
    if labels.min() < 0 or max(labels.max(), predicted.max()) >= classes or predicted.min() < -1:
        raise ValueError(f"labels or predictions lie outside the {classes} classes")


def _check_any(labels: np.ndarray) -> None:
    if len(labels) == 0:
        raise InputError("there are no labelled images to evaluate", hint="Evaluate a split that has images and labels.")


def _check(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which rows are finite: bool (n,)."""
    check_labels(logits, labels)
    return np.isfinite(logits).all(axis=1)


def _label_logits(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]


def _shifted(logits: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Logits in float64 with a largest value of 0 in each row; 0 in rows that are not finite."""
    rows = np.where(finite[:, None], logits, 0).astype(np.float64)
    return rows - rows.max(axis=1, keepdims=True)
