"""Metrics from logits and labels; METRICS lists them.

`logits` is float (n, C), `labels` int (n,) in [0, C). What is undecided counts against the model, in all metrics alike: a tie for a place
goes to the wrong class, and a row with a logit that is not finite is wrong, predicts no class, and has a confidence of 1 and an infinite
negative log-likelihood. All raise InputError if there are no images, and ValueError if shapes or labels do not match.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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


class Sums(NamedTuple):
    """What the metrics of a set of images are made of: sums over its images, float64 (..., width) each.

    Of width 1: the number of images, how many are hits among the first one and the first five, the log-likelihood lost and how often it is
    infinite, and the squared errors. For each class: its hits, its images, and the images predicted as it. For each bin of confidence, of
    equal width or equally full: confidence less hits.
    """

    images: np.ndarray
    top1: np.ndarray
    top5: np.ndarray
    loss: np.ndarray
    infinite: np.ndarray
    squared: np.ndarray
    hits: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray
    gaps: np.ndarray
    adaptive_gaps: np.ndarray

    @staticmethod
    def of(sums: np.ndarray, classes: int) -> Sums:
        """From the sums of `contributions`, float64 (..., K)."""
        widths = (1, 1, 1, 1, 1, 1, classes, classes, classes, ECE_BINS, ECE_BINS)
        return Sums(*np.split(sums, np.cumsum(widths)[:-1], axis=-1))


def contributions(logits: np.ndarray, labels: np.ndarray) -> sparse.csr_array:
    """What each image adds to the Sums: float64 (n, K), their parts side by side."""
    classes = logits.shape[1]
    hit = top_k_hits(logits, labels, 1)
    losses = -log_likelihoods(logits, labels)
    infinite = np.isinf(losses)
    confidence = confidences(logits)
    gap = confidence - hit
    columns = [
        np.ones(len(labels)),
        hit,
        top_k_hits(logits, labels, 5),
        np.where(infinite, 0, losses),
        infinite,
        squared_errors(logits, labels),
    ]
    per_class = (np.where(hit, labels, -1), labels, predicted_classes(logits, labels))
    per_bin = (confidence_bins(confidence), adaptive_bins(confidence))
    return sparse.hstack(
        [
            sparse.csr_array(np.stack(columns, axis=1)),
            *(_one_hot(column, classes) for column in per_class),
            *(_one_hot(column, ECE_BINS, gap) for column in per_bin),
        ],
        format="csr",
    )


@dataclass(frozen=True)
class Metric:
    """One metric of the answers for labelled images: all that the summary, the tables and the reports need to know of it.

    key: in summary.json; name: in tables
    of: the metric itself from the Sums of sets of images, float64 (...)
    unit: "%" for a share, which `of` returns in [0, 1]; digits: decimals that are written
    higher_is_better: its direction
    meaning: in reports
    headline: whether it is among the few that a table or a report begins with
    calibrated: whether it is of probabilities, and so stated after calibration too
    gaps: of a sum of distances from 0, these distances from the Sums, over the number of images: float64 (..., bins)
    """

    key: str
    name: str
    of: Callable[[Sums], np.ndarray]
    unit: str = "%"
    digits: int = 1
    higher_is_better: bool = True
    meaning: str = ""
    headline: bool = False
    calibrated: bool = False
    gaps: Callable[[Sums], np.ndarray] | None = None

    @property
    def title(self) -> str:
        """Its name at the beginning of a row."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def biased(self) -> bool:
        """Whether chance alone makes its value too high on few images, so that a corrected one belongs to its interval."""
        return self.gaps is not None


def _mean(part: np.ndarray, sums: Sums) -> np.ndarray:
    return (part / sums.images)[..., 0]


def _balanced_accuracy(sums: Sums) -> np.ndarray:
    recalls = np.divide(sums.hits, sums.actual, out=np.full(sums.hits.shape, np.nan), where=sums.actual > 0)
    return np.asarray(np.nanmean(recalls, axis=-1))


def _macro_f1(sums: Sums) -> np.ndarray:
    return np.asarray(np.nanmean(f1_scores(sums.hits, sums.actual, sums.predicted), axis=-1))


