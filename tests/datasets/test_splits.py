from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.images import Files
from fieldmark.datasets.splits import Folds, SplitRow, carve, own_splits, split_row, split_table, straddling


def dataset_of(counts: list[int], **others: list[int]) -> Dataset:
    """`counts[c]` images of class c in train; other splits by keyword."""
    rows = [
        (f"{split}/{label}/{number}.jpg", label, split)
        for split, per_class in {"train": counts, **others}.items()
        for label, count in enumerate(per_class)
        for number in range(count)
    ]
    rows.sort()
    return Dataset(
        name="made",
        root=Path("made"),
        layout="class-folders",
        class_names=tuple(f"class {label}" for label in range(len(counts))),
        paths=tuple(path for path, _, _ in rows),
        labels=np.array([label for _, label, _ in rows], np.int32),
        splits=np.array([split for _, _, split in rows], "<U5"),
        images=Files(Path("made")),
    )


def counts_of(dataset: Dataset, split: str) -> np.ndarray:
    return np.bincount(dataset.labels[dataset.rows(split)], minlength=len(dataset.class_names))


def paths_of(dataset: Dataset, split: str) -> set[str]:
    return {dataset.paths[row] for row in dataset.rows(split)}


def test_both_are_carved_from_flat_data() -> None:
    dataset = dataset_of([40, 40, 20])
    carved = carve(dataset, 0.1, 0.15, 0)
    assert counts_of(carved.dataset, "test").tolist() == [6, 6, 3]
    assert len(carved.dataset.rows("val")) == 9 and counts_of(carved.dataset, "val").min() >= 1
    assert carved.sources == {
        "train": "the rest",
        "val": "10 % of the remaining train, stratified, seed 0",
        "test": "15 % of all, stratified, seed 0",
    }
    assert set(dataset.splits) == {"train"}, "the dataset that was given must stay as it is"


def test_own_splits_are_never_touched() -> None:
    dataset = dataset_of([20, 20], val=[5, 3], test=[4, 4])
    carved = carve(dataset, 0.1, 0.15, 0)
    assert (carved.dataset.splits == dataset.splits).all() and set(carved.sources.values()) == {"from the data"}

    dataset = dataset_of([20, 20], test=[4, 4])
    carved = carve(dataset, 0.1, 0.15, 0)
    assert paths_of(carved.dataset, "test") == paths_of(dataset, "test")
    assert counts_of(carved.dataset, "val").tolist() == [2, 2]
    assert carved.sources["val"] == "10 % of train, stratified, seed 0" and carved.sources["test"] == "from the data"

    dataset = dataset_of([20, 20], val=[5, 5])
    carved = carve(dataset, 0.1, 0.15, 3)
    assert paths_of(carved.dataset, "val") == paths_of(dataset, "val")
    assert counts_of(carved.dataset, "test").tolist() == [3, 3]
    assert carved.sources == {"train": "the rest", "val": "from the data", "test": "15 % of train, stratified, seed 3"}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=30),
    st.floats(0.02, 0.9),
    st.integers(0, 5),
)
def test_shares_are_the_largest_remainder(counts: list[int], fraction: float, seed: int) -> None:
    if not sum(counts):
        return
    dataset = dataset_of(counts, val=[1] * len(counts))
    try:
        drawn = counts_of(carve(dataset, 0.1, fraction, seed).dataset, "test")
    except InputError:
        assert sum(counts) * fraction < 0.5 or max(counts) == 1
        return
    quotas = fraction * np.array(counts)
    most = np.maximum(np.array(counts) - 1, 0)
    assert (drawn <= most).all()
    assert (drawn >= np.minimum(np.floor(quotas - 1e-6), most)).all() and (drawn <= np.ceil(quotas + 1e-6)).all()
    reachable = int(np.minimum(np.ceil(np.round(quotas, 9)), most).sum())
    assert drawn.sum() == pytest.approx(min(fraction * sum(counts), reachable), abs=0.5 + 1e-6)
    up = (drawn > np.floor(quotas + 1e-6)) & (drawn < most)
    down = (drawn < quotas - 1e-6) & (drawn < most)
    if up.any() and down.any():
        remainders = quotas - np.floor(quotas + 1e-6)
        assert remainders[up].min() >= remainders[down].max() - 1e-6


