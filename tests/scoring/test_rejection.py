from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.special
import sklearn.covariance
import sklearn.linear_model
import sklearn.metrics
import sklearn.neighbors
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.scoring import rejection
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection import OF_LOGITS, SCORES, fit_score

FIELDS = ("ids", "labels", "logits", "features")
FROM_FEATURES = [name for name in SCORES if name not in OF_LOGITS]

values = st.one_of(st.sampled_from([-math.inf, math.nan, 0.0, 0.5, 1.0]), st.floats(-5, 5, width=16))
scores = st.lists(values, min_size=1, max_size=30).map(np.array)


def ranks(*parts: np.ndarray) -> list[np.ndarray]:
    """Finite numbers in the same order, NaN and -inf together and last: what scikit-learn takes."""
    together = np.where(np.isnan(np.concatenate(parts)), -np.inf, np.concatenate(parts))
    return np.split(np.unique(together, return_inverse=True)[1].astype(float), np.cumsum([len(part) for part in parts])[:-1])


def predictions(n: int, classes: int = 4, width: int = 12, seed: int = 0, spread: float = 1.0) -> Predictions:
    """Features about class means, and the logits that one linear layer gives for them."""
    layer, rng = np.random.default_rng(99), np.random.default_rng(seed)
    means, mixing = 2 * layer.normal(size=(classes, width)), layer.normal(size=(width, width)) * np.linspace(0.1, 1, width)
    weight, bias = means + layer.normal(size=(classes, width)), layer.normal(size=classes)
    labels = rng.permutation(np.arange(n) % classes).astype(np.int32)
    features = (means[labels] + spread * rng.normal(size=(n, width)) @ mixing).astype(np.float32)
    logits = (features @ weight.T / 8 + bias).astype(np.float32)
    return Predictions(np.arange(n).astype(str), labels, logits, features, tuple("abcdefgh"[:classes]))


def score(name: str, train: Predictions, asked: Predictions) -> np.ndarray:
    return fit_score(name, train)(asked.logits, asked.features)


@given(scores, scores)
def test_auroc_agrees_with_scikit_learn_and_with_counting_pairs(known: np.ndarray, unknown: np.ndarray) -> None:
    k, u = ranks(known, unknown)
    found = rejection.auroc(known, unknown)
    is_known = np.arange(len(k) + len(u)) < len(k)
    assert found == pytest.approx(sklearn.metrics.roc_auc_score(is_known, np.concatenate([k, u])), abs=1e-12)
    assert found == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a in k for b in u]), abs=1e-12)
    assert found == pytest.approx(1 - rejection.auroc(unknown, known), abs=1e-12)


@given(scores, scores)
def test_average_precision_agrees_with_scikit_learn(known: np.ndarray, unknown: np.ndarray) -> None:
    k, u = ranks(known, unknown)
    is_known, together = np.arange(len(k) + len(u)) < len(k), np.concatenate([k, u])
    assert rejection.aupr(known, unknown) == pytest.approx(sklearn.metrics.average_precision_score(~is_known, -together), abs=1e-12)
    assert rejection.aupr_known(known, unknown) == pytest.approx(sklearn.metrics.average_precision_score(is_known, together), abs=1e-12)


@given(scores, scores, st.sampled_from([0.05, 0.5, 0.56, 0.9, 0.95, 1.0]))
def test_fpr_agrees_with_scikit_learn(known: np.ndarray, unknown: np.ndarray, accept: float) -> None:
    k, u = ranks(known, unknown)
    is_known = np.arange(len(k) + len(u)) < len(k)
    false, true, _ = sklearn.metrics.roc_curve(is_known, np.concatenate([k, u]), drop_intermediate=False)
    assert rejection.fpr_at(known, unknown, accept) == pytest.approx(false[true >= accept - 1e-9][0], abs=1e-12)


def test_a_share_that_floats_overstate_is_met_exactly() -> None:
    """0.56 * 100 is 56.00000000000001: the 56th image is enough, whose score no unknown image reaches."""
    known = np.arange(100.0)
    assert rejection.fpr_at(known, np.array([43.5, 44.0]), 0.56) == 0.5
    assert rejection.threshold(np.arange(1.0, 10), 0.9) == 1  # (1 - 0.9) * 10 is 0.9999999999999998


@given(scores, scores, st.integers(0, 2**32))
def test_oscr_agrees_with_its_curve(known: np.ndarray, unknown: np.ndarray, seed: int) -> None:
    correct = np.random.default_rng(seed).random(len(known)) < 0.6
    k, u = ranks(known, unknown)
    points = [(0.0, 0.0)]
    for at_least in sorted({*k, *u}, reverse=True):
        points.append((np.mean(u >= at_least), np.mean(correct & (k >= at_least))))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
    found = rejection.oscr(known, correct, unknown)
    assert found == pytest.approx(area, abs=1e-12) and found <= correct.mean() + 1e-12
    order = np.random.default_rng(seed + 1).permutation(len(known))
    assert rejection.oscr(known[order], correct[order], unknown[::-1]) == pytest.approx(found, abs=1e-12)


