from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import scipy.special
import sklearn.covariance
import sklearn.linear_model
import sklearn.neighbors
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import predictions

from fieldmark.core.errors import InputError
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection import auroc
from fieldmark.scoring.rejection_scores import OF_LOGITS, SCORES, fit_score, load_score

FIELDS = ("ids", "labels", "logits", "features")
FROM_FEATURES = [name for name in SCORES if name not in OF_LOGITS]


def score(name: str, train: Predictions, asked: Predictions) -> np.ndarray:
    return fit_score(name, train)(asked.logits, asked.features)


def test_scores_from_logits() -> None:
    train, asked = predictions(20), predictions(3000, seed=1)  # more than are scored at once
    logits = asked.logits.astype(np.float64)
    np.testing.assert_allclose(score("msp", train, asked), scipy.special.softmax(logits, axis=1).max(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(score("max-logit", train, asked), logits.max(axis=1))
    np.testing.assert_allclose(score("energy", train, asked), np.log(np.exp(logits).sum(axis=1)), rtol=1e-12)
    assert score("energy", train, replace(asked, logits=asked.logits * 1e5)).max() < math.inf


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosines(reference: np.ndarray, asked: np.ndarray, neighbours: int, passed_over: int = 0) -> np.ndarray:
    """The mean of those of the nearest, without the first `passed_over`: float64 (n,)."""
    search = sklearn.neighbors.NearestNeighbors(n_neighbors=neighbours + passed_over).fit(unit(reference).astype(np.float64))
    distances, _ = search.kneighbors(unit(asked).astype(np.float64))
    return (1 - distances[:, passed_over:] ** 2 / 2).mean(axis=1)


@pytest.mark.parametrize("n", [2, 3, 4, 400])
def test_knn_agrees_with_scikit_learn(n: int) -> None:
    train, asked = predictions(n), predictions(50, seed=1)
    np.testing.assert_allclose(score("knn", train, asked), cosines(train.features, asked.features, min(3, n)), atol=1e-6)
    scaled = replace(asked, features=asked.features * np.float32(1e-3))
    np.testing.assert_allclose(score("knn", train, scaled), score("knn", train, asked), atol=1e-6)


@pytest.mark.parametrize(("n", "error"), [(400, 1e-3), (1024, 1e-3), (9000, 0.2)])
def test_max_logit_and_knn_count_alike(n: int, error: float) -> None:
    """Some of many training images serve for the moments."""
    train, asked = predictions(n), predictions(50, seed=1)
    own = cosines(train.features, train.features, 3, passed_over=1)
    expected = (asked.logits.max(axis=1) - train.logits.max(axis=1).mean()) / train.logits.max(axis=1).std()
    expected += (cosines(train.features, asked.features, 3) - own.mean()) / own.std()
    np.testing.assert_allclose(score("max-logit+knn", train, asked), expected, rtol=error, atol=error)


@pytest.mark.parametrize(("n", "width"), [(400, 12), (40, 12), (30, 64)])
def test_mahalanobis_agrees_with_scikit_learn(n: int, width: int) -> None:
    """Also with fewer images than features."""
    train, asked = predictions(n, width=width), predictions(50, width=width, seed=1)
    means = np.stack([train.features[train.labels == each].mean(axis=0, dtype=np.float64) for each in range(4)])
    shrunk = sklearn.covariance.LedoitWolf(assume_centered=True).fit(train.features - means[train.labels])
    precision = np.linalg.inv(shrunk.covariance_)
    away = asked.features[:, None] - means
    expected = -np.einsum("ncd,de,nce->nc", away, precision, away).min(axis=1)
    np.testing.assert_allclose(score("mahalanobis", train, asked), expected, rtol=1e-8)


@pytest.mark.parametrize(("n", "width", "principal"), [(500, 12, 6), (300, 40, 20), (1600, 768, 512), (60, 128, 40)])
def test_vim_agrees_with_its_formulas(n: int, width: int, principal: int) -> None:
    """As the authors write them, with scikit-learn's covariance, from weights that scikit-learn finds."""
    train, asked = predictions(n, width=width), predictions(50, width=width, seed=1, spread=1.5)
    layer = sklearn.linear_model.LinearRegression().fit(train.features.astype(np.float64), train.logits.astype(np.float64))
    origin = -np.linalg.pinv(layer.coef_) @ layer.intercept_
    covariance = sklearn.covariance.EmpiricalCovariance(assume_centered=True).fit(train.features - origin).covariance_
    outside = np.linalg.eigh(covariance)[1][:, ::-1][:, principal:]
    alpha = train.logits.max(axis=1).mean() / np.linalg.norm((train.features - origin) @ outside, axis=1).mean()
    expected = scipy.special.logsumexp(asked.logits, axis=1) - alpha * np.linalg.norm((asked.features - origin) @ outside, axis=1)
    np.testing.assert_allclose(score("vim", train, asked), expected, rtol=1e-3, atol=1e-3)


def test_vim_from_few_images_and_from_features_that_say_nothing() -> None:
    """Something of the images is always left outside the principal space."""
    few, asked = predictions(8, width=64), predictions(50, width=64, seed=1)
    found = score("vim", few, asked)
    assert np.isfinite(found).all()
    assert (found < score("energy", few, asked)).all()
    padded = [replace(each, features=np.pad(each.features, ((0, 0), (0, 100)))) for each in (few, asked)]
    np.testing.assert_allclose(score("vim", *padded), found, rtol=1e-6)
    constant = replace(few, features=np.zeros_like(few.features))
    np.testing.assert_array_equal(score("vim", constant, asked), score("energy", few, asked))


def test_vim_of_logarithms_of_probabilities_still_counts_against_what_is_outside() -> None:
    train, asked = predictions(200), predictions(50, seed=1)
    train, asked = (replace(each, logits=scipy.special.log_softmax(each.logits, axis=1)) for each in (train, asked))
    outside = replace(asked, features=asked.features + 50 * np.random.default_rng(0).normal(size=asked.features.shape).astype(np.float32))
    assert (score("vim", train, outside) < score("vim", train, asked)).mean() > 0.9


def test_a_softmax_head_whose_logits_sum_to_zero_leaves_vim_sound() -> None:
    """Its weights lack a direction; their inverse there would throw the origin far away."""
    train, asked = predictions(400, classes=4), predictions(50, seed=1)
    rng = np.random.default_rng(3)
    centred = [replace(each, logits=each.logits - each.logits.mean(axis=1, keepdims=True)) for each in (train, asked)]
    noisy = [replace(each, logits=(each.logits + 0.01 + 1e-3 * rng.normal(size=each.logits.shape)).astype(np.float32)) for each in centred]
    np.testing.assert_allclose(score("vim", *noisy), score("vim", *centred), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_rejected_and_not_fitted_on(name: str, bad: float) -> None:
    train, asked = predictions(60), predictions(20, seed=1)
    clean = score(name, train, asked)
    assert clean.dtype == np.float64 and clean.shape == (20,)
    logits, features = asked.logits.copy(), asked.features.copy()
    logits[3, 1] = features[5, 0] = bad
    found = fit_score(name, train)(logits, features)
    assert np.flatnonzero(found == -np.inf).tolist() == [3, 5]
    kept = np.setdiff1d(np.arange(20), [3, 5])
    np.testing.assert_allclose(found[kept], clean[kept], rtol=1e-5)
    more = predictions(64, seed=2)
    more = Predictions(*(np.concatenate([getattr(train, each), getattr(more, each)[:4]]) for each in FIELDS), train.class_names)
    more.logits[60], more.features[61, 2], more.labels[62:] = bad, bad, -1
    np.testing.assert_array_equal(score(name, more, asked), clean)
    assert fit_score(name, train)(logits[:0], features[:0]).shape == (0,)


@pytest.mark.parametrize("name", SCORES)
def test_scores_from_one_class_and_from_one_image(name: str) -> None:
    """Whose covariance is nothing at all."""
    asked = predictions(20, seed=1)
    rows = predictions(60).labels == 2
    for chosen in (np.flatnonzero(rows), np.flatnonzero(rows)[:2], np.flatnonzero(rows)[:1]):
        train = Predictions(*(getattr(predictions(60), each)[chosen] for each in FIELDS), asked.class_names)
        assert np.isfinite(score(name, train, asked)).all()
    if name in ("knn", "mahalanobis"):
        assert auroc(score(name, train, asked)[asked.labels == 2], score(name, train, asked)[asked.labels != 2]) > 0.9


@pytest.mark.parametrize("name", SCORES)
def test_scores_tell_far_images_from_near_ones(name: str) -> None:
    train, known = predictions(400, classes=8, width=32), predictions(100, classes=8, width=32, seed=1)
    rng = np.random.default_rng(5)
    features = rng.normal(size=(100, 32)).astype(np.float32)
    layer = sklearn.linear_model.LinearRegression().fit(train.features, train.logits)
    unknown = replace(known, features=features, logits=layer.predict(features).astype(np.float32))
    assert auroc(score(name, train, known), score(name, train, unknown)) > 0.7


def test_what_cannot_be_fitted_is_refused() -> None:
    train = predictions(20)
    bare = replace(train, features=np.zeros((20, 0), np.float32))
    for name in FROM_FEATURES:
        with pytest.raises(InputError, match=f"{re.escape(name)} needs features.*\nChoose among msp, max-logit, energy"):
            fit_score(name, bare)
        with pytest.raises(InputError, match="labelled training images"):
            fit_score(name, replace(train, labels=np.full(20, -1, np.int32)))
    for name in OF_LOGITS:
        assert score(name, bare, bare).tolist() == score(name, train, train).tolist()
    with pytest.raises(ValueError, match="no score 'softmax'"):
        fit_score("softmax", train)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8), st.integers(1, 30), st.sampled_from([1e-6, 1.0, 1e6]))
def test_scores_are_finite_and_the_same_again_whatever_was_fitted_on(seed: int, n: int, classes: int, width: int, scale: float) -> None:
    train, asked = (predictions(rows, classes, width, seed + place) for place, rows in enumerate((n, 20)))
    train, asked = (replace(each, features=each.features * np.float32(scale)) for each in (train, asked))
    for name in SCORES:
        found = score(name, train, asked)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(score(name, train, asked), found)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8), st.integers(1, 30), st.integers(1, 20))
