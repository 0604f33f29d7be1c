from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
from scipy.optimize import minimize_scalar

from fieldmark.core.errors import InputError
from fieldmark.evaluation import metrics
from fieldmark.evaluation.calibration import COLDEST, HOTTEST, fit_calibration, fit_temperature, reliability
from fieldmark.evaluation.predictions import Predictions


def simulated(n: int = 2000, classes: int = 8, temperature: float = 2.0, seed: int = 0) -> Predictions:
    """Labels drawn from softmax(z), and a model that says temperature * z."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, classes))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(np.int32)
    ids = np.array([str(row) for row in range(n)])
    return Predictions(ids, labels, (temperature * z).astype(np.float32), np.zeros((n, 0), np.float32), tuple(map(str, range(classes))))


def test_the_temperature_agrees_with_another_optimiser_and_finds_the_planted_one() -> None:
    val = simulated()

    def loss(log: float) -> float:
        scaled = np.exp(metrics._shifted(val.logits / np.exp(log), np.ones(len(val), bool)))
        return float(sklearn.metrics.log_loss(val.labels, scaled / scaled.sum(axis=1, keepdims=True)))

    expected = np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-8}).x)
    found = fit_temperature(val.logits, val.labels)
    assert found == pytest.approx(expected, rel=1e-4) and found == pytest.approx(2, rel=0.1)


def test_a_temperature_changes_no_answer_and_lowers_the_calibration_error() -> None:
    val, test = simulated(), simulated(seed=1)
    calibrated = fit_calibration(val).calibration(test.logits)
    assert (calibrated.argmax(axis=1) == test.logits.argmax(axis=1)).all()
    assert metrics.ece(test.logits, test.labels) > 0.1 > 0.06 > metrics.ece(calibrated, test.labels)


def test_temperatures_stay_between_their_ends() -> None:
    right = np.eye(3, dtype=np.float32)
    assert fit_temperature(right, np.arange(3)) == COLDEST
    assert fit_temperature(100 * right, np.array([1, 2, 0])) == HOTTEST
    assert fit_temperature(right * np.nan, np.arange(3)) == 1


def test_rows_that_are_not_finite_are_left_out_and_stay_so() -> None:
    val = simulated(300)
    logits = np.concatenate([val.logits, np.full((1, 8), np.nan, np.float32)])
    assert fit_temperature(logits, np.append(val.labels, 0)) == fit_temperature(val.logits, val.labels)
    assert np.isnan(fit_calibration(val).calibration(logits)[-1]).all()


def test_a_vector_finds_a_planted_bias_and_overfits_few_pictures() -> None:
    val = simulated(6000, temperature=1)
    bias = np.linspace(-1, 1, 8, dtype=np.float32)
    found = fit_calibration(replace(val, logits=val.logits - bias), "vector")
    np.testing.assert_allclose(found.calibration.bias - found.calibration.bias.mean(), bias, atol=0.15)
    assert found.nll["vector"] < found.nll["temperature"]
    few = fit_calibration(simulated(200, classes=100))
    assert few.nll["vector"] > few.nll["temperature"]


def test_a_picture_is_judged_by_a_fit_without_it_and_its_group() -> None:
    val = replace(simulated(200), groups=np.repeat(np.arange(40), 5).astype(np.int32))
    before = fit_calibration(val).cross_fitted
    labels = val.labels.copy()
    labels[:5] = (labels[:5] + 1) % 8
    after = fit_calibration(replace(val, labels=labels)).cross_fitted
    np.testing.assert_array_equal(before[:5], after[:5])
    assert (before[5:] != after[5:]).any()


def test_without_labels_there_is_nothing_to_calibrate_on() -> None:
    val = simulated(5)
    with pytest.raises(InputError, match="no labelled images"):
        fit_calibration(replace(val, labels=np.full(5, -1, np.int32)))
    assert fit_calibration(simulated(1)).temperature > 0


def test_reliability_adds_up_to_the_calibration_error() -> None:
    val = simulated(500)
    found = reliability(val.logits, val.labels)
    gap = (found.counts * np.abs(found.confidence - found.accuracy)).sum() / found.counts.sum()
    assert found.counts.sum() == 500 and gap == pytest.approx(metrics.ece(val.logits, val.labels))
    assert ((found.lows < found.confidence + 1e-12) & (found.confidence <= found.highs + 1e-12)).all()
