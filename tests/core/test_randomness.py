import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.randomness import key, permutation, uniform


def test_a_number_depends_on_its_key_alone():
    together = uniform(7, np.arange(100), 5)
    assert np.array_equal(together[[3, 50]], uniform(7, np.array([3, 50]), 5))
    assert np.array_equal(together[:, :2], uniform(7, np.arange(100), 2))
    assert not np.array_equal(together, uniform(8, np.arange(100), 5))


def test_numbers_are_uniform_and_uncorrelated():
    numbers = uniform(key(0, "augment", 1), np.arange(20_000), 6)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.apply_along_axis(lambda column: np.histogram(column, 20, (0, 1))[0], 0, numbers)
    chi_square = ((counts - 1000) ** 2 / 1000).sum(axis=0)
    assert chi_square.max() < 50  # 19 degrees of freedom: beyond 0.9999
    assert np.abs(np.corrcoef(numbers, rowvar=False) - np.eye(6)).max() < 0.03
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    assert abs(neighbours) < 0.03


def test_known_values_hold_on_every_machine():
    assert key(0, "order", 3) == 8682038268397892103
    assert uniform(1, np.array([0]), 2)[0].tolist() == [0.36818951565166946, 0.9435642308648544]


@given(st.integers(0, 2**62), st.integers(1, 500))
def test_a_permutation_holds_everything_once(stream, n):
    assert np.array_equal(np.sort(permutation(stream, n)), np.arange(n))


def test_keys_do_not_run_together():
    assert key(1, 23) != key(12, 3)