def test_oscr_where_all_or_nothing_is_right() -> None:
    known, unknown = np.array([0.1, 0.4, 0.9]), np.array([0.2, 0.4])
    assert rejection.oscr(known, np.ones(3, bool), unknown) == rejection.auroc(known, unknown)
    assert rejection.oscr(known, np.zeros(3, bool), unknown) == 0
    for correct in (np.ones(2, bool), np.ones(3)):
        with pytest.raises(ValueError, match="where there are 3 known"):
            rejection.oscr(known, correct, unknown)


def test_figures_where_all_scores_are_tied_and_where_there_is_one_image_of_each() -> None:
    tied, few = np.zeros(6), np.zeros(2)
    assert (rejection.auroc(tied, few), rejection.aupr(tied, few), rejection.aupr_known(tied, few)) == (0.5, 0.25, 0.75)
    assert rejection.fpr_at(tied, few) == 1 and rejection.oscr(tied, np.arange(6) < 3, few) == 0.25
    one, other = np.array([1.0]), np.array([0.0])
    assert (rejection.auroc(one, other), rejection.aupr(one, other), rejection.fpr_at(one, other)) == (1, 1, 0)
    assert (rejection.auroc(other, one), rejection.aupr(other, one), rejection.fpr_at(other, one)) == (0, 0.5, 1)


@pytest.mark.parametrize(
    "figure",
    [
        rejection.auroc,
        rejection.aupr,
        rejection.aupr_known,
        rejection.fpr_at,
        lambda known, unknown: rejection.oscr(known, np.ones(len(known), bool), unknown),
    ],
)
def test_figures_without_images_of_either_kind_are_refused(figure: Callable[[np.ndarray, np.ndarray], float]) -> None:
    for known, unknown in ((np.ones(2), np.ones(0)), (np.ones(0), np.ones(2))):
        with pytest.raises(InputError, match="no known or no unknown"):
            figure(known, unknown)


@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_threshold_keeps_its_promise_and_is_the_largest_that_does(n: int, accept: float) -> None:
    """The n + 1 images are exchangeable: each of n + 1 distinct scores is the new one as often as any other."""
    everything = np.arange(n + 1.0)
    rejected = 0
    for new in everything:
        rejected += new < rejection.threshold(everything[everything != new], accept)
    assert 1 - rejected / (n + 1) >= accept - 1e-9
    assert 1 - (rejected + 1) / (n + 1) < accept
    assert (rejection.threshold(everything[:n], accept) == -math.inf) == (n < accept / (1 - accept) - 1e-9)


def test_what_has_no_threshold_is_refused() -> None:
    for accept in (0.0, 1.0, 1.5, -1.0, math.nan):
        with pytest.raises(InputError, match="to accept is"):
            rejection.threshold(np.ones(5), accept)
    with pytest.raises(InputError, match="no known images"):
        rejection.threshold(np.ones(0), 0.9)
    for accept in (0.0, 1.01):
        with pytest.raises(InputError, match="to accept is"):
            rejection.fpr_at(np.ones(5), np.ones(5), accept)
    assert rejection.threshold(np.array([np.nan, 1, 2]), 0.5) == 1 and rejection.threshold(np.array([np.nan, 1, 2]), 0.7) == -math.inf


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
        assert rejection.auroc(score(name, train, asked)[asked.labels == 2], score(name, train, asked)[asked.labels != 2]) > 0.9


@pytest.mark.parametrize("name", SCORES)
def test_scores_tell_far_images_from_near_ones(name: str) -> None:
    train, known = predictions(400, classes=8, width=32), predictions(100, classes=8, width=32, seed=1)
    rng = np.random.default_rng(5)
    features = rng.normal(size=(100, 32)).astype(np.float32)
    layer = sklearn.linear_model.LinearRegression().fit(train.features, train.logits)
    unknown = replace(known, features=features, logits=layer.predict(features).astype(np.float32))
    assert rejection.auroc(score(name, train, known), score(name, train, unknown)) > 0.7


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


@pytest.mark.parametrize("name", SCORES)
def test_held_out_classes_are_those_of_a_network_without_them(name: str) -> None:
    """With as many groups as classes each is held out alone, which is done here by hand."""
    train, val = predictions(160, spread=2), predictions(80, seed=1, spread=2)
    expected = []
    for held in range(4):
        others, kept = [each for each in range(4) if each != held], train.labels != held
        labels = train.labels[kept] - (train.labels[kept] > held)
        names = tuple(train.class_names[each] for each in others)
        rest = Predictions(train.ids[kept], labels, train.logits[kept][:, others], train.features[kept], names)
        found = fit_score(name, rest)(val.logits[:, others], val.features)
        expected.append(sklearn.metrics.roc_auc_score(val.labels != held, found))
    assert rejection.held_out_auroc(name, train, val, groups=4) == pytest.approx(np.mean(expected), abs=1e-12)
    assert rejection.held_out_auroc(name, train, val) == rejection.held_out_auroc(name, train, val, groups=4)  # 5 groups of 4 classes


