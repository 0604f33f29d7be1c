from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import predictions

from fieldmark.core.errors import InputError
from fieldmark.scoring import rejection
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import OF_LOGITS, OF_SCATTER, SCORES, fit_score

FIELDS = ("ids", "labels", "logits", "features")

values = st.one_of(st.sampled_from([-math.inf, math.nan, 0.0, 0.5, 1.0]), st.floats(-5, 5, width=16))
scores = st.lists(values, min_size=1, max_size=30).map(np.array)


def ranks(*parts: np.ndarray) -> list[np.ndarray]:
    """Finite numbers in the same order, NaN and -inf together and last: what scikit-learn takes."""
    together = np.where(np.isnan(np.concatenate(parts)), -np.inf, np.concatenate(parts))
    return np.split(np.unique(together, return_inverse=True)[1].astype(float), np.cumsum([len(part) for part in parts])[:-1])


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
        with pytest.raises(ValueError, match="for 3 known"):
            rejection.oscr(known, correct, unknown)


def test_figures_where_all_scores_are_tied_and_where_there_is_one_image_of_each() -> None:
    tied, few = np.zeros(6), np.zeros(2)
    assert (rejection.auroc(tied, few), rejection.aupr(tied, few)) == (0.5, 0.25)
    assert rejection.fpr_at(tied, few) == 1 and rejection.oscr(tied, np.arange(6) < 3, few) == 0.25
    one, other = np.array([1.0]), np.array([0.0])
    assert (rejection.auroc(one, other), rejection.aupr(one, other), rejection.fpr_at(one, other)) == (1, 1, 0)
    assert (rejection.auroc(other, one), rejection.aupr(other, one), rejection.fpr_at(other, one)) == (0, 0.5, 1)


@pytest.mark.parametrize(
    "figure",
    [
        rejection.auroc,
        rejection.aupr,
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


def test_the_score_chosen_is_the_best_of_those_that_can_be_fitted() -> None:
    train, val = predictions(200, classes=8, spread=2), predictions(80, classes=8, seed=1, spread=2)
    name, found = rejection.choose_score(train, val)
    expected = {each: rejection.held_out_auroc(each, train, val) for each in SCORES}
    assert tuple(found) == SCORES and len(set(found.values())) > 3
    highest = max(value for value in expected.values() if value is not None)
    assert name == next(each for each in SCORES if (expected[each] or 0) >= highest - 0.01)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(2, 8), st.floats(0.3, 4))
def test_a_score_that_takes_seconds_is_dropped_only_where_that_decides_nothing(seed: int, classes: int, spread: float) -> None:
    train, val = (predictions(n, classes, 6, seed + place, spread) for place, n in enumerate((120, 40)))
    name, found = rejection.choose_score(train, val)
    expected = {each: value for each in SCORES if (value := rejection.held_out_auroc(each, train, val)) is not None}
    highest = max(expected.values(), default=0.0)
    assert name == next((each for each, value in expected.items() if value >= highest - 0.01), "max-logit")
    for number, each in enumerate(SCORES):
        if found[each] is None and each in expected:
            assert each in OF_SCATTER and expected[each] <= max(expected[before] for before in SCORES[:number])
        else:
            assert found[each] == expected.get(each)
