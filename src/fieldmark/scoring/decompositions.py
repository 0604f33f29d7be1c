"""The scatter of features and its decompositions, each on one thread.

A decomposition is many small steps, after each of which the threads of BLAS wait for one another without sleeping. Where another process
has one of their cores, that takes up to a hundred times as long as one thread alone.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from fieldmark.core.environment import kept_environment

with kept_environment():
    from threadpoolctl import threadpool_limits

SMALLEST_VARIANCE = 1e-12
"""A direction with less than this share of the largest variance cannot be distinguished from none in float32 features."""


def principal_axes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of `rows.T @ rows`, float64 (D,), ascending, and its eigenvectors as columns, float64 (D, D).

    rows: float64 (n, D). Of few rows they are found from `rows @ rows.T`, which is smaller, and all other eigenvalues are 0.
    """
    n, width = rows.shape
    if 2 * n > width:
        moment = rows.T @ rows
        with threadpool_limits(1, "blas"):
            return np.linalg.eigh(moment)
    products = rows @ rows.T
    with threadpool_limits(1, "blas"):
        values, vectors = np.linalg.eigh(products)
        sound = values > SMALLEST_VARIANCE * values[-1]
        # The largest come first, so that they keep their directions, and the smallest, found less exactly, are made orthogonal to them.
        directions, _ = scipy.linalg.qr(rows.T @ vectors[:, sound][:, ::-1])
    variances = np.zeros(width)
    variances[width - int(sound.sum()) :] = values[sound]
    return variances, np.ascontiguousarray(directions[:, ::-1])


def shrunk_covariance(residuals: np.ndarray) -> np.ndarray:
    """Of rows of mean 0, float64 (n, D), drawn towards a multiple of the identity as far as their scatter asks for: (D, D), invertible.

    After Ledoit and Wolf (Journal of Multivariate Analysis 2004).
    """
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


def whitening(covariance: np.ndarray) -> np.ndarray:
    """From rows with this covariance, float64 (D, D), to rows whose covariance is the identity: float64 (D, D)."""
    with threadpool_limits(1, "blas"):
        factor = np.linalg.cholesky(covariance)
        return np.ascontiguousarray(scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True).T)
