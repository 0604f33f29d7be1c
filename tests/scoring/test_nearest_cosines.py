import numpy as np
import pytest

from fieldmark.scoring.nearest_cosines import NearestCosines


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def drawn(n: int, width: int, spread: float, seed: int = 0) -> np.ndarray:
    """Around 20 centres, as features of classes are; one row is zero."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(20, width))
    rows = centres[rng.integers(0, 20, n)] + spread * rng.normal(size=(n, width))
    rows[n // 2] = 0
    return unit(rows)


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("n", "width", "count"), [(900, 300, 3), (2, 300, 3), (3, 300, 3), (700, 40, 3), (900, 256, 1)])
def test_they_are_the_largest_of_all(n, width, count, spread):
    reference, vectors = drawn(n, width, spread), drawn(9, width, spread, seed=2)
    nearest = NearestCosines(reference)
    expected = np.sort(vectors.astype(np.float64) @ reference.T.astype(np.float64), axis=1)[:, -count:]
    together, one_by_one = nearest(vectors, count), np.concatenate([nearest(vectors[row : row + 1], count) for row in range(9)])
    for found in (together, one_by_one):
        assert found.shape == (9, min(count, n))
        np.testing.assert_allclose(np.sort(found, axis=1), expected, atol=1e-6)


def test_most_are_not_looked_at_in_full():
    reference, vectors = drawn(900, 300, 0.1), drawn(9, 300, 0.1, seed=2)
    nearest = NearestCosines(reference)
    looked = [len(nearest._candidates(vector, 3)) for vector in vectors]
    assert np.median(looked) < 80 and min(looked) >= 3
