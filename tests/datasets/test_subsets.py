from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.data import FractionOfTrain, LongTailed, PerClass, Siblings, TrueLabels, UniformNoise, WholeTrain
from fieldmark.datasets.dataset import Dataset, Level
from fieldmark.datasets.images import Files
from fieldmark.datasets.subsets import mislabelled, subset


def made(counts: list[int], held_out: int = 2) -> Dataset:
    """`counts[c]` images of class c in train, and so many of each in val and test."""
    rows = [(label, "train") for label, count in enumerate(counts) for _ in range(count)]
    rows += [(label, split) for label in range(len(counts)) for split in ("val", "test") for _ in range(held_out)]
    return Dataset(
        name="made",
        root=Path("made"),
        layout="class-folders",
        class_names=tuple(f"class {label}" for label in range(len(counts))),
        paths=tuple(f"{number:05d}.jpg" for number in range(len(rows))),
        labels=np.array([label for label, _ in rows], np.int32),
        splits=np.array([split for _, split in rows]),
        images=Files(Path("made")),
        boxes=np.arange(4 * len(rows), dtype=np.float32).reshape(-1, 4),
    )


def counts_of(dataset: Dataset) -> list[int]:
    return np.bincount(dataset.labels[dataset.rows("train")], minlength=len(dataset.class_names)).tolist()


def paths_of(dataset: Dataset, split: str) -> set[str]:
    return {dataset.paths[row] for row in dataset.rows(split)}


COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=12)


@given(COUNTS, st.floats(0.01, 1), st.integers(0, 3))
def test_a_fraction(counts, share, seed):
    dataset = made(counts)
    view = subset(dataset, FractionOfTrain(share=share, seed=seed))
    assert counts_of(view) == [max(1, round(count * share)) for count in counts]
    for split in ("val", "test"):
        assert paths_of(view, split) == paths_of(dataset, split)
    smaller = subset(dataset, FractionOfTrain(share=share / 2, seed=seed))
    assert paths_of(smaller, "train") <= paths_of(view, "train")


@given(COUNTS, st.integers(1, 50), st.integers(0, 3))
def test_so_many_of_each_class(counts, number, seed):
    view = subset(made(counts), PerClass(count=number, seed=seed))
    assert counts_of(view) == [min(number, count) for count in counts]
    assert paths_of(view, "train") <= paths_of(subset(made(counts), PerClass(count=number + 1, seed=seed)), "train")


@given(st.integers(2, 12), st.integers(20, 60), st.floats(1, 100), st.integers(0, 3))
def test_a_long_tail_falls_exponentially(classes, size, ratio, seed):
    view = subset(made([size] * classes), LongTailed(ratio=ratio, seed=seed))
    expected = [max(1, round(size * ratio ** (-rank / (classes - 1)))) for rank in range(classes)]
    assert sorted(counts_of(view), reverse=True) == expected


def test_which_classes_are_the_tail_depends_on_the_seed():
    tails = {int(np.argmin(counts_of(subset(made([100] * 20), LongTailed(seed=seed))))) for seed in range(5)}
    assert len(tails) > 1


def test_rows_keep_what_belongs_to_them():
    dataset = made([9, 9])
    view = subset(dataset, PerClass(count=3))
    for path, box, label in zip(view.paths, view.boxes, view.labels, strict=True):
        row = dataset.paths.index(path)
        assert (box == dataset.boxes[row]).all() and label == dataset.labels[row]


def test_seeds_differ_and_all_is_all():
    dataset = made([30, 30])
    assert subset(dataset, WholeTrain()) is dataset
    first, second = (paths_of(subset(dataset, PerClass(count=5, seed=seed)), "train") for seed in (0, 1))
    assert first != second and first == paths_of(subset(dataset, PerClass(count=5, seed=0)), "train")


def test_wrong_labels_are_in_train_alone_and_the_true_ones_are_kept():
    dataset = made([50, 50, 50, 50])
    view = mislabelled(dataset, UniformNoise(share=0.3))
    changed = view.labels != dataset.labels
    assert changed.sum() == 60 and (view.splits[changed] == "train").all()
    assert (view.true_labels == dataset.labels).all()
    assert mislabelled(dataset, TrueLabels()) is dataset


def test_wrong_labels_among_siblings():
    dataset = replace(made([50, 50, 50, 50, 50]), levels=(Level.of("genus", ["a", "a", "b", "b", "c"]),))
    view = mislabelled(dataset, Siblings(share=0.4))
    changed = np.flatnonzero(view.labels != dataset.labels)
    parents = dataset.levels[0].parents
    assert len(changed) and (parents[view.labels[changed]] == parents[dataset.labels[changed]]).all()
    assert not (dataset.labels[changed] == 4).any()
    for without, level in ((made([9, 9]), None), (dataset, "family")):
        with pytest.raises(InputError, match="no such level"):
            mislabelled(without, Siblings(level=level))