def test_held_out_groups_depend_on_the_seed_and_leave_unlabelled_images_out() -> None:
    train, val = predictions(160, classes=8), predictions(80, classes=8, seed=1)
    found = {rejection.held_out_auroc("energy", train, val, seed=seed) for seed in range(4)}
    assert len(found) > 1 and all(0 < each <= 1 for each in found)
    more = Predictions(*(np.concatenate([getattr(val, each), getattr(val, each)]) for each in FIELDS), val.class_names)
    more.labels[80:], more.logits[80:] = -1, 0
    assert rejection.held_out_auroc("energy", train, more) == rejection.held_out_auroc("energy", train, val)
    np.testing.assert_array_equal(val.labels, predictions(80, classes=8, seed=1).labels)


def test_held_out_probabilities_do_not_tell_what_was_taken_away() -> None:
    """The energy of probabilities is nothing, and with a column missing it would be what that column had."""
    train, val = predictions(160), predictions(80, seed=1)
    logs = [replace(each, logits=scipy.special.log_softmax(each.logits, axis=1)) for each in (train, val)]
    assert rejection.held_out_auroc("max-logit", *logs) == pytest.approx(rejection.held_out_auroc("msp", *logs), abs=0.01)
    assert rejection.held_out_auroc("msp", *logs) == pytest.approx(rejection.held_out_auroc("msp", train, val), abs=1e-6)
    assert abs(rejection.held_out_auroc("energy", *logs) - 0.5) < 0.2 < rejection.held_out_auroc("energy", train, val) - 0.5


def test_held_out_classes_where_they_are_few() -> None:
    train, val = predictions(60, classes=3), predictions(30, classes=3, seed=1)
    assert rejection.held_out_auroc("msp", train, val) > 0.5
    for classes in (1, 2):
        two = predictions(60, classes=classes)
        assert rejection.held_out_auroc("msp", two, two) is None
        assert rejection.choose_score(two, two) == ("max-logit", dict.fromkeys(SCORES))
    assert rejection.held_out_auroc("msp", train, val, groups=1) is None
    unlabelled = replace(val, labels=np.full(30, -1, np.int32))
    assert rejection.held_out_auroc("msp", train, unlabelled) is None
    assert rejection.held_out_auroc("knn", unlabelled, val) is None
    one = replace(val, labels=np.where(val.labels == 1, 1, -1).astype(np.int32))
    assert rejection.held_out_auroc("msp", train, one) is None
    with pytest.raises(ValueError, match="other classes"):
        rejection.held_out_auroc("msp", train, predictions(20, classes=4))


def test_scores_of_logits_are_chosen_alike_without_train() -> None:
    train, val = predictions(200, classes=8, spread=2), predictions(80, classes=8, seed=1, spread=2)
    _, found = rejection.choose_score(None, val)
    assert found == {name: rejection.held_out_auroc(name, train, val) if name in OF_LOGITS else None for name in SCORES}


def test_the_score_chosen_is_the_best_of_those_that_can_be_had() -> None:
    train, val = predictions(200, classes=8, spread=2), predictions(80, classes=8, seed=1, spread=2)
    name, found = rejection.choose_score(train, val)
    assert tuple(found) == SCORES and len(set(found.values())) > 3
    assert found == {each: rejection.held_out_auroc(each, train, val) for each in SCORES}
    highest = max(value for value in found.values() if value is not None)
    assert name == next(each for each in SCORES if (found[each] or 0) >= highest - 0.01)
    bare = [replace(each, features=np.zeros((len(each), 0), np.float32)) for each in (train, val)]
    name, found = rejection.choose_score(*bare, names=("vim", "energy", "msp"))
    assert found["vim"] is None and name in ("energy", "msp") and (found[name] or 0) >= max(found["energy"] or 0, found["msp"] or 0) - 0.01


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8), st.integers(1, 30), st.sampled_from([1e-6, 1.0, 1e6]))
def test_scores_are_finite_and_the_same_again_whatever_was_fitted_on(seed: int, n: int, classes: int, width: int, scale: float) -> None:
    train, asked = (predictions(rows, classes, width, seed + place) for place, rows in enumerate((n, 20)))
    train, asked = (replace(each, features=each.features * np.float32(scale)) for each in (train, asked))
    for name in SCORES:
        found = score(name, train, asked)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(score(name, train, asked), found)
