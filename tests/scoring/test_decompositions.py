from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.scoring.decompositions import principal_axes, whitening


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 60), st.integers(0, 3))
def test_principal_axes_are_those_of_a_singular_value_decomposition(seed: int, n: int, width: int, alike: int) -> None:
    """Also of few rows, of rows that repeat, and of nothing but zeros."""
    rows = np.random.default_rng(seed).normal(size=(n, width))
    rows = np.concatenate([rows, rows[:alike]]) if alike < 3 else 0 * rows
    variances, directions = principal_axes(rows)
    assert variances.shape == (width,) and directions.shape == (width, width)
    np.testing.assert_allclose(directions.T @ directions, np.eye(width), atol=1e-12)
    largest = max(variances[-1], 1e-300)
    singular = np.zeros(width)
    singular[: min(rows.shape)] = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(variances[::-1] / largest, singular**2 / largest, atol=1e-11)
    np.testing.assert_allclose((rows @ directions) ** 2 @ np.ones(width), (rows**2).sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(((rows @ directions) ** 2).sum(axis=0) / largest, variances / largest, atol=1e-11)


def test_whitening_makes_the_covariance_the_identity() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    covariance = rows.T @ rows / 200
    whitened = rows @ whitening(covariance)
    np.testing.assert_allclose(whitened.T @ whitened / 200, np.eye(12), atol=1e-9)


@pytest.mark.parametrize(("n", "module", "name"), [(40, np.linalg, "eigh"), (9, np.linalg, "eigh"), (9, scipy.linalg, "qr")])
def test_a_decomposition_takes_one_thread_and_leaves_the_others_as_they_were(
    monkeypatch: pytest.MonkeyPatch, n: int, module: Any, name: str
) -> None:
    original: Callable[..., Any] = getattr(module, name)
    seen: list[int] = []

    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.extend(threads())
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, watched)
    with threadpoolctl.threadpool_limits(2, "blas"):
        before = threads()
        principal_axes(np.random.default_rng(0).normal(size=(n, 20)))
        assert threads() == before
    assert seen and set(seen) == {1}