def test_as_even_as_scikit_learn() -> None:
    counts = np.random.default_rng(0).integers(10, 120, 50)
    dataset = dataset_of(counts.tolist(), val=[1] * 50)
    rows = dataset.rows("train")
    drawn = counts_of(carve(dataset, 0.1, 0.15, 0).dataset, "test")
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=int(drawn.sum()), random_state=0)
    theirs = dataset.labels[rows][next(splitter.split(rows, dataset.labels[rows]))[1]]
    assert np.abs(drawn - np.bincount(theirs, minlength=50)).max() <= 1


def test_many_small_classes_do_not_all_round_the_same_way() -> None:
    drawn = counts_of(carve(dataset_of([5] * 200, test=[1] * 200), 0.1, 0.15, 0).dataset, "val")
    assert drawn.sum() == 100 and drawn.max() == 1
    assert 25 < drawn[:100].sum() < 75, "which classes give one must not follow their order"


def test_single_images_stay_in_train() -> None:
    dataset = carve(dataset_of([1, 1, 2, 30, 30]), 0.4, 0.4, 0).dataset
    assert counts_of(dataset, "train").min() >= 1
    for split in ("val", "test"):
        assert counts_of(dataset, split)[:2].tolist() == [0, 0]


def test_splits_depend_on_seed_and_paths_alone() -> None:
    dataset = dataset_of([30, 30, 17])
    first = carve(dataset, 0.1, 0.15, 0).dataset
    shuffled = np.random.default_rng(1).permutation(len(dataset))
    other_order = replace(
        dataset,
        paths=tuple(dataset.paths[row] for row in shuffled),
        labels=dataset.labels[shuffled],
        splits=dataset.splits[shuffled],
        root=Path("elsewhere"),
    )
    again, other_seed = carve(other_order, 0.1, 0.15, 0).dataset, carve(dataset, 0.1, 0.15, 1).dataset
    for split in ("train", "val", "test"):
        assert paths_of(first, split) == paths_of(again, split)
        assert paths_of(first, split) != paths_of(other_seed, split)


def test_splits_are_alike_on_every_machine() -> None:
    dataset = carve(dataset_of([8, 8]), 0.2, 0.25, 0).dataset
    assert paths_of(dataset, "test") == {"train/0/2.jpg", "train/0/3.jpg", "train/1/6.jpg", "train/1/7.jpg"}


def test_an_added_class_leaves_the_others_as_they_were() -> None:
    small, large = (carve(dataset_of(counts), 0.2, 0.25, 0).dataset for counts in ([8, 8], [8, 8, 8]))
    assert paths_of(small, "test") <= paths_of(large, "test")


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 1], [2, 2]])
def test_data_too_small_to_split(counts: list[int]) -> None:
    with pytest.raises(InputError) as caught:
        carve(dataset_of(counts), 0.1, 0.15, 0)
    assert "is too small" in str(caught.value) and "Add images, raise data." in str(caught.value)


def test_val_too_small_beside_a_test() -> None:
    with pytest.raises(InputError, match=r"leave none for val\nAdd images, raise data\.val_fraction"):
        carve(dataset_of([2, 2], test=[9, 9]), 0.1, 0.15, 0)


def test_no_train() -> None:
    with pytest.raises(InputError, match="no images in train"):
        carve(dataset_of([0, 0], test=[3, 3]), 0.1, 0.15, 0)


def test_split_table() -> None:
    carved = carve(dataset_of([10, 30, 1], test=[2, 0, 2]), 0.1, 0.15, 7)
    assert split_table(carved) == [
        SplitRow("train", 3, 37, ("class 2", 1), ("class 1", 27), "the rest"),
        SplitRow("val", 2, 4, ("class 2", 0), ("class 1", 3), "10 % of train, stratified, seed 7"),
        SplitRow("test", 2, 4, ("class 1", 0), ("class 0", 2), "from the data"),
    ]


