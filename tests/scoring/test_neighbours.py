"""Nearest training images and most confused classes against loops that say what is meant."""

import time

import numpy as np
import pytest

from fieldmark.scoring.neighbours import most_confused, nearest
from fieldmark.scoring.predictions import Predictions


def predictions(labels, logits, features=None) -> Predictions:
    labels, logits = np.asarray(labels, np.int32), np.asarray(logits, np.float32)
    features = np.zeros((len(labels), 1), np.float32) if features is None else np.asarray(features, np.float32)
    names = tuple(f"class {index}" for index in range(logits.shape[1]))
    return Predictions(np.array([f"{index}.jpg" for index in range(len(labels))], np.str_), labels, logits, features, names)


def drawn(n=300, classes=7, width=5, seed=0) -> Predictions:
    rng = np.random.default_rng(seed)
    return predictions(rng.integers(-1, classes, n), rng.normal(size=(n, classes)), rng.normal(size=(n, width)))


def test_the_nearest_of_a_class_are_those_of_the_largest_cosine():
    train = drawn()
    queries = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32) * 100
    found = nearest(train, queries, 3, 6)
    assert found.shape == (4, 6) and found.dtype == np.int64
    for query, rows in zip(queries, found, strict=True):
        cosines = {
            row: float(query @ feature / np.linalg.norm(query) / np.linalg.norm(feature))
            for row, feature in enumerate(train.features)
            if train.labels[row] == 3
        }
        assert rows.tolist() == sorted(cosines, key=cosines.get, reverse=True)[:6]


def test_length_does_not_count_and_equal_ones_come_in_order():
    train = predictions([0, 0, 0, 1], np.zeros((4, 2)), [[1e-20, 0], [0, 3], [1e20, 0], [1, 0]])
    np.testing.assert_array_equal(nearest(train, np.array([[5.0, 0]]), 0, 3), [[0, 2, 1]])


def test_rows_that_are_not_finite_are_left_out():
    train = predictions([0, 0, 0, 0], np.zeros((4, 1)), [[np.nan, 1], [1, 1], [np.inf, 0], [0, 0]])
    np.testing.assert_array_equal(nearest(train, np.array([[1.0, 1], [np.nan, 0], [0, 0]]), 0, 9), [[1, 3], [1, 3], [1, 3]])


@pytest.mark.parametrize(("label", "images"), [(1, 2), (0, 2)], ids=["class without images", "no query"])
def test_nothing_to_find(label, images):
    train = predictions([0, 0], np.zeros((2, 2)), [[1, 0], [0, 1]])
    queries = np.ones((images if label else 0, 2), np.float32)
    assert nearest(train, queries, label, 3).shape == ((2, 0) if label else (0, 2))


def test_the_most_confused_class_by_a_loop():
    table = drawn(n=200, classes=9, seed=3)
    table.logits[np.arange(200), np.maximum(table.labels, 0)] += 1.5
    probabilities = table.probabilities().astype(np.float64)
    for label, found in enumerate(most_confused(table)):
        rows = np.flatnonzero(table.labels == label)
        taken = [int((table.logits[rows].argmax(axis=1) == other).sum()) for other in range(9)]
        others = [other for other in range(9) if other != label]
        assert found == max(others, key=lambda other: (taken[other], probabilities[rows, other].mean()))


def test_where_none_was_mistaken_the_second_likeliest_is_it():
    table = predictions([0, 0, 1], [[9, 1, 2, 0], [9, 3, 0, 0], [0, 9, 0, 3]])
    assert most_confused(table).tolist() == [1, 3, -1, -1]


def test_mistakes_count_before_probabilities():
    """Taken for class 2 twice by a hair; class 1 has far more probability in sum."""
    table = predictions([0] * 5, [[5, 0, 5.1], [5, 0, 5.1], [0, 9, 0], [5, 4.99, 0], [5, 4.99, 0]])
    assert most_confused(table).tolist() == [2, -1, -1]


def test_rows_without_label_or_finite_logits_count_nowhere():
    table = predictions([0, 0, -1, 1], [[3, 2, 1], [np.nan, 9, 0], [0, 0, 9], [0, np.inf, 0]])
    assert most_confused(table).tolist() == [1, -1, -1]


def test_without_images_or_other_classes_there_is_none():
    assert most_confused(predictions([], np.zeros((0, 3)))).tolist() == [-1, -1, -1]
    assert most_confused(predictions([0, 0], np.zeros((2, 1)))).tolist() == [-1]


def test_two_hundred_classes_and_fifty_thousand_images_take_seconds():
    table = drawn(n=50_000, classes=200, width=256)
    started = time.process_time()
    assert (most_confused(table) >= 0).all()
    assert nearest(table, table.features[:6], 17, 6).shape == (6, 6)
    assert time.process_time() - started < 10
