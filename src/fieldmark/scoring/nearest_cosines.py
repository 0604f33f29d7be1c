"""The largest cosines of a few vectors with many, without looking at most of them in full."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fieldmark.scoring.decompositions import principal_axes

_FEW = 4
"""Up to so many vectors are compared one by one; with more, a product of matrices is faster."""
_AXES = 64
_SAMPLE = 512
_FIRST = 8
"""More than are asked for, so many are looked at in full to begin with: what they reach rules most others out."""
_ROUNDING = 1e-5


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest along the last axis, or all if there are fewer, in any order; reorders the values."""
    place = max(values.shape[-1] - count, 0)
    values.partition(place, axis=-1)
    return values[..., place:]


class NearestCosines:
    """reference: float32 (n, D), rows of length 1 or 0."""

    def __init__(self, reference: np.ndarray):
        self._reference = reference

    def __call__(self, vectors: np.ndarray, count: int) -> np.ndarray:
        """The `count` largest cosines of each vector, or all if there are fewer, in any order: float32 (m, count).

        vectors: float32 (m, D), rows of length 1 or 0
        """
        if len(vectors) > _FEW or len(self._reference) <= count or self._reference.shape[1] < 2 * _AXES:
            return largest(vectors @ self._reference.T, count)
        return np.stack([largest(self._reference[self._candidates(vector, count)] @ vector, count) for vector in vectors])

    def _candidates(self, vector: np.ndarray, count: int) -> np.ndarray:
        """Rows among which the `count` largest cosines are.

        On a part of the axes a cosine is known up to the product of what of either vector lies outside it.
        """
        axes, known, outside = self._shadow
        part = vector @ axes
        cosines = known @ part
        some = min(count + _FIRST, len(cosines))
        first = np.argpartition(cosines, -some)[-some:]
        reached = largest(self._reference[first] @ vector, count).min()
        unknown = np.sqrt(max(0.0, 1 - float(part @ part))) * outside + _ROUNDING
        return np.flatnonzero(cosines + unknown >= reached)

    @cached_property
    def _shadow(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axes along which the rows of a sample are long, float32 (D, axes); the rows along them; and how long each is outside them."""
        some = np.unique(np.linspace(0, len(self._reference) - 1, _SAMPLE).astype(np.int64))
        _, directions = principal_axes(self._reference[some].astype(np.float64))
        axes = np.ascontiguousarray(directions[:, -_AXES:], dtype=np.float32)
        known = self._reference @ axes
        return axes, known, np.sqrt(np.maximum(0, 1 - np.square(known, dtype=np.float64).sum(axis=1))).astype(np.float32)
