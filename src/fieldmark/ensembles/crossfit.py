"""Answers about pictures by what was fitted without them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fieldmark.core.randomness import key, permutation

FOLDS = 5


def cross_fitted(fit_and_answer: Callable[[np.ndarray, np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """Deal `count` pictures into folds; each fold is answered by what was fitted on the others.

    `fit_and_answer` takes the rows to fit on and the rows to answer for, int64, and gives float (rows, …).
    """
    order = permutation(key(0, "cross-fitting"), count)
    parts = [order[fold::FOLDS] for fold in range(min(FOLDS, count))]
    answers = [fit_and_answer(np.setdiff1d(order, part), part) for part in parts]
    result = np.empty((count, *answers[0].shape[1:]), answers[0].dtype)
    for part, answer in zip(parts, answers, strict=True):
        result[part] = answer
    return result
