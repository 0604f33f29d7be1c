"""How well scores separate unknown images from known ones, and the choice between scores without any unknown image.

Scores are higher where an image is more like what was trained on. In the figures NaN counts as -inf, and equal scores as equal, whatever
their order; an image is accepted if score >= threshold. All figures raise InputError if there are no known or no unknown images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

import numpy as np
from scipy.stats import rankdata

from fieldmark.core.errors import InputError
from fieldmark.core.randomness import key, permutation
from fieldmark.scoring.intervals import allowed_by_chance
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import OF_SCATTER, SCORES, energy, fitted_scores

_AS_GOOD = 0.01


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often a known image scores above an unknown one, in [0, 1]; equal scores count half."""
    known, unknown = _scores(known), _scores(unknown)
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return float((ranks - (len(known) + 1) / 2).mean() / len(unknown))


def aupr(known: np.ndarray, unknown: np.ndarray) -> float:
    """Average precision of finding the unknown images (AUPR-out), in [0, 1] (scikit-learn's average_precision_score).

    It grows with the share of unknown images, and compares only between figures of equal shares.
    """
    return _average_precision(-_scores(unknown), -_scores(known))


def fpr_at(known: np.ndarray, unknown: np.ndarray, accept: float = 0.95) -> float:
    """Share of unknown images accepted at the highest threshold that accepts at least the share `accept` of the known ones, in (0, 1]."""
    if not 0 < accept <= 1:
        raise InputError(f"the share of known images to accept is {accept}", hint="Give a share above 0 and at most 1.")
    known, unknown = _scores(known), _scores(unknown)
    accepted = max(1, math.ceil(accept * len(known) - 1e-9))  # 0.56 * 100 is more than 56
    return float((unknown >= np.sort(known)[-accepted]).mean())


