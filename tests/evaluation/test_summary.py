from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from fieldmark.core.errors import InputError
from fieldmark.evaluation import metrics
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.summary import ClassFigures, evaluate_predictions, per_class


def predictions(labels: np.ndarray, classes: int = 9) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        ids=np.array([str(i) for i in range(len(labels))], dtype=np.str_),
        labels=labels.astype(np.int32),
        logits=(2 * rng.normal(size=(len(labels), classes))).astype(np.float32),
        features=np.zeros((len(labels), 2), np.float32),
        class_names=tuple("abcdefghi"[:classes]),
    )


def test_figures_are_per_cent_with_their_intervals_and_nll_is_nats() -> None:
    some = predictions(np.random.default_rng(1).integers(0, 9, 80))
    summary = evaluate_predictions(some, 200, seed=0)
    names = ["top1", "top5", "macro_f1", "nll", "ece"]
    assert list(summary) == ["n"] + [name + end for name in names for end in ("", "_low", "_high")]
    assert summary["n"] == 80
    assert summary["top1"] == pytest.approx(100 * (some.logits.argmax(axis=1) == some.labels).mean())
    assert summary["nll"] == pytest.approx(metrics.nll(some.logits, some.labels))
    assert summary["ece"] == pytest.approx(100 * metrics.ece(some.logits, some.labels))
    assert all(summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"] for name in names)
    assert all(type(value) in (int, float) for value in summary.values())


def test_images_without_a_label_change_nothing() -> None:
    labels = np.random.default_rng(1).integers(0, 9, 60)
    labels[::3] = -1
    some = predictions(labels)
    known = labels >= 0
    kept = Predictions(some.ids[known], some.labels[known], some.logits[known], some.features[known], some.class_names)
    assert evaluate_predictions(some, 200, seed=0) == evaluate_predictions(kept, 200, seed=0)
    assert per_class(some) == per_class(kept)


def test_without_any_label_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(InputError, match="no labelled images"):
        evaluate_predictions(predictions(np.full(5, -1)), 200, seed=0)
    with pytest.raises(InputError, match="no labelled images"):
        per_class(predictions(np.full(5, -1)))


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
        ClassFigures("seen", 1, 1, 50.0, 100.0, pytest.approx(200 / 3)),
        ClassFigures("missed", 1, 0, None, 0.0, 0.0),
        ClassFigures("absent", 0, 0, None, None, None),
    ]