def test_large_data_is_carved_quickly() -> None:
    carved = carve(dataset_of([1000] * 100), 0.1, 0.15, 0).dataset
    assert [len(carved.rows(split)) for split in ("train", "val", "test")] == [76_500, 8_500, 15_000]


def grouped(counts: list[int], sizes: list[int], seed: int, mixed: bool = False) -> Dataset:
    """Train images in groups of the sizes in turn; with `mixed` a group may span classes."""
    dataset = dataset_of(counts)
    random = np.random.default_rng(seed)
    order = random.permutation(len(dataset)) if mixed else np.arange(len(dataset))
    groups = np.full(len(dataset), -1, np.int32)
    start, number = 0, 0
    while start < len(order):
        size = sizes[number % len(sizes)]
        part = order[start : start + size]
        part = part if mixed else part[dataset.labels[part] == dataset.labels[part[0]]]
        groups[part] = number if len(part) > 1 or number % 2 else -1
        start, number = start + len(part), number + 1
    return replace(dataset, groups=groups)


def test_groups_that_straddle_have_images_in_several_splits() -> None:
    groups, splits = np.array([7, 7, 5, 5, 3, -1, -1, 9]), np.array(["train", "test", "val", "val", "test", "train", "test", "val"])
    assert straddling(groups, splits).tolist() == [7]
    assert straddling(np.append(groups, 3), np.append(splits, "val")).tolist() == [3, 7]
    assert not len(straddling(groups[:0], splits[:0]))


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=8),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([None, 2, 5]),
)
def test_groups_never_straddle(counts, sizes, mixed, seed, folds) -> None:
    dataset = grouped(counts, sizes, seed, mixed)
    try:
        carved = carve(dataset, 0.2, 0.2, seed, None if folds is None else Folds(folds, 0)).dataset
    except InputError as error:
        assert "is too small" in str(error)
        return
    for group in np.unique(dataset.groups[dataset.groups >= 0]):
        assert len(set(carved.splits[dataset.groups == group])) == 1
    assert carved.groups is not None and not len(straddling(carved.groups, carved.splits))
    if not mixed:
        assert counts_of(carved, "train").min() >= 1
        if folds is None:
            test = counts_of(carved, "test")
            assert (np.abs(test - 0.2 * np.array(counts)) <= max(sizes) / 2 + 1).all() or max(sizes) * 2 > min(counts)


def test_groups_come_near_to_the_fraction() -> None:
    carved = carve(grouped([120] * 10, [1, 2, 3, 4], 0), 0.1, 0.15, 0)
    assert counts_of(carved.dataset, "test").sum() == pytest.approx(180, abs=10)
    assert "whole groups" in carved.sources["test"]


@given(
    st.lists(st.integers(2, 30), min_size=2, max_size=6),
    st.lists(st.integers(0, 25), min_size=20, max_size=200),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([None, 2, 5]),
)
def test_copies_are_in_one_split_whatever_their_groups_and_classes(counts, images, across, in_groups, seed, folds) -> None:
    """Images are few against files, so that most are copies, of their own class or of any."""
    dataset = grouped(counts, [1, 2, 3], seed, across) if in_groups else dataset_of(counts)
    hashes = [
        f"{images[row % len(images)]}" + ("" if across else f" of {label}") if row % 7 else ""
        for row, label in enumerate(dataset.labels.tolist())
    ]
    try:
        carved = carve(dataset, 0.2, 0.2, seed, None if folds is None else Folds(folds, 0), hashes).dataset
    except InputError as error:
        assert "is too small" in str(error)
        return
    for each in set(hashes) - {""}:
        alike = [row for row, digest in enumerate(hashes) if digest == each]
        assert len(set(carved.splits[alike])) == 1
        if len(set(dataset.labels[alike])) > 1:
            assert set(carved.splits[alike]) == {"train"}
    if in_groups:
        assert not len(straddling(dataset.groups, carved.splits))
    if not (in_groups and across):
        assert counts_of(carved, "train").min() >= 1


