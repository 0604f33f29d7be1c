from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from fieldmark.scoring.classes import ClassFigures, averages, head_to_tail, per_class
from fieldmark.scoring.predictions import Predictions


def predictions(labels: np.ndarray, classes: int = 9) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        ids=np.array([str(i) for i in range(len(labels))], dtype=np.str_),
        labels=labels.astype(np.int32),
        logits=(2 * rng.normal(size=(len(labels), classes))).astype(np.float32),
        features=np.zeros((len(labels), 2), np.float32),
        class_names=tuple("abcdefghi"[:classes]),
    )


def test_classes_agree_with_scikit_learn() -> None:
    some = predictions(np.random.default_rng(2).integers(0, 8, 200))  # no image of the last class
    rows = per_class(some)
    guesses = some.logits.argmax(axis=1)
    precision, recall, f1, n = sklearn.metrics.precision_recall_fscore_support(some.labels, guesses, labels=range(9), zero_division=np.nan)
    assert [row.name for row in rows] == list("abcdefghi")
    assert [row.n for row in rows] == n.tolist()
    assert [row.correct for row in rows] == np.diag(sklearn.metrics.confusion_matrix(some.labels, guesses)).tolist()
    for ours, theirs in ((r.precision for r in rows), precision), ((r.recall for r in rows), recall), ((r.f1 for r in rows), f1):
        np.testing.assert_allclose([np.nan if value is None else value for value in ours], 100 * theirs)


def test_undefined_shares_are_none_not_zero() -> None:
    some = Predictions(
        ids=np.array(["x", "y"]),
        labels=np.array([0, 1], np.int32),
        logits=np.array([[1, 0, 0], [1, 0, 0]], np.float32),
        features=np.zeros((2, 1), np.float32),
        class_names=("seen", "missed", "absent"),
    )
    assert per_class(some) == [
        ClassFigures("seen", 1, 1, 50.0, 100.0, pytest.approx(200 / 3), pytest.approx(2.5), 100.0),
        ClassFigures("missed", 1, 0, None, 0.0, 0.0, 0.0, pytest.approx(97.5)),
        ClassFigures("absent", 0, 0, None, None, None, None, None),
    ]


def test_the_recall_of_a_class_has_its_exact_interval() -> None:
    labels = np.repeat([0, 2, 1], [12, 5, 30])
    some = predictions(labels)
    some.logits[:] = 4 * np.eye(9)[np.where(np.arange(47) < 5, 1, labels)]
    found = per_class(some)
    assert (found[0].correct, found[0].n) == (7, 12)
    for each in found[:3]:
        exact = scipy.stats.binomtest(each.correct, each.n).proportion_ci(method="exact")
        assert (each.recall_low, each.recall_high) == pytest.approx((100 * exact.low, 100 * exact.high))
    together = per_class(replace(some, groups=np.repeat([0, 1, 2, 3], [6, 6, 5, 30]).astype(np.int32)))
    assert together[0].recall_high - together[0].recall_low > found[0].recall_high - found[0].recall_low  # type: ignore[operator]


def test_averages_agree_with_scikit_learn() -> None:
    for classes_in_test in (1, 5, 8):
        some = predictions(np.random.default_rng(3).integers(0, classes_in_test, 120))
        some.logits[:, 7] -= 20  # never predicted
        guesses = some.logits.argmax(axis=1)
        for average, ours in averages(some).items():
            theirs = sklearn.metrics.precision_recall_fscore_support(some.labels, guesses, average=average, zero_division=0)
            assert (ours["precision"], ours["recall"], ours["f1"]) == pytest.approx([100 * each for each in theirs[:3]])


def test_an_image_without_an_answer_lowers_recall_and_not_precision() -> None:
    some = predictions(np.zeros(4, np.int64))
    some.logits[:] = 0
    some.logits[:3, 0] = 1
    some.logits[3, 2] = np.nan
    found = averages(some)["micro"]
    assert found == {"precision": 100, "recall": 75, "f1": pytest.approx(600 / 7)}


def test_head_medium_and_tail_are_thirds_of_the_classes_by_training_images() -> None:
    some = predictions(np.repeat(np.arange(9), 10))
    trained = np.array([5, 90, 40, 40, 7, 100, 80, 30, 6])
    hits = some.logits.argmax(axis=1) == some.labels
    shares = head_to_tail(some, trained)
    assert [(each.name, each.classes, each.fewest, each.most) for each in shares] == [
        ("head", 3, 80, 100),
        ("medium", 3, 30, 40),
        ("tail", 3, 5, 7),
    ]
    for each, members in zip(shares, ([1, 5, 6], [2, 3, 7], [0, 4, 8]), strict=True):
        chosen = hits[np.isin(some.labels, members)]
        assert each.n == 30 and each.top1 == pytest.approx(100 * chosen.mean())
        test = scipy.stats.binomtest(int(chosen.sum()), 30).proportion_ci(method="exact")
        assert (each.low, each.high) == pytest.approx((100 * test.low, 100 * test.high))


def test_classes_of_about_one_size_have_no_tail_and_equal_counts_stay_together() -> None:
    some = predictions(np.repeat(np.arange(8), 2))
    for trained in ([5] * 9, [1, 9, 9, 9, 9, 9, 9, 9, 9], [70, 70, 72, 72, 71, 70, 73, 75, 90], [20] * 3 + [25] * 3 + [29] * 3):
        assert head_to_tail(some, np.array(trained)) == []
    shares = head_to_tail(some, np.array([3, 3, 3, 4, 4, 4, 9, 9, 9]))
    assert [(each.name, each.classes, each.fewest, each.most) for each in shares] == [
        ("head", 3, 9, 9),
        ("medium", 3, 4, 4),
        ("tail", 3, 3, 3),
    ]
    assert len(head_to_tail(some, np.array([3, 3, 3, 3, 3, 3, 9, 9, 9]))) == 2
