"""Answers about images by what was fitted without them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fieldmark.core.randomness import key, permutation

FOLDS = 5


def cross_fitted(fit_and_answer: Callable[[np.ndarray, np.ndarray], np.ndarray], groups: np.ndarray) -> np.ndarray:
    """Deal images into folds, those of a group into the same; each fold is answered by what was fitted on the others.

    `fit_and_answer` takes the rows to fit on and the rows to answer for, int64, and gives float (rows, …). `groups` are int (n,).
    """
    _, numbers = np.unique(groups, return_inverse=True)
    order = permutation(key(0, "cross-fitting"), int(numbers.max()) + 1)
    folds = np.argsort(order)[numbers] % FOLDS
    parts = [rows for fold in range(FOLDS) if len(rows := np.flatnonzero(folds == fold))]
    answers = [fit_and_answer(np.setdiff1d(np.arange(len(groups)), part), part) for part in parts]
    result = np.empty((len(groups), *answers[0].shape[1:]), answers[0].dtype)
    for part, answer in zip(parts, answers, strict=True):
        result[part] = answer
    return result
