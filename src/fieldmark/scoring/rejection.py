"""How known an image is: scores from logits and features, and how well they tell unknown images from known ones.

Scores are float64 (n,), higher where an image is more like what was trained on. A row with a logit or feature that is not finite scores
-inf. In the figures NaN counts as -inf, and equal scores as equal, whatever their order; an image is accepted where score >= threshold.
All figures raise InputError where there are no known or no unknown images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress

import numpy as np
import scipy.linalg
from scipy.special import logsumexp
from scipy.stats import rankdata

from fieldmark.core.errors import InputError
from fieldmark.core.randomness import key, permutation
from fieldmark.scoring.metrics import confidences
from fieldmark.scoring.predictions import Predictions

OF_LOGITS: tuple[str, ...] = ("msp", "max-logit", "energy")
"""The scores that need no images of train."""
SCORES: tuple[str, ...] = ("max-logit+knn", *OF_LOGITS, "knn", "mahalanobis", "vim")
"""In order of preference: see choose_score."""
NEIGHBOURS = 3

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]

_ROWS_AT_ONCE = 1024
_AS_GOOD = 0.01
# A direction with less than this share of the largest variance is below what float32 features can tell from none.
_SMALLEST_VARIANCE = 1e-12
_SMALLEST_DEVIATION = 1e-6


def fit_score(name: str, train: Predictions | None) -> Score:
    """One of SCORES, as a function from logits (n, C) and features (n, D) to float64 (n,).

    msp: the largest softmax probability (Hendrycks and Gimpel, ICLR 2017)
    max-logit: the largest logit (Hendrycks et al., ICML 2022; Vaze et al., ICLR 2022)
    energy: the logarithm of the sum of exponentials of the logits (Liu et al., NeurIPS 2020)
    knn: the mean cosine of the features with those of the 3 nearest training images (after Sun et al., ICML 2022, who take the distance
        to the k-th; in fine-grained data a class may have ten images)
    mahalanobis: less the squared distance to the nearest class mean under one shared covariance (Lee et al., NeurIPS 2018), which is shrunk
        (Ledoit and Wolf, Journal of Multivariate Analysis 2004)
    vim: energy less the scaled norm of what lies outside the principal space of the features (Wang et al., CVPR 2022); the linear layer
        that it starts from is had from logits and features by least squares
    max-logit+knn: the sum of the two, each standardised by what training images have, themselves not counted among their neighbours

    Those of features are fitted on the training images that have a label and are finite; they raise InputError where there are none, or
    no features. The others need no `train`. Raises ValueError for another name.
    """
    if name in _FROM_LOGITS:
        from_logits = _FROM_LOGITS[name]
        return _in_parts(lambda logits, features: from_logits(logits))
    if name not in _FROM_FEATURES:
        raise ValueError(f"there is no score {name!r}, only {', '.join(SCORES)}")
    if train is None:
        raise without_train(name)
    if not train.features.shape[1]:
        raise InputError(f"{name} needs features, and these predictions have none", hint=f"Choose among {', '.join(_FROM_LOGITS)}.")
    usable = _usable(train)
    if not usable.any():
        raise InputError(
            f"{name} is fitted on labelled training images with finite features, and there are none",
            hint=f"Choose among {', '.join(_FROM_LOGITS)}.",
        )
    return _in_parts(_FROM_FEATURES[name](train.labels[usable], train.logits[usable], train.features[usable]))


def without_train(name: str) -> InputError:
    """For a score of features where the predictions of train are not to be had."""
    return InputError(
        f"unknown images are told by {name}, which needs the predictions of train, and they are gone",
        hint="`fieldmark evaluate RUN --split train` makes them; `fieldmark calibrate RUN` does without.",
    )


def fitted_scores(train: Predictions | None, names: Sequence[str] = SCORES) -> dict[str, Score]:
    """Those of `names` that can be had; without features of train, only those of logits."""
    usable = train is not None and train.features.shape[1] > 0 and _usable(train).any()
    return {name: fit_score(name, train) for name in names if name in OF_LOGITS or usable}


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often a known image scores above an unknown one, in [0, 1]; equal scores count half."""
    known, unknown = _scores(known), _scores(unknown)
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return float((ranks - (len(known) + 1) / 2).mean() / len(unknown))


