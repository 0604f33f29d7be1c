"""Weights of a mean, fitted to the least negative log-likelihood. Both problems are convex, so the minimum found is the global one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from fieldmark.scoring.combination import Of, log_mixture, log_probabilities

_STEPS = 10_000
_NEARLY = 1e-9


def equal_weights(members: int) -> np.ndarray:
    return np.full(members, 1 / members)


def fit_weights(logits: Sequence[np.ndarray], labels: np.ndarray, of: Of) -> np.ndarray:
    """Weights float64 (members,), non-negative with sum 1, for logits float (n, C) of each member and labels int (n,) in [0, C)."""
    stacked = np.stack(logits).astype(np.float64)
    sound = np.isfinite(stacked).all(axis=(0, 2))
    stacked, labels = stacked[:, sound], labels[sound]
    if of == "probabilities":
        return _mixture_weights(log_probabilities(stacked)[:, np.arange(len(labels)), labels])
    return _logit_weights(stacked, labels)


def _mixture_weights(logs: np.ndarray) -> np.ndarray:
    """By expectation maximisation: `logs` are the log-probabilities of the labels, float64 (members, n)."""
    weights = equal_weights(len(logs))
    for _ in range(_STEPS):
        with np.errstate(divide="ignore"):
            shares = np.exp(logs + np.log(weights)[:, None] - log_mixture(logs, weights))
        found = shares.mean(axis=1)
        if np.abs(found - weights).max() < _NEARLY:
            break
        weights = found
    return np.asarray(found / found.sum())


def _logit_weights(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`logits` float64 (members, n, C)."""
    right = logits[:, np.arange(len(labels)), labels]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_probabilities(np.einsum("m,mnc->nc", weights, logits))
        expected = np.einsum("nc,mnc->mn", np.exp(logs), logits)
        return -logs[np.arange(len(labels)), labels].mean(), (expected - right).mean(axis=1)

    members = len(logits)
    total = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda weights: np.ones(members)}
    found = minimize(
        loss, equal_weights(members), jac=True, bounds=[(0, 1)] * members, constraints=[total], method="SLSQP", options={"ftol": 1e-12}
    )
    weights = found.x.clip(0)
    return np.asarray(weights / weights.sum())
