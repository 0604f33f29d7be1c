"""Stacks of 3 × 3 matrices that move points of the plane, float64 (n, 3, 3)."""

from __future__ import annotations

import numpy as np


def identity(count: int) -> np.ndarray:
    """(count, 3, 3)."""
    return np.tile(np.eye(3), (count, 1, 1))


def scaling(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By these factors, both of shape (n,): (n, 3, 3)."""
    matrix = identity(len(x))
    matrix[:, 0, 0], matrix[:, 1, 1] = x, y
    return matrix


def translation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By these distances, both of shape (n,): (n, 3, 3)."""
    matrix = identity(len(x))
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def homography(source: np.ndarray, target: np.ndarray, inverse: bool = False) -> np.ndarray:
    """The projective matrices (n, 3, 3) that take four points to four points; both of shape (n, 4, 2)."""
    if inverse:
        source, target = target, source
    rows = np.zeros((len(source), 8, 8))
    x, y, u, v = source[..., 0], source[..., 1], target[..., 0], target[..., 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows[:, 0::2] = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=-1)
    rows[:, 1::2] = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=-1)
    solved = np.linalg.solve(rows, np.stack([u, v], axis=-1).reshape(len(source), 8, 1))[..., 0]
    return np.concatenate([solved, np.ones((len(source), 1))], axis=1).reshape(-1, 3, 3)