def aupr(known: np.ndarray, unknown: np.ndarray) -> float:
    """Average precision where unknown images are the ones to find (AUPR-out), in [0, 1] (scikit-learn's average_precision_score).

    It grows with the share of unknown images, and compares only between figures of equal shares.
    """
    return _average_precision(-_scores(unknown), -_scores(known))


def aupr_known(known: np.ndarray, unknown: np.ndarray) -> float:
    """Average precision where known images are the ones to find (AUPR-in), in [0, 1]."""
    return _average_precision(_scores(known), _scores(unknown))


def fpr_at(known: np.ndarray, unknown: np.ndarray, accept: float = 0.95) -> float:
    """Share of unknown images accepted at the highest threshold that accepts at least the share `accept` of the known ones, in (0, 1]."""
    if not 0 < accept <= 1:
        raise InputError(f"the share of known images to accept is {accept}", hint="Give a share above 0 and at most 1.")
    known, unknown = _scores(known), _scores(unknown)
    accepted = max(1, math.ceil(accept * len(known) - 1e-9))  # 0.56 * 100 is more than 56
    return float((unknown >= np.sort(known)[-accepted]).mean())


def oscr(known: np.ndarray, correct: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the share of known images accepted and named rightly, against the share of unknown ones accepted, over all thresholds.

    correct: bool, one for each known image
    In [0, accuracy] (Dhamija et al., NeurIPS 2018). By the trapezoidal rule, which makes it the AUROC of the images named rightly, times
    their share. Raises ValueError where `correct` does not fit.
    """
    known, unknown = _scores(known), _scores(unknown)
    if correct.shape != known.shape or correct.dtype != np.bool_:
        raise ValueError(f"correct is {correct.dtype} {correct.shape} where there are {len(known)} known images")
    return float(correct.mean()) * auroc(known[correct], unknown) if correct.any() else 0.0


def threshold(known: np.ndarray, accept: float) -> float:
    """The largest threshold that accepts a new known image with a probability of at least `accept`, in (0, 1).

    known: scores of images that nothing was fitted on; the promise is for one exchangeable with them, on average over draws of them
    (split conformal prediction; Lei et al., JASA 2018)

    -inf, which accepts everything, where there are too few for the promise, fewer than accept / (1 - accept). Raises InputError for another
    `accept`, and where there are none.
    """
    if not 0 < accept < 1:
        raise InputError(f"the share of known images to accept is {accept}", hint="Give a share between 0 and 1, such as 0.95.")
    if not len(known):
        raise InputError("there are no known images to find a threshold from", hint="Give a split that has labelled images.")
    known = _scores(known)
    rejected = math.floor((1 - accept) * (len(known) + 1) + 1e-9)  # (1 - 0.9) * 10 is less than 1
    return float(np.sort(known)[rejected - 1]) if rejected else -math.inf


def held_out_auroc(name: str, train: Predictions | None, val: Predictions, groups: int = 5, seed: int = 0) -> float | None:
    """An estimate, without any unknown image, of how well a score tells classes apart that it has never seen: a mean AUROC in [0, 1].

    Classes are dealt at random into `groups`, or as many as there are classes. Each group's in turn lose their logits and their training
    images; the score is fitted on the rest, and the validation images of the group are the unknown ones. A group counts where it leaves
    at least two classes and both kinds of images; None where none does, or where the score lacks the features that it needs.

    The network itself has seen all these classes, and its features and remaining logits tell them apart better than they would classes new
    to it: the figure is for choosing between scores, and is not the AUROC to expect. Raises ValueError where the classes of the two differ.
    """
    if train is not None and train.class_names != val.class_names:
        raise ValueError("train and val have other classes")
    classes = len(val.class_names)
    group = permutation(key(seed, "held-out classes"), classes) % min(groups, classes)
    # Of probabilities, what a column that is taken away had would be missing from the others, and would tell its images.
    renewed = _are_log_probabilities(val.logits)
    found = []
    for held in (group == each for each in range(group.max() + 1)):
        fitted_on = None if train is None else _without(train, held, renewed)
        asked = _without(val, held, renewed)
        known, unknown = asked.labels >= 0, (val.labels >= 0) & (asked.labels < 0)
        if (~held).sum() < 2 or not known.any() or not unknown.any():
            continue
        for score in fitted_scores(fitted_on, (name,)).values():
            scores = score(asked.logits, asked.features)
            found.append(auroc(scores[known], scores[unknown]))
    return float(np.mean(found)) if found else None


def choose_score(train: Predictions | None, val: Predictions, names: Sequence[str] = SCORES) -> tuple[str, dict[str, float | None]]:
    """The first of `names` whose held_out_auroc is within a point of the highest, and that of each; max-logit where it is None for all.

    A point is what chance alone moves it by on val of some hundred images.
    """
    found = {name: held_out_auroc(name, train, val) for name in names}
    defined = {name: value for name, value in found.items() if value is not None}
    highest = max(defined.values(), default=0.0)
    return next((name for name, value in defined.items() if value >= highest - _AS_GOOD), "max-logit"), found


def _scores(values: np.ndarray) -> np.ndarray:
    """Float64 without NaN."""
    if not len(values):
        raise InputError("there are no known or no unknown images to compare", hint="Give images of both kinds.")
    return np.where(np.isnan(values), -np.inf, values).astype(np.float64)


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """The sum, over distinct scores from the highest, of precision times the gain in recall."""
    values, places = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    found = np.bincount(places[: len(positive)], minlength=len(values))[::-1]
    total = np.bincount(places, minlength=len(values))[::-1]
    return float((found * (found.cumsum() / total.cumsum())).sum() / len(positive))


def _in_parts(score: Score) -> Score:
    """The same on some rows at a time, so that memory holds them, and -inf for a row that is not finite."""

    def scores(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        result = np.full(len(logits), -np.inf)
        for start in range(0, len(logits), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            finite = _finite(logits[part], features[part])
            if finite.any():
                result[part][finite] = score(logits[part][finite], features[part][finite])
        return result

    return scores


def _finite(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Which rows are: bool (n,)."""
    return np.isfinite(logits).all(axis=1) & np.isfinite(features).all(axis=1)


def _usable(train: Predictions) -> np.ndarray:
    """Which rows a score is fitted on: bool (n,)."""
    return (train.labels >= 0) & _finite(train.logits, train.features)


def _without(predictions: Predictions, held: np.ndarray, renewed: bool) -> Predictions:
    """The same without the columns of the held classes, bool (C,), whose images have no label any more.

    `renewed` makes logits that are logarithms of probabilities sum to 1 again.
    """
    places = np.where(held, -1, np.cumsum(~held) - 1)
    labels = np.where(predictions.labels >= 0, places[predictions.labels], -1).astype(np.int32)
    logits = predictions.logits[:, ~held]
    if renewed and logits.shape[1]:
        logits = (logits - _energy(logits)[:, None]).astype(np.float32)
    return replace(predictions, labels=labels, logits=logits, class_names=tuple(compress(predictions.class_names, ~held)))


def _are_log_probabilities(logits: np.ndarray) -> bool:
    """Those of an ensemble that averages probabilities are."""
    finite = logits[np.isfinite(logits).all(axis=1)]
    return bool((np.abs(_energy(finite)) < 1e-3).all())


def _largest(logits: np.ndarray) -> np.ndarray:
    return logits.max(axis=1).astype(np.float64)


def _energy(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def _knn(labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Score:
    reference = _unit(features)
    return lambda logits, features: _nearness(_unit(features) @ reference.T)


def _nearness(cosines: np.ndarray) -> np.ndarray:
    """The mean of the NEIGHBOURS largest of each row, float64 (n,); reorders the rows."""
    place = max(cosines.shape[1] - NEIGHBOURS, 0)
    cosines.partition(place, axis=1)
    return cosines[:, place:].mean(axis=1, dtype=np.float64)


def _max_logit_and_knn(labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Score:
    reference = _unit(features)
    some = np.arange(0, len(reference), math.ceil(len(reference) / _ROWS_AT_ONCE))
    cosines = reference[some] @ reference.T
    cosines[np.arange(len(some)), some] = -1
    largest = _standardised(_largest(logits[some]))
    near = _standardised(_nearness(cosines))
    return lambda logits, features: largest(_largest(logits)) + near(_nearness(_unit(features) @ reference.T))


def _standardised(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """By the mean and standard deviation of `values`; where they are all but equal, by the mean alone."""
    mean, deviation = values.mean(), values.std()
    return lambda asked: (asked - mean) / (deviation if deviation > _SMALLEST_DEVIATION * max(abs(mean), 1) else 1)


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays so."""
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    return (features / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


def _mahalanobis(labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Score:
    order = np.argsort(labels, kind="stable")
    of_class = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    means = np.stack([features[rows].mean(axis=0, dtype=np.float64) for rows in of_class])
    residuals = features.astype(np.float64)
    for rows, mean in zip(of_class, means, strict=True):
        residuals[rows] -= mean
    factor = np.linalg.cholesky(_shrunk_covariance(residuals))
    whitening = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True).T
    centre = means.mean(axis=0)
    means = (means - centre) @ whitening

    def score(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        whitened = (features - centre) @ whitening
        nearest = ((means**2).sum(axis=1) - 2 * whitened @ means.T).min(axis=1)
        return -np.maximum((whitened**2).sum(axis=1) + nearest, 0)

    return score


def _shrunk_covariance(residuals: np.ndarray) -> np.ndarray:
    """Of rows of mean 0, float64 (n, D), drawn towards a multiple of the identity as far as their scatter asks for: (D, D), invertible."""
    n, width = residuals.shape
    covariance = residuals.T @ residuals / n
    identity = np.eye(width)
    scale = np.trace(covariance) / width
    if scale == 0:
        return identity
    distance = ((covariance - scale * identity) ** 2).sum()
    scatter = ((np.einsum("nd,nd->n", residuals, residuals) ** 2).mean() - (covariance**2).sum()) / n
    # Two rows that mirror each other have no scatter, and a covariance without an inverse.
    shrinkage = np.clip(scatter / distance, 1e-6, 1) if distance > 0 else 1.0
    return (1 - shrinkage) * covariance + shrinkage * scale * identity


def _vim(labels: np.ndarray, logits: np.ndarray, features: np.ndarray) -> Score:
    n, width = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    rows = features - mean
    moment = rows.T @ rows
    logit_mean = logits.mean(axis=0, dtype=np.float64)
    origin = _origin(moment, rows.T @ (logits - logit_mean), mean, logit_mean)
    variances, directions = np.linalg.eigh(moment + n * np.outer(mean - origin, mean - origin))
    principal = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
    # At the rank nothing of the training images would be left outside. Two thirds are the paper's own largest share, 512 of 768.
    principal = min(principal, 2 * int((variances > _SMALLEST_VARIANCE * variances[-1]).sum()) // 3)
    outside = directions[:, : width - principal]
    rows += mean - origin
    norm = np.linalg.norm(rows @ outside, axis=1).mean()
    # Logarithms of probabilities are below 0, which must not turn the sign.
    alpha = abs(_largest(logits).mean()) / norm if norm > 0 else 0.0

    def score(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return _energy(logits) - alpha * np.linalg.norm((features - origin) @ outside, axis=1)

    return score


def _origin(moment: np.ndarray, product: np.ndarray, mean: np.ndarray, logit_mean: np.ndarray) -> np.ndarray:
    """The features that the linear layer gives no logits for, -W⁺ b: float64 (D,).

    W and b by least squares from centred features and logits: `moment` (D, D) is of features, `product` (D, C) of features and logits.
    """
    variances, directions = np.linalg.eigh(moment)
    sound = variances > _SMALLEST_VARIANCE * variances[-1]
    weight = (directions[:, sound] / variances[sound]) @ (directions[:, sound].T @ product)
    # A softmax does not ask for the logits' common part, in which W may be all but 0, and its inverse noise.
    return -np.linalg.pinv(weight.T, rcond=1e-2) @ (logit_mean - mean @ weight)


_FROM_LOGITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"msp": confidences, "max-logit": _largest, "energy": _energy}
_FROM_FEATURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Score]] = {
    "max-logit+knn": _max_logit_and_knn,
    "knn": _knn,
    "mahalanobis": _mahalanobis,
    "vim": _vim,
}