def oscr(known: np.ndarray, correct: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the share of known images accepted and named correctly, against the share of unknown ones accepted, over all thresholds.

    correct: bool, one for each known image
    In [0, accuracy] (Dhamija et al., NeurIPS 2018). By the trapezoidal rule, which makes it the AUROC of the correctly named images, times
    their share. Raises ValueError if `correct` does not fit.
    """
    known, unknown = _scores(known), _scores(unknown)
    if correct.shape != known.shape or correct.dtype != np.bool_:
        raise ValueError(f"correct is {correct.dtype} {correct.shape} for {len(known)} known images")
    return float(correct.mean()) * auroc(known[correct], unknown) if correct.any() else 0.0


def threshold(known: np.ndarray, accept: float) -> float:
    """The largest threshold that accepts a new known image with a probability of at least `accept`, in (0, 1).

    known: scores of images that nothing was fitted on; the promise is for one exchangeable with them, on average over draws of them
    (split conformal prediction; Lei et al., JASA 2018)

    -inf, which accepts everything, if there are too few for the promise, fewer than accept / (1 - accept). Raises InputError for another
    `accept`, and if there are none.
    """
    if not 0 < accept < 1:
        raise InputError(f"the share of known images to accept is {accept}", hint="Give a share between 0 and 1, such as 0.95.")
    if not len(known):
        raise InputError("there are no known images to find a threshold from", hint="Give a split that has labelled images.")
    known = _scores(known)
    rejected = _rejected(accept, len(known))
    return float(np.sort(known)[rejected - 1]) if rejected else -math.inf


def allowed_acceptance(accept: float, n: int, units: int | None = None) -> tuple[float, float] | None:
    """The middle 95 % of the shares of all known images that thresholds from n of them, in so many groups or alone, accept, in [0, 1].

    None where they are too few for a threshold. Images of which many score alike can be accepted more often.
    """
    rejected = _rejected(accept, n)
    return allowed_by_chance(n + 1 - rejected, n, units) if rejected else None


def _rejected(accept: float, n: int) -> int:
    """Which of n scores, from the smallest, is the threshold; 0 where they are too few."""
    return math.floor((1 - accept) * (n + 1) + 1e-9)  # (1 - 0.9) * 10 is less than 1


def held_out_auroc(name: str, train: Predictions | None, val: Predictions, groups: int = 5, seed: int = 0) -> float | None:
    """An estimate, without any unknown image, of how well a score detects classes that it has never seen: a mean AUROC in [0, 1].

    Classes are dealt at random into `groups`, or as many as there are classes. Each group's in turn lose their logits and their training
    images; the score is fitted on the rest, and the validation images of the group are the unknown ones. A group counts if it leaves
    at least two classes and both kinds of images; None if none does, or if the score lacks the features that it needs.

    The network itself has seen all these classes, and its features and remaining logits separate them better than they would classes new
    to it: the figure is for choosing between scores, and is not the AUROC to expect. Raises ValueError if the classes of the two differ.
    """
    return _mean_auroc(name, train, val, _dealt(train, val, groups, seed))


def choose_score(train: Predictions | None, val: Predictions, names: Sequence[str] = SCORES) -> tuple[str, dict[str, float | None]]:
    """The first of `names` whose held_out_auroc is within a point of the highest, and that of each; max-logit if it is None for all.

    A point is what chance alone moves it by on val of some hundred images. A score that takes seconds to fit is dropped, its figure being
    None, as soon as it cannot get above those before it, so that nothing else would be chosen with it.
    """
    groups = _dealt(train, val)
    defined: dict[str, float] = {}
    for name in names:
        least = max(defined.values(), default=0.0) if name in OF_SCATTER else 0.0
        if (value := _mean_auroc(name, train, val, groups, least)) is not None:
            defined[name] = value
    highest = max(defined.values(), default=0.0)
    chosen = next((name for name, value in defined.items() if value >= highest - _AS_GOOD), "max-logit")
    return chosen, {name: defined.get(name) for name in names}


def _dealt(train: Predictions | None, val: Predictions, groups: int = 5, seed: int = 0) -> list[np.ndarray]:
    """The classes to hold out together, bool (C,) each: those that leave two classes or more, and both kinds of images of val."""
    if train is not None and train.class_names != val.class_names:
        raise ValueError("train and val have other classes")
    classes, labels = len(val.class_names), val.labels[val.labels >= 0]
    group = permutation(key(seed, "held-out classes"), classes) % min(groups, classes)
    dealt = [group == each for each in range(group.max() + 1)]
    return [held for held in dealt if (~held).sum() >= 2 and held[labels].any() and not held[labels].all()]


def _mean_auroc(name: str, train: Predictions | None, val: Predictions, groups: Sequence[np.ndarray], least: float = 0.0) -> float | None:
    """Over the groups in which the score can be fitted; None without one, and as soon as the mean can no longer get above `least`."""
    # Of probabilities, what a column that is taken away had would be missing from the others, and would give its images away.
    renewed = _are_log_probabilities(val.logits)
    found: list[float] = []
    for number, held in enumerate(groups, 1):
        asked = _without(val, held, renewed)
        known, unknown = asked.labels >= 0, (val.labels >= 0) & (asked.labels < 0)
        for score in fitted_scores(None if train is None else _without(train, held, renewed), (name,)).values():
            scores = score(asked.logits, asked.features)
            found.append(auroc(scores[known], scores[unknown]))
        left = len(groups) - number
        if found and left and sum(found) + left <= least * (len(found) + left):
            return None
    return float(np.mean(found)) if found else None


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


def _without(predictions: Predictions, held: np.ndarray, renewed: bool) -> Predictions:
    """The same without the columns of the held classes, bool (C,), whose images have no label any more.

    `renewed` makes logits that are logarithms of probabilities sum to 1 again.
    """
    places = np.where(held, -1, np.cumsum(~held) - 1)
    labels = np.where(predictions.labels >= 0, places[predictions.labels], -1).astype(np.int32)
    logits = predictions.logits[:, ~held]
    if renewed and logits.shape[1]:
        logits = (logits - energy(logits)[:, None]).astype(np.float32)
    return replace(predictions, labels=labels, logits=logits, class_names=tuple(compress(predictions.class_names, ~held)))


def _are_log_probabilities(logits: np.ndarray) -> bool:
    """Those of an ensemble that averages probabilities are."""
    finite = logits[np.isfinite(logits).all(axis=1)]
    return bool((np.abs(energy(finite)) < 1e-3).all())