def test_a_score_that_was_saved_scores_alike_to_the_last_bit(seed: int, n: int, classes: int, width: int, rows: int) -> None:
    train, asked = predictions(n, classes, width, seed), predictions(rows, classes, width, seed + 1)
    with TemporaryDirectory() as folder:
        for name in SCORES:
            fitted, file = fit_score(name, train), Path(folder) / "rejection.safetensors"
            fitted.save(file)
            again = load_score(file, name)
            assert again.name == name and again.width == (None if name in OF_LOGITS else width)
            np.testing.assert_array_equal(again(asked.logits, asked.features), fitted(asked.logits, asked.features))


def test_a_file_of_another_score_or_damaged_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "rejection.safetensors"
    fit_score("knn", predictions(20)).save(file)
    with pytest.raises(InputError, match=r"holds the score knn, and calibration\.json names vim\n`fieldmark calibrate RUN`"):
        load_score(file, "vim")
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole.replace(b'"reference"', b'"preferenc"'), whole[:40]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"rejection\.safetensors .*\n`fieldmark calibrate RUN`"):
            load_score(file, "knn")


def test_features_of_another_network_are_refused() -> None:
    train, asked = predictions(20, width=12), predictions(20, width=13)
    for name in FROM_FEATURES:
        with pytest.raises(InputError, match=f"{re.escape(name)} was fitted on 12 features, and this run has 13"):
            score(name, train, asked)