def _nll(sums: Sums) -> np.ndarray:
    return np.where(sums.infinite[..., 0] > 0, np.inf, _mean(sums.loss, sums))


def _calibration_error(gaps: np.ndarray, sums: Sums) -> np.ndarray:
    return np.asarray(np.abs(gaps).sum(axis=-1) / sums.images[..., 0])


METRICS = {
    metric.key: metric
    for metric in (
        Metric("top1", "top-1", lambda sums: _mean(sums.top1, sums), headline=True, meaning="the first name is right"),
        Metric("top5", "top-5", lambda sums: _mean(sums.top5, sums), headline=True, meaning="the right name is among the first five"),
        # The mean recall of the classes that have images.
        Metric("balanced_accuracy", "balanced accuracy", _balanced_accuracy, meaning="mean recall over classes"),
        # The mean F1 of the classes that occur among labels or predictions.
        Metric(
            "macro_f1",
            "macro F1",
            _macro_f1,
            meaning="mean over classes, small ones counting as much as large ones",
            headline=True,
        ),
        Metric(
            "nll",
            "NLL",
            _nll,
            unit="nats",
            digits=3,
            higher_is_better=False,
            meaning="negative log-likelihood in nats: low if the right name is thought likely",
            headline=True,
            calibrated=True,
        ),
        # Brier, Monthly Weather Review 1950.
        Metric(
            "brier",
            "Brier score",
            lambda sums: _mean(sums.squared, sums),
            unit="",
            digits=3,
            higher_is_better=False,
            meaning="mean squared error of the probabilities, from 0 to 2",
            calibrated=True,
        ),
        # The expected calibration error of the predicted class (Guo et al., ICML 2017), over bins of equal width or equally full.
        Metric(
            "ece",
            "ECE",
            lambda sums: _calibration_error(sums.gaps, sums),
            higher_is_better=False,
            meaning="calibration error: how far the stated probabilities are off",
            headline=True,
            calibrated=True,
            gaps=lambda sums: sums.gaps,
        ),
        Metric(
            "ece_adaptive",
            "adaptive ECE",
            lambda sums: _calibration_error(sums.adaptive_gaps, sums),
            higher_is_better=False,
            meaning="calibration error over bins that are equally full",
            calibrated=True,
            gaps=lambda sums: sums.adaptive_gaps,
        ),
    )
}
"""By key, in the order of summary.json."""


def headline_metrics(classes: int) -> list[Metric]:
    """Those that a report of that many classes begins with; of no more than five classes, the first five say nothing."""
    return [metric for metric in METRICS.values() if metric.headline and (metric.key != "top5" or classes > 5)]


def figures_of(sums: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Every metric of sets of images from their sums of `contributions`, float64 (..., K): float64 (...) each, shares in [0, 1]."""
    parts = Sums.of(sums, classes)
    return {key: metric.of(parts) for key, metric in METRICS.items()}


def figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every metric of all images; shares in [0, 1]."""
    sums = np.asarray(contributions(logits, labels).sum(axis=0))
    return {key: float(value) for key, value in figures_of(sums, logits.shape[1]).items()}


def top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of images whose label is among the k largest logits, in [0, 1]."""
    return float(top_k_hits(logits, labels, k).mean())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 over the classes that occur among labels or predictions, in [0, 1] (scikit-learn's default average of `macro`)."""
    return float(np.nanmean(f1_scores(*class_counts(logits, labels))))


class AbsentClasses(NamedTuple):
    """Classes without an image among the labels: how many, how many of them were predicted, and the mean F1 of the others, in [0, 1]."""

    number: int
    predicted: int
    macro_f1_of_others: float


def absent_classes(logits: np.ndarray, labels: np.ndarray) -> AbsentClasses:
    """Those that were predicted have an F1 of 0, which counts in `macro_f1`."""
    hits, actual, given = class_counts(logits, labels)
    absent = actual == 0
    return AbsentClasses(int(absent.sum()), int((given[absent] > 0).sum()), float(f1_scores(hits, actual, given)[~absent].mean()))


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