@pytest.mark.parametrize("folds", [None, Folds(3, 1)])
@pytest.mark.parametrize("in_groups", [False, True])
def test_without_copies_hashes_change_nothing(folds: Folds | None, in_groups: bool) -> None:
    dataset = grouped([40, 30, 7, 1], [1, 2, 3], 0) if in_groups else dataset_of([40, 30, 7, 1])
    one, other = (carve(dataset, 0.1, 0.15, 5, folds, hashes) for hashes in (None, [*dataset.paths[:-2], "", ""]))
    assert (one.dataset.splits == other.dataset.splits).all() and one.sources == other.sources


def test_copies_count_as_one_image() -> None:
    """Twelve images, each five times: the splits are those of twelve images, each with its copies."""
    dataset = dataset_of([20, 20, 20])
    hashes = [f"{path.split('/')[1]}/{int(path.split('/')[2][:-4]) % 4}" for path in dataset.paths]
    carved = carve(dataset, 0.1, 0.15, 0, hashes=hashes)
    assert [len(carved.dataset.rows(split)) for split in ("train", "val", "test")] == [45, 5, 10]
    assert carved.sources["test"] == "15 % of all, stratified, copies together, seed 0"
    assert carved.is_drawn


def test_published_splits_stay_though_copies_are_in_several() -> None:
    dataset = dataset_of([20, 20], val=[5, 5], test=[5, 5])
    carved = carve(dataset, 0.1, 0.15, 0, hashes=["same"] * len(dataset))
    assert (carved.dataset.splits == dataset.splits).all() and not carved.is_drawn


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.integers(2, 6), st.integers(0, 3))
def test_folds_partition_train_evenly(counts, folds, seed) -> None:
    dataset = dataset_of(counts, test=[1] * len(counts))
    vals = []
    for chosen in range(folds):
        try:
            carved = carve(dataset, 0.1, 0.15, seed, Folds(folds, chosen))
        except InputError as error:
            assert "is too small" in str(error)
            vals.append(set())
            continue
        assert counts_of(carved.dataset, "train").min() >= 1
        assert carved.sources["val"] == f"fold {chosen} of {folds} of train, stratified, seed {seed}"
        vals.append(paths_of(carved.dataset, "val"))
    assert sum(map(len, vals)) == len(set().union(*vals)) == sum(count for count in counts if count > 1)
    for label, count in enumerate(counts):
        of_class = [sum(path.startswith(f"train/{label}/") for path in val) for val in vals]
        assert max(of_class) - min(of_class) <= (1 if count > 1 else 0)
    assert max(map(len, vals)) - min(map(len, vals)) <= 1


def test_folds_need_data_without_a_val() -> None:
    with pytest.raises(InputError, match=r"has a val.*\ndata\.splits=own"):
        carve(dataset_of([9, 9], val=[1, 1]), 0.1, 0.15, 0, Folds(3, 0))


def test_all_images_can_be_split_anew() -> None:
    dataset = dataset_of([20, 20], val=[5, 5], test=[15, 15])
    carved = carve(own_splits(dataset), 0.25, 0.5, 0)
    assert [len(carved.dataset.rows(split)) for split in ("train", "val", "test")] == [30, 10, 40]
    assert len({path.partition("/")[0] for path in paths_of(carved.dataset, "test")}) == 3
    assert "of all" in carved.sources["test"]


def test_unlabelled_images_are_left_alone() -> None:
    dataset = dataset_of([20, 20], test=[4, 4])
    splits = np.where(dataset.splits == "test", UNLABELLED, dataset.splits)
    dataset = replace(dataset, splits=splits, labels=np.where(splits == UNLABELLED, -1, dataset.labels))
    for given_dataset in (dataset, own_splits(dataset)):
        carved = carve(given_dataset, 0.1, 0.15, 0).dataset
        assert paths_of(carved, UNLABELLED) == paths_of(dataset, UNLABELLED)
        assert [len(carved.rows(split)) for split in ("train", "val", "test")] == [31, 3, 6]


def test_the_split_table_counts_groups_and_images_alone() -> None:
    row = split_row("train", np.array([0, 0, 1, 1, 1]), ["a", "b"], groups=np.array([4, 4, 7, -1, -1]))
    assert (row.images, row.groups) == (5, 4)
    assert split_row("train", np.array([0, 1]), ["a", "b"]).groups is None
