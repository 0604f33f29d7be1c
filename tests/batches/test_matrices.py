from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.batches.matrices import homography, scaling, translation
from fieldmark.core.randomness import uniform


@given(st.integers(1, 2**31), st.floats(0.1, 0.9))
@settings(max_examples=50, deadline=None)
def test_a_homography_takes_its_points_to_their_places(seed, spread):
    points = np.array([[[-1, -1], [1, -1], [1, 1], [-1, 1]]], float)
    target = points + (uniform(seed, np.arange(8), 1).reshape(1, 4, 2) - 0.5) * spread
    matrix = homography(points, target)[0]
    mapped = np.concatenate([points[0], np.ones((4, 1))], axis=1) @ matrix.T
    assert np.allclose(mapped[:, :2] / mapped[:, 2:], target[0], atol=1e-9)


def test_matrices_apply_from_right_to_left():
    x, y = np.array([2.0, 3.0]), np.array([4.0, 5.0])
    moved = translation(x, y) @ scaling(y, x) @ [1, 1, 1]
    assert moved.tolist() == [[6, 6, 1], [8, 8, 1]]
