import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.ensembles.weights import equal_weights, fit_weights
from fieldmark.scoring.combination import Mean
from fieldmark.scoring.metrics import nll


def problem(members: int, seed: int, n: int = 80, classes: int = 4) -> tuple[list[np.ndarray], np.ndarray]:
    """Members of different worth."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    right = np.eye(classes)[labels]
    return [(right * rng.uniform(0, 4) + rng.normal(0, 2, (n, classes))).astype(np.float32) for _ in range(members)], labels


@pytest.mark.parametrize("of", ["probabilities", "logits"])
@pytest.mark.parametrize("seed", range(3))
def test_no_weights_on_a_grid_are_better(of, seed):
    logits, labels = problem(3, seed)
    found = fit_weights(logits, labels, of)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    steps = [(a, b, 20 - a - b) for a, b in itertools.product(range(21), repeat=2) if a + b <= 20]
    best = min(nll(Mean(of, np.array(step) / 20)(logits), labels) for step in steps)
    assert nll(Mean(of, found)(logits), labels) <= best + 1e-6


@given(st.integers(0, 2**31), st.integers(2, 6), st.sampled_from(["probabilities", "logits"]))
@settings(max_examples=30, deadline=None)
def test_fitted_weights_are_no_worse_than_equal_ones_or_any_member(seed, members, of):
    logits, labels = problem(members, seed, n=40)
    found = nll(Mean(of, fit_weights(logits, labels, of))(logits), labels)
    assert found <= nll(Mean(of, equal_weights(members))(logits), labels) + 1e-5
    assert all(found <= nll(Mean(of, np.eye(members)[index])(logits), labels) + 1e-5 for index in range(members))


def test_rows_that_are_not_finite_do_not_count():
    logits, labels = problem(2, 0)
    broken = [np.concatenate([each, np.full((1, 4), np.nan, np.float32)]) for each in logits]
    assert np.allclose(fit_weights(broken, np.append(labels, 0), "logits"), fit_weights(logits, labels, "logits"))
