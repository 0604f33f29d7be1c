from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.data import Data
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import LAYOUTS, read_dataset

CARS = Path(__file__).parents[3].parent / "shared" / "data" / "cars"


def make(root: Path, *files: str, folders: Iterable[str] = ()) -> Path:
    """Empty files stand for images: a layout reader opens none."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def table(dataset: Dataset) -> list[tuple[str, str, str]]:
    """(path, class name, split) of every row."""
    rows = zip(dataset.paths, dataset.labels, dataset.splits, strict=True)
    return [(path, dataset.class_names[label], str(split)) for path, label, split in rows]


def error_of(data: str | Path, layout: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, layout)
    return str(caught.value)


def test_flat_folders_are_all_train(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "pets", "b/2.jpg", "a/1.png", "b/1.JPEG"))
    assert table(dataset) == [("a/1.png", "a", "train"), ("b/1.JPEG", "b", "train"), ("b/2.jpg", "b", "train")]
    assert (dataset.name, dataset.root, dataset.layout) == ("pets", tmp_path / "pets", "class-folders")
    assert dataset.labels.dtype == np.int32 and dataset.splits.dtype == np.dtype("<U5")
    assert (dataset.root / dataset.paths[0]) == tmp_path / "pets" / "a" / "1.png" and len(dataset) == 3
    assert dataset.rows("train").dtype == np.int64 and dataset.rows("train").tolist() == [0, 1, 2] and not len(dataset.rows("val"))
    assert any("without splits" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "names",
    [("train", "test"), ("train", "val"), ("train", "val", "test"), ("Training", "VALID", "Testing"), ("TRAIN", "Validation", "tEST")],
)
def test_splits_are_recognised_by_their_common_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    dataset = read_dataset(make(tmp_path, *(f"{name}/{label}/1.jpg" for name in names for label in "ab")))
    expected = {"tr": "train", "va": "val", "te": "test"}
    assert table(dataset) == sorted((f"{name}/{label}/1.jpg", label, expected[name[:2].lower()]) for name in names for label in "ab")
    assert dataset.notes == (f"read as class folders in splits: {', '.join(names)}",)


def test_classes_are_matched_by_name_when_some_are_missing(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "test/c/1.jpg", folders=["test/b"]))
    assert dataset.class_names == ("a", "b", "c")
    assert table(dataset)[0] == ("test/c/1.jpg", "c", "test")


def test_unknown_classes_are_all_named(tmp_path: Path) -> None:
    files = ["train/Robin/1.jpg", "train/Wren/1.jpg", "val/robin/1.jpg", "val/Wren/1.jpg", "test/Owl/1.jpg", "test/Zebra/1.jpg"]
    message = error_of(make(tmp_path, *files))
    assert "val has a class that train lacks: 'robin' (train has 'Robin')" in message
    assert "test has 2 classes that train lacks: 'Owl', 'Zebra'" in message
    assert "'Wren'" not in message


def test_hidden_names_are_ignored_and_other_files_noted(tmp_path: Path) -> None:
    files = ["a/1.jpg", "b/1.jpg", ".git/x.jpg", "a/.hidden.jpg", "a/._1.jpg", "a/.thumbs/1.jpg", ".DS_Store"]
    dataset = read_dataset(make(tmp_path, *files, "a/notes.txt", "b/data.csv", "readme.md", "b/jpg", "loose.png"))
    assert dataset.paths == ("a/1.jpg", "b/1.jpg") and dataset.class_names == ("a", "b")
    assert "passed over files that are not images: 4 (first: a/notes.txt)" in dataset.notes
    assert "passed over images outside any class folder: 1 (first: loose.png)" in dataset.notes


def test_loose_images_in_splits_are_noted_once(tmp_path: Path) -> None:
    files = ["train/a/1.jpg", "train/b/1.jpg", "train/x.jpg", "train/x.txt", "test/y.jpg", "z.jpg", "extra/a/1.jpg"]
    dataset = read_dataset(make(tmp_path, *files))
    notes = dataset.notes
    assert "passed over images outside any class folder: 2 (first: train/x.jpg)" in notes
    assert "passed over files that are not images: 1 (first: train/x.txt)" in notes
    assert "passed over beside train, test: extra" in notes
    assert "test holds images and no class folders: they are unlabelled" in notes
    assert [dataset.paths[row] for row in dataset.rows("unlabelled")] == ["test/y.jpg"] and dataset.labels[0] == -1


def test_an_empty_or_mixed_test_counts_as_missing(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/y.jpg", folders=["test/a"]))
    assert "test has no images in class folders and counts as missing" in dataset.notes and len(dataset) == 2


def test_images_deep_inside_belong_to_the_class(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "a/x/y/z/1.jpg", "a/x/1.jpg", "b/1.jpg"))
    assert table(dataset) == [("a/x/1.jpg", "a", "train"), ("a/x/y/z/1.jpg", "a", "train"), ("b/1.jpg", "b", "train")]


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "train/1.jpg", "bus/1.jpg", "car/1.jpg"))
    assert dataset.class_names == ("bus", "car", "train") and set(dataset.splits) == {"train"}
    assert any(note.startswith("train: read as a class") for note in dataset.notes)


def test_classes_inside_splits_may_be_called_like_splits(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "train/train/1.jpg", "train/test/1.jpg", "test/test/1.jpg"))
    assert table(dataset)[0] == ("test/test/1.jpg", "test", "test") and dataset.class_names == ("test", "train")


def test_unlabelled_splits_do_not_become_classes(tmp_path: Path) -> None:
    message = error_of(make(tmp_path, "train/1.jpg", "test/2.jpg"))
    assert "no class folders with images; 1 image lies outside any class folder" in message


@pytest.mark.parametrize("pair", [("val", "valid"), ("train", "Training"), ("test", "testing")])
def test_two_names_for_one_split(tmp_path: Path, pair: tuple[str, str]) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", *(f"{name}/{label}/1.jpg" for name in pair for label in "ab"))
    message = error_of(tmp_path)
    assert "two names for one split" in message and all(name in message for name in pair)


def test_splits_without_train(tmp_path: Path) -> None:
    assert "but no train" in error_of(make(tmp_path, "val/a/1.jpg", "val/b/1.jpg", "test/a/1.jpg"))


def test_empty_classes_are_all_named(tmp_path: Path) -> None:
    message = error_of(make(tmp_path, "train/a/1.jpg", "train/b/notes.txt", "test/x/1.jpg", folders=["train/c", "train/d/.e"]))
    for name in "bcd":
        assert f"class folder train/{name} has no images; add some, or move it elsewhere" in message
    assert "train/a " not in message and "'x'" in message


def test_one_class_only(tmp_path: Path) -> None:
    message = error_of(make(tmp_path, "train/a/1.jpg", "test/a/1.jpg"))
    assert "one class only (a): a classifier needs at least two classes" in message


def test_a_folder_above_the_splits_is_recognised(tmp_path: Path) -> None:
    message = error_of(make(tmp_path, "cars/train/a/1.jpg", "cars/train/b/1.jpg"))
    assert "at least two classes" in message and f"give {tmp_path / 'cars'}." in message
    assert f"\n  fieldmark train {tmp_path / 'cars'}" in message


@pytest.mark.parametrize("files", [(), ("a/notes.txt", "b/x.csv"), ("notes.txt",)])
def test_no_images(tmp_path: Path, files: tuple[str, ...]) -> None:
    message = error_of(make(tmp_path, *files, folders=["a", "b"]))
    assert f"there are no images in {tmp_path}" in message and ".jpg" in message


def test_only_loose_images(tmp_path: Path) -> None:
    assert "3 images lie outside" in error_of(make(tmp_path, "1.jpg", "2.jpg", "3.png"))


def test_missing_folder_suggests_the_nearest(tmp_path: Path) -> None:
    make(tmp_path, "photos/Garden Birds/a/1.jpg")
    assert f"Did you mean '{tmp_path}/photos/Garden Birds'?" in error_of(tmp_path / "photo" / "Garden Birds")
    assert f"Did you mean '{tmp_path}/photos/Garden Birds'?" in error_of(tmp_path / "photos" / "garden_birds")
    assert f"{tmp_path / 'photos'} exists and holds Garden Birds." in error_of(tmp_path / "photos" / "xyz")


def test_what_is_not_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "images.zip")
    assert "is a file, not a folder" in error_of(tmp_path / "a" / "1.jpg")
    assert "Unpack it" in error_of(tmp_path / "images.zip")
    assert "there is no file or folder" in error_of(tmp_path / "a" / "1.jpg" / "deeper")
    assert "there is no file or folder" in error_of(tmp_path / ("x" * 300))
    assert "DATA is empty" in error_of("")
    assert "not a path" in error_of("a\0b")


def test_relative_path_and_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "pets", "a/1.jpg", "b/1.jpg")
    monkeypatch.chdir(tmp_path / "pets")
    for data in (".", "../pets", "./"):
        dataset = read_dataset(data)
        assert dataset.name == "pets" and dataset.root.is_absolute() and (dataset.root / dataset.paths[0]).is_file()


def test_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "store", "owl/1.jpg", "one.jpg")
    root = make(tmp_path / "data", "wren/1.jpg")
    (root / "owl").symlink_to(tmp_path / "store" / "owl")
    (root / "wren" / "linked.jpg").symlink_to(tmp_path / "store" / "one.jpg")
    assert read_dataset(root).paths == ("owl/1.jpg", "wren/1.jpg", "wren/linked.jpg")


def test_loops_end_and_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "train/a/x/1.jpg", "train/b/1.jpg")
    for link, target in [("a/itself", "."), ("a/x/up", "../.."), ("a/y", "x"), ("a/z", "/"), ("b/home", str(tmp_path)), ("up", "..")]:
        (root / "train" / link).symlink_to(target)
    dataset = read_dataset(root)
    assert dataset.paths == ("train/a/x/1.jpg", "train/b/1.jpg") and dataset.class_names == ("a", "b")
    assert "passed over links that lead back to a folder already read: 6 (first: train/a/itself)" in dataset.notes


def test_loops_through_linked_splits_and_classes_end(tmp_path: Path) -> None:
    make(tmp_path, "splits/train/b/1.jpg", "classes/a/1.jpg", "classes/z.jpg", folders=["data"])
    for link, target in [
        ("data/train", "splits/train"),
        ("splits/train/a", "classes/a"),
        ("classes/a/s", "splits"),
        ("classes/a/c", "classes"),
    ]:
        (tmp_path / link).symlink_to(tmp_path / target)
    dataset = read_dataset(tmp_path / "data")
    assert dataset.paths == ("train/a/1.jpg", "train/b/1.jpg")
    assert "passed over links that lead back to a folder already read: 2 (first: train/a/c)" in dataset.notes


def test_many_links_among_folders_of_a_class_end(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"a/{number}/1.jpg" for number in range(12)), "b/1.jpg")
    for one in range(12):
        for other in range(12):
            (root / "a" / str(one) / f"to{other}").symlink_to(f"../{other}")
    assert len(read_dataset(root)) == 13


def test_dead_links_and_special_files_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path, "a/1.jpg", "b/1.jpg")
    (root / "a" / "dead.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(root / "b" / "pipe.jpg")
    dataset = read_dataset(root)
    assert dataset.paths == ("a/1.jpg", "b/1.jpg")
    assert "passed over links that lead nowhere: 2 (first: a/dead.jpg)" in dataset.notes
    assert "passed over files that are not images: 1 (first: b/pipe.jpg)" in dataset.notes


def test_test_may_not_be_train_by_a_link(tmp_path: Path) -> None:
    root = make(tmp_path / "whole", "train/a/1.jpg", "train/b/1.jpg")
    (root / "test").symlink_to("train")
    assert "train and test are one and the same folder: test needs images of its own" in error_of(root)
    root = make(tmp_path / "part", "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg")
    (root / "test" / "b").symlink_to("../train/b")
    assert "train/b and test/b are one and the same folder: its images cannot be in train and in test" in error_of(root)


def test_one_folder_in_two_classes(tmp_path: Path) -> None:
    root = make(tmp_path, "a/1.jpg", "b/1.jpg")
    (root / "c").symlink_to("a")
    assert "a and c are one and the same folder: its images cannot be in two classes" in error_of(root)


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A folder that anyone may enter, seen by someone whom permissions bind even where a superuser runs the tests."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        superuser = os.geteuid() == 0
        if superuser:
            os.chown(root, 65534, -1)
            os.seteuid(65534)
        try:
            yield root
        finally:
            if superuser:
                os.seteuid(0)
            for path in root.rglob("*"):
                path.chmod(0o755)


def test_unreadable_folders_are_all_named() -> None:
    with open_to_all() as root:
        make(root, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "test/a/deep/1.jpg", "locked/x/1.jpg", folders=["train/empty"])
        (root / "train" / "d").symlink_to("../locked/x")
        for folder in ("train/b", "test/a/deep", "locked"):
            (root / folder).chmod(0)
        message = error_of(root)
        for folder in ("train/b", "train/d", "test/a/deep"):
            assert f"{root / folder} cannot be read (Permission denied); make it readable, or move it away" in message
        assert "class folder train/empty has no images" in message and "class folder train/b" not in message


@pytest.mark.parametrize(("locked", "mode"), [("data", 0), ("", 0), ("data", 0o444)])
def test_unreadable_root(locked: str, mode: int) -> None:
    with open_to_all() as root:
        make(root / "outer" / "data", "a/1.jpg", "b/1.jpg")
        (root / "outer" / locked).chmod(mode)
        message = error_of(root / "outer" / "data")
        assert f"{root / 'outer' / 'data'}" in message and "cannot be read (Permission denied)" in message


def test_awkward_names_survive(tmp_path: Path) -> None:
    names = ["Audi S4 Sedan 2007", "St. John's wort", "v1.0.jpg", "鳥", "ÉTÉ", "🐦", "a,b;c", "back\\slash", "line\nbreak", " blank "]
    dataset = read_dataset(make(tmp_path, *(f"{split}/{name}/ü 1.x.JPG" for name in names for split in ("train", "test"))))
    assert dataset.class_names == tuple(sorted(names))
    assert {(path.split("/")[1], label) for path, label, _ in table(dataset)} == {(name, name) for name in names}
    assert all((dataset.root / dataset.paths[row]).is_file() for row in range(len(dataset)))


def test_accents_match_in_either_spelling(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Bécassine") for form in ("NFC", "NFD"))
    make(tmp_path, f"train/{decomposed}/1.jpg", "train/b/1.jpg", f"test/{composed}/1.jpg")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == (decomposed, "b") and table(dataset)[0][1:] == (decomposed, "test")
    make(tmp_path, f"train/{composed}/1.jpg")
    if len(os.listdir(tmp_path / "train")) == 3:
        assert "two Unicode spellings" in error_of(tmp_path)


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    with open(os.fsencode(tmp_path) + b"/a/\xff.jpg", "w"):
        pass
    os.mkdir(os.fsencode(tmp_path) + b"/b/\xfe")
    with open(os.fsencode(tmp_path) + b"/b/\xfe/1.jpg", "w"):
        pass
    dataset = read_dataset(tmp_path)
    assert dataset.paths == ("a/1.jpg", "b/1.jpg")
    assert r"passed over images whose names are not valid Unicode: 2 (first: a/\xff.jpg)" in dataset.notes
    os.mkdir(os.fsencode(tmp_path) + b"/\xfd")
    assert r"the name of the class folder \xfd is not valid Unicode; rename the folder" in error_of(tmp_path)


def test_layout_overrides_the_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "birds", "a/1.jpg", "b/1.jpg")
    monkeypatch.chdir(tmp_path)
    for data, layout in [("birds", "class-folders"), ("./birds", "auto"), (Path("birds").absolute(), "auto")]:
        assert read_dataset(data, layout).class_names == ("a", "b")
    assert "; did you mean class-folders?" in error_of("birds", "class_folder")
    assert "the layout birds is the built-in set" in error_of(tmp_path, "birds")
    assert set(LAYOUTS) == set(get_args(Data.model_fields["layout"].annotation)) - {"auto"}


def test_unknown_split_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split called 'tset'"):
        read_dataset(make(tmp_path, "a/1.jpg", "b/1.jpg")).rows("tset")


_NAMES = st.text("ab .é鳥-", min_size=1, max_size=4).filter(lambda name: not name.startswith("."))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(_NAMES, st.sets(_NAMES, min_size=1, max_size=4), min_size=2, max_size=5))
def test_any_tree_is_read_whole(tree: dict[str, set[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = make(Path(folder), *(f"{label}/{name}.png" for label, names in tree.items() for name in names))
        before = sorted(os.walk(root))
        assert table(read_dataset(root)) == sorted((f"{label}/{name}.png", label, "train") for label in tree for name in tree[label])
        assert sorted(os.walk(root)) == before


def test_cars() -> None:
    if not CARS.is_dir():
        pytest.skip(f"the cars data set is not at {CARS}")
    dataset = read_dataset(CARS)
    assert len(dataset.class_names) == 196 and len(dataset.rows("train")) == 5702 and len(dataset.rows("test")) == 1221
    for row in range(0, len(dataset), 500):
        path = Path(dataset.paths[row])
        assert (path.parts[0], path.parts[1]) == (dataset.splits[row], dataset.class_names[dataset.labels[row]])
