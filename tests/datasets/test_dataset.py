from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset, Level, some_classes


def dataset() -> Dataset:
    labels = np.array([0, 1, 2, 3, 4, 4, 2, -1], np.int32)
    splits = np.array(["train"] * 5 + ["test"] * 2 + ["unlabelled"])
    level = Level.of("genus", ["x", "x", "y", "y", "z"])
    paths = tuple(f"{row}.png" for row in range(8))
    return Dataset("d", Path("."), "class-folders", tuple("abcde"), paths, labels, splits, None, levels=(level,))  # type: ignore[arg-type]


def test_some_classes_are_spread_over_the_names():
    few = some_classes(dataset(), 3)
    assert few.class_names == ("a", "b", "d")
    assert few.paths == ("0.png", "1.png", "3.png")
    assert few.labels.tolist() == [0, 1, 2]
    assert few.levels[0].of_classes() == ["x", "x", "y"] and few.levels[0].names == ("x", "y")


def test_some_classes_keep_splits_and_leave_out_what_has_no_label():
    few = some_classes(dataset(), 5)
    assert few.paths == tuple(f"{row}.png" for row in range(7))
    assert few.splits.tolist() == ["train"] * 5 + ["test"] * 2


def test_more_classes_than_there_are():
    with pytest.raises(InputError, match=r"data\.classes=6: d has 5 classes"):
        some_classes(dataset(), 6)
