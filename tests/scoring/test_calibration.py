from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from fieldmark.core.errors import InputError
from fieldmark.scoring import metrics
from fieldmark.scoring.calibration import (
    COLDEST,
    HOTTEST,
    Calibration,
    Scaling,
    fit_calibration,
    fit_temperature,
    likeliest_temperature,
    likeliest_vector,
    reliability,
)
from fieldmark.scoring.intervals import units_of
from fieldmark.scoring.predictions import Predictions


def predictions(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Predictions:
    n, classes = logits.shape
    ids, features = np.array([f"{row:05}" for row in range(n)], np.str_), np.zeros((n, 0), np.float32)
    names = tuple(str(each) for each in range(classes))
    return Predictions(ids, labels.astype(np.int32), logits.astype(np.float32), features, names, groups)


def simulated(n: int = 2000, classes: int = 8, temperature: float = 2.0, seed: int = 0, scale: float = 2.0) -> Predictions:
    """Labels drawn from softmax(z), and a model that says temperature * z."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(n, classes))
    return predictions(temperature * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1))


cases = st.builds(simulated, st.integers(40, 200), st.integers(2, 8), st.floats(0.3, 4), st.integers(0, 2**32))


def probabilities(logits: np.ndarray) -> np.ndarray:
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=1)


@settings(max_examples=40)
@given(cases)
def test_the_temperature_is_the_one_of_another_optimiser(val: Predictions) -> None:
    def loss(log: float) -> float:
        scaled = probabilities(val.logits.astype(np.float64) / math.exp(log))
        return float(sklearn.metrics.log_loss(val.labels, scaled, labels=np.arange(scaled.shape[1])))

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    expected = math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)
    assert likeliest_temperature(val.logits, val.labels) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=40)
@given(cases, st.floats(0, 500))
def test_further_images_that_are_as_right_as_they_say_draw_the_temperature_to_1(val: Predictions, more: float) -> None:
    """Against the likelihood of val together with labels that the probabilities themselves say."""
    logits, said = val.logits.astype(np.float64), probabilities(val.logits)

    def loss(log: float) -> float:
        scaled = scipy.special.log_softmax(logits / math.exp(log), axis=1)
        return float(-scaled[np.arange(len(val)), val.labels].sum() - more * (said * scaled).sum(axis=1).mean())

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    expected = math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)
    assert likeliest_temperature(logits, val.labels, more) == pytest.approx(expected, rel=1e-4)


@given(cases)
def test_a_temperature_within_two_standard_errors_of_1_is_1_and_another_lies_between_1_and_the_likeliest(val: Predictions) -> None:
    likeliest, found = likeliest_temperature(val.logits, val.labels), fit_temperature(val.logits, val.labels)
    evidence = 2 * len(val) * (metrics.nll(val.logits, val.labels) - metrics.nll(val.logits / np.float32(likeliest), val.labels))
    assume(abs(evidence - 4) > 0.01)
    assert (found == 1) == (evidence < 4)
    assert min(1, likeliest) <= found <= max(1, likeliest)
    assert metrics.nll(val.logits / np.float32(found), val.labels) <= metrics.nll(val.logits, val.labels) + 1e-9


def test_images_of_one_group_speak_once() -> None:
    val = simulated(60, temperature=2)
    four = predictions(np.repeat(val.logits, 4, axis=0), np.repeat(val.labels, 4), np.repeat(np.arange(60), 4).astype(np.int32))
    assert fit_calibration(four).temperature == pytest.approx(fit_temperature(val.logits, val.labels), rel=1e-6)
    assert fit_calibration(replace(four, groups=None)).temperature > fit_calibration(four).temperature > 1


@pytest.mark.parametrize(("classes", "factor"), [(2, 1.0), (10, 1.0), (10, 0.85), (10, 1.2)])
@pytest.mark.parametrize("n", [30, 100])
def test_a_small_val_does_not_harm(n: int, classes: int, factor: float) -> None:
    """Of test, on average over draws of val. benchmarks/calibration.py does it with more draws, sizes and networks."""
    test, draws = simulated(8000, classes, factor, seed=1), 150
    before, harm, likeliest = metrics.nll(test.logits, test.labels), [], []
    for seed in range(draws):
        val = simulated(n, classes, factor, seed=2 + seed)
        for fit, found in ((fit_temperature, harm), (likeliest_temperature, likeliest)):
            found.append(metrics.nll(test.logits / np.float32(fit(val.logits, val.labels)), test.labels) - before)
    assert np.mean(harm) < 0.002
    assert np.mean(likeliest) > 0.002 or factor != 1


def test_a_network_that_is_far_off_is_corrected_by_a_small_val() -> None:
    test = simulated(8000, 10, 3.0, seed=1)
    best = metrics.nll(test.logits / np.float32(likeliest_temperature(test.logits, test.labels)), test.labels)
    before, after = metrics.nll(test.logits, test.labels), []
    for seed in range(40):
        val = simulated(40, 10, 3.0, seed=2 + seed)
        after.append(metrics.nll(test.logits / np.float32(fit_temperature(val.logits, val.labels)), test.labels))
    assert np.mean(after) - best < 0.1 * (before - best)


@pytest.mark.parametrize("planted", [0.3, 1.0, 2.5, 6.0])
def test_a_planted_temperature_is_found_within_its_error(planted: float) -> None:
    val = simulated(3000, temperature=planted, seed=1)
    z = val.logits.astype(np.float64) / planted
    spread = (probabilities(z) * z**2).sum(axis=1) - (probabilities(z) * z).sum(axis=1) ** 2
    error = 1 / math.sqrt(spread.sum())  # of the inverse temperature: one over the root of the Fisher information
    assert error < 0.02 and abs(planted / fit_temperature(val.logits, val.labels) - 1) < 4 * error


@given(cases, st.floats(0.5, 2), st.floats(-30, 30))
def test_the_temperature_grows_with_the_logits_and_not_with_what_is_added_to_all(val: Predictions, factor: float, added: float) -> None:
    logits = val.logits.astype(np.float64)
    found = likeliest_temperature(logits, val.labels)
    assume(COLDEST < found < HOTTEST)
    assert likeliest_temperature(factor * logits + added, val.labels) == pytest.approx(min(max(factor * found, COLDEST), HOTTEST), rel=1e-6)


@given(cases)
def test_a_temperature_divides_the_logits_and_keeps_the_order_of_all_classes(val: Predictions) -> None:
    fitted = fit_calibration(val)
    assert (fitted.calibration.scale == 1 / fitted.temperature).all() and (fitted.calibration.bias == 0).all()
    for calibrated in (fitted.calibration(val.logits), fitted.cross_fitted):
        assert calibrated.dtype == np.float32 and calibrated.shape == val.logits.shape
        order = val.logits.argsort(axis=1)
        gaps = np.diff(np.take_along_axis(val.logits, order, axis=1), axis=1)
        grown = np.diff(np.take_along_axis(calibrated, order, axis=1), axis=1)
        assert (grown[gaps > 1e-4] > 0).all()
    np.testing.assert_allclose(fitted.calibration(val.logits), val.logits.astype(np.float64) / fitted.temperature, rtol=1e-6)


def test_what_never_errs_is_kept_from_certainty_and_what_knows_nothing_from_giving_up() -> None:
    logits, labels = np.random.default_rng(0).normal(size=(200, 5)), np.arange(200) % 5
    assert likeliest_temperature(logits, logits.argmax(axis=1)) == COLDEST == 0.05
    assert likeliest_temperature(1000 * logits, logits.argmax(axis=1)) == COLDEST
    assert likeliest_temperature(logits, logits.argmin(axis=1)) == HOTTEST == 20
    assert likeliest_temperature(100 * logits, labels) == HOTTEST
    assert likeliest_temperature(logits / 100, logits.argmax(axis=1)) == COLDEST
    one_error = np.append(logits.argmax(axis=1)[1:], logits[0].argmin())
    assert COLDEST < likeliest_temperature(np.roll(logits, -1, axis=0), one_error) < HOTTEST


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_rows_that_are_not_finite_are_left_out_and_stay_so(scaling: Scaling, bad: float) -> None:
    val = simulated(200, classes=4)
    worse = val.logits[[0, 0, 0]].copy()
    worse[:, 1] = bad
    more = predictions(np.concatenate([worse, val.logits]), np.concatenate([[0, 1, 2], val.labels]))
    fitted, expected = fit_calibration(more, scaling), fit_calibration(val, scaling)
    assert fitted.temperature == expected.temperature == fit_temperature(more.logits, more.labels)
    np.testing.assert_allclose(fitted.calibration.scale, expected.calibration.scale, rtol=1e-9)
    np.testing.assert_allclose(fitted.calibration.bias, expected.calibration.bias, atol=1e-9)
    for calibrated in (fitted.calibration(more.logits), fitted.cross_fitted):
        assert not np.isfinite(calibrated[:3]).all(axis=1).any() and np.isfinite(calibrated[3:]).all()
    assert fitted.nll["none"] == pytest.approx(metrics.nll(val.logits, val.labels), rel=1e-9)  # those of finite rows alone
    assert all(math.isfinite(each) for each in fitted.nll.values())


def test_without_a_finite_row_nothing_is_changed() -> None:
    fitted = fit_calibration(predictions(np.full((6, 3), np.nan), np.arange(6) % 3), "vector")
    assert fitted.temperature == 1 and set(fitted.nll.values()) == {math.inf} and np.isnan(fitted.cross_fitted).all()
    np.testing.assert_array_equal(fitted.calibration(np.eye(3)), np.eye(3))


def vector_of_torch(logits: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.from_numpy(logits).double(), torch.from_numpy(labels).long()
    scale, bias = torch.ones(x.shape[1], dtype=torch.float64, requires_grad=True), torch.zeros(x.shape[1], dtype=torch.float64)
    bias.requires_grad_()
    optimiser = torch.optim.LBFGS([scale, bias], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(scale * x + bias, y)
        loss.backward()
        return loss

    optimiser.step(closure)
    return scale.detach(), bias.detach()


@pytest.mark.parametrize("n, classes, temperature, seed", [(400, 3, 2.0, 0), (900, 6, 0.5, 1), (2000, 10, 3.0, 2)])
def test_the_vector_is_the_one_of_torch(n: int, classes: int, temperature: float, seed: int) -> None:
    val = simulated(n, classes, temperature, seed)
    logits = val.logits + np.random.default_rng(seed).normal(size=classes).astype(np.float32)
    found = likeliest_vector(logits.astype(np.float64), val.labels, Calibration.of(1.5, classes))
    scale, bias = (each.numpy() for each in vector_of_torch(logits, val.labels))
    assert metrics.nll(found.scale * logits + found.bias, val.labels) == pytest.approx(
        metrics.nll(scale * logits + bias, val.labels), abs=1e-6
    )
    np.testing.assert_allclose(found.scale, scale, rtol=0.01)
    np.testing.assert_allclose(found.bias - found.bias.mean(), bias - bias.mean(), atol=0.01)  # one bias for all is none


def test_planted_scales_and_biases_are_found_on_many_images() -> None:
    true = simulated(6000, classes=6, temperature=1)
    scale, bias = np.linspace(0.5, 2, 6), np.linspace(1.5, -1.5, 6)
    fitted = fit_calibration(replace(true, logits=((true.logits - bias) / scale).astype(np.float32)), "vector")
    assert fitted.calibration.scaling == "vector"
    np.testing.assert_allclose(fitted.calibration.scale, scale, rtol=0.1)
    np.testing.assert_allclose(fitted.calibration.bias - fitted.calibration.bias.mean(), bias, atol=0.12)
    assert fitted.nll["vector"] < fitted.nll["temperature"] - 0.05 < fitted.nll["none"] - 0.05
    # Twelve numbers fitted on 4,800 images cost 0.00125 on others; as much again is for drawing them towards no change.
    assert fitted.nll["vector"] == pytest.approx(metrics.nll(true.logits, true.labels), abs=0.003)
    truth = metrics.top_k(fitted.calibration((true.logits - bias) / scale), true.labels, 1)
    assert truth > metrics.top_k((true.logits - bias) / scale, true.labels, 1) + 0.02  # a vector does change answers


def test_two_images_a_class_are_too_few_for_a_vector() -> None:
    val = replace(simulated(200, classes=100, seed=3), labels=(np.arange(200) % 100).astype(np.int32))
    logits = (val.logits + 8 * np.eye(100)[val.labels]).astype(np.float32)
    assert list(fit_calibration(replace(val, logits=logits)).nll) == ["none", "temperature"]
    fitted = fit_calibration(replace(val, logits=logits), "vector")
    assert list(fitted.nll) == ["none", "temperature", "vector"]
    assert fitted.nll["vector"] == fitted.nll["temperature"] < fitted.nll["none"]
    assert fitted.calibration.scaling == "vector" and (fitted.calibration.scale == 1 / fitted.temperature).all()
    many = fit_calibration(simulated(5000, classes=4, temperature=2.5), "vector").nll
    assert many["temperature"] < many["none"] - 0.1 and many["vector"] == pytest.approx(many["temperature"], abs=0.002)


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_the_likelihoods_are_those_of_the_cross_fitted_logits(scaling: Scaling) -> None:
    val = simulated(300)
    fitted = fit_calibration(val, scaling)
    assert fitted.nll["none"] == pytest.approx(metrics.nll(val.logits, val.labels), rel=1e-12)
    assert fitted.nll[scaling] == pytest.approx(metrics.nll(fitted.cross_fitted, val.labels), rel=1e-9)
    assert fitted.nll[scaling] > metrics.nll(fitted.calibration(val.logits), val.labels)  # a fit flatters what it is fitted on


GROUPS = np.concatenate([np.repeat([5, 0, 9, 7], 20), np.full(80, -1), np.repeat(np.arange(20, 30), 4)]).astype(np.int32)


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["alone", "groups"])
@pytest.mark.parametrize("scaling", ["temperature", "vector"])
@pytest.mark.parametrize("row", [0, 25, 110, 199])
def test_no_image_is_calibrated_by_its_own_label_or_one_of_its_group(row: int, scaling: Scaling, groups: np.ndarray | None) -> None:
    val = replace(simulated(200, classes=4, seed=5), groups=groups)
    labels = val.labels.copy()
    labels[row] = (labels[row] + 1) % 4
    before, after = fit_calibration(val, scaling), fit_calibration(replace(val, labels=labels), scaling)
    same = (before.cross_fitted == after.cross_fitted).all(axis=1)
    alike = np.arange(200) == row if groups is None or groups[row] < 0 else groups == groups[row]
    assert same[alike].all()
    assert 0.5 < np.mean(~same) < 0.95  # all others, less the rest of its fold
    assert before.calibration.scale[0] != after.calibration.scale[0]


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["alone", "groups"])
def test_each_fold_has_the_temperature_of_the_others(groups: np.ndarray | None) -> None:
    val = replace(simulated(200, classes=4, seed=6), groups=groups)
    found = val.logits.astype(np.float64)[:, 0] / fit_calibration(val).cross_fitted[:, 0]
    temperatures, fold = np.unique(found.round(5), return_inverse=True)
    assert len(temperatures) == 5
    units = units_of(groups, 200)
    for each, temperature in enumerate(temperatures):
        others = fold != each
        assert fit_temperature(val.logits[others], val.labels[others], units[others]) == pytest.approx(temperature, rel=1e-4)
    if groups is None:
        assert (np.bincount(fold) == 40).all()
    else:
        assert all(len(set(fold[groups == each])) == 1 for each in set(groups[groups >= 0]))
        assert len(set(fold[groups < 0])) == 5  # those that are alone are no group


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_images_without_a_label_are_left_out(scaling: Scaling) -> None:
    val = simulated(150, classes=4)
    unknown = np.arange(150) % 3 == 1
    some = replace(val, labels=np.where(unknown, -1, val.labels).astype(np.int32), groups=(np.arange(150) // 2).astype(np.int32))
    fitted, expected = fit_calibration(some, scaling), fit_calibration(some.take(np.flatnonzero(~unknown)), scaling)
    assert np.isnan(fitted.cross_fitted[unknown]).all()
    np.testing.assert_array_equal(fitted.cross_fitted[~unknown], expected.cross_fitted)
    assert (fitted.temperature, fitted.nll) == (expected.temperature, expected.nll)


@pytest.mark.parametrize("n", [0, 5])
def test_without_labels_there_is_nothing_to_calibrate_on(n: int) -> None:
    with pytest.raises(InputError, match="no labelled images"):
        fit_calibration(predictions(np.zeros((n, 3)), np.full(n, -1)))
    with pytest.raises(InputError, match="no labelled images"):
        reliability(np.zeros((0, 3)), np.zeros(0, np.int32))


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_one_fold_alone_leaves_its_images_as_they_are(scaling: Scaling) -> None:
    for val in (simulated(1), replace(simulated(30), groups=np.full(30, 2, np.int32))):
        fitted = fit_calibration(val, scaling)
        np.testing.assert_array_equal(fitted.cross_fitted, val.logits)
        assert set(fitted.nll.values()) == {metrics.nll(val.logits, val.labels)}
        assert COLDEST <= fitted.temperature <= HOTTEST and np.isfinite(fitted.calibration(val.logits)).all()
    right, wrong = np.array([[2.0, 0.0, 1.0]]), np.array([[0.0, 2.0, 1.0]])
    assert [fit_calibration(predictions(each, np.zeros(1)), scaling).temperature for each in (right, wrong)] == [1, 1]


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_one_class_is_certain_whatever_the_scale(scaling: Scaling) -> None:
    val = predictions(np.random.default_rng(0).normal(size=(12, 1)), np.zeros(12))
    fitted = fit_calibration(val, scaling)
    assert fitted.nll == dict.fromkeys(("none", "temperature", scaling), 0)
    assert (probabilities(fitted.calibration(val.logits)) == 1).all() and COLDEST <= fitted.temperature <= HOTTEST


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_calibrated_on_val_other_images_are_better_calibrated(temperature: float, scaling: Scaling) -> None:
    val, test = simulated(3000, temperature=temperature), simulated(3000, temperature=temperature, seed=1)
    fitted = fit_calibration(val, scaling)
    for part, calibrated in ((test, fitted.calibration(test.logits)), (val, fitted.cross_fitted)):
        before, after = metrics.figures(part.logits, part.labels), metrics.figures(calibrated, part.labels)
        assert before["ece"] > 0.1 > 0.03 > after["ece"] and before["ece_adaptive"] > 0.1 > 0.03 > after["ece_adaptive"]
        assert after["nll"] < before["nll"] - 0.05 and after["brier"] < before["brier"] - 0.01
        assert scaling == "vector" or after["top1"] == before["top1"]


def test_a_temperature_as_a_calibration() -> None:
    halved = Calibration.of(2.0, 3)
    assert halved.scaling == "temperature"
    np.testing.assert_array_equal(halved(np.array([[2.0, -4.0, 6.0]])), np.array([[1.0, -2.0, 3.0]], np.float32))


coarse = st.builds(
    lambda seed, n: predictions(np.random.default_rng(seed).integers(0, 3, (n, 3)), np.random.default_rng(seed + 1).integers(0, 3, n)),
    st.integers(0, 2**32),
    st.integers(1, 30),
)


@given(st.one_of(cases, coarse))
def test_reliability_agrees_with_a_loop_and_adds_up_to_the_calibration_error(test: Predictions) -> None:
    found = reliability(test.logits, test.labels)
    confidence = [max(row) for row in probabilities(test.logits).tolist()]
    hits = metrics.top_k_hits(test.logits, test.labels, 1).tolist()
    expected = []
    for low in range(15):
        inside = [(c, h) for c, h in zip(confidence, hits, strict=True) if low / 15 < c - 1e-12 <= (low + 1) / 15]
        if inside:
            count = len(inside)
            expected.append((low / 15, (low + 1) / 15, count, sum(c for c, _ in inside) / count, sum(h for _, h in inside) / count))
    actual = np.stack([found.lows, found.highs, found.counts, found.confidence, found.accuracy], axis=1)
    np.testing.assert_allclose(actual, np.array(expected), atol=1e-9)
    error = (found.counts * np.abs(found.confidence - found.accuracy)).sum() / len(test)
    assert error == pytest.approx(metrics.ece(test.logits, test.labels), abs=1e-12)


def test_reliability_counts_what_is_not_finite_as_certain_and_wrong() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]))
    logits = np.concatenate([logits, [[np.nan, 0]]])
    found = reliability(logits, np.array([0, 1, 1, 0]))
    assert found.counts.tolist() == [1, 2, 1]
    np.testing.assert_allclose([found.lows, found.highs], [[8 / 15, 13 / 15, 14 / 15], [9 / 15, 14 / 15, 1]])
    np.testing.assert_allclose([found.confidence, found.accuracy], [[0.6, 0.9, 1], [1, 0.5, 0]])
