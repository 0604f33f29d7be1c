from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.datasets.birds import folder as birds
from fieldmark.datasets.birds.species import SPECIES, UNSEEN_SPECIES
from fieldmark.datasets.layouts import read_dataset


def table(root: Path) -> list[dict[str, str]]:
    with (root / birds.TABLE).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def digest(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in root.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("birds")
    birds.write_birds(root, species=6, per_class=20, size=40, processes=1)
    return root


def test_folders_and_images(drawn: Path) -> None:
    dataset = read_dataset(drawn)
    assert dataset.class_names == tuple(sorted(species.name for species in SPECIES[:6]))
    for split, count in (("train", 14), ("val", 2), ("test", 4)):
        assert np.bincount(dataset.labels[dataset.rows(split)]).tolist() == [count] * 6
    assert len(set(digest(drawn).values())) == len(digest(drawn)), "no two images may be alike"
    with Image.open(dataset.root / dataset.paths[0]) as image:
        assert (image.size, image.mode, image.format) == ((40, 40), "RGB", "PNG")


def test_the_table_names_every_image_with_its_bird(drawn: Path) -> None:
    rows = table(drawn)
    assert sorted(row["path"] for row in rows) == sorted(str(file.relative_to(drawn)) for file in drawn.rglob("*.png"))
    genera = {species.name: species.genus for species in (*SPECIES, *UNSEEN_SPECIES)}
    splits, plumages = defaultdict(set), defaultdict(set)
    for row in rows:
        assert row["path"].split("/")[:2] == [row["split"], row["species"]] and genera[row["species"]] == row["genus"]
        splits[row["individual"]].add(row["split"])
        plumages[row["individual"]].add(row["plumage"])
    assert all(len(values) == 1 for values in (*splits.values(), *plumages.values())), "a bird is in one split, in one plumage"
    counts = np.unique([row["individual"] for row in rows], return_counts=True)[1]
    assert counts.max() == birds.PER_INDIVIDUAL and len(splits) < len(rows) / 2
    assert len({row["plumage"] for row in rows}) == 3


def test_unseen_species_are_in_no_split(drawn: Path) -> None:
    seen = {row["species"] for row in table(drawn) if row["split"] != "unseen"}
    unseen = {row["species"] for row in table(drawn) if row["split"] == "unseen"}
    assert len(seen) == 6 and unseen == {"Masked Warbler", "Patch-winged Finch"}
    assert unseen.isdisjoint(read_dataset(drawn).class_names)


def test_boxes_hold_the_bird(drawn: Path) -> None:
    for row in table(drawn):
        left, top, width, height = (int(row[name]) for name in ("left", "top", "width", "height"))
        assert left >= 0 and top >= 0 and left + width <= 41 and top + height <= 41
        assert width >= 12 and height >= 8


def test_the_same_arguments_give_the_same_bytes_in_any_number_of_processes(drawn: Path, tmp_path: Path) -> None:
    for processes in (2, 3):
        birds.write_birds(tmp_path / str(processes), species=6, per_class=20, size=40, processes=processes)
        assert digest(tmp_path / str(processes)) == digest(drawn)
    birds.write_birds(tmp_path / "other", species=6, per_class=20, size=40, seed=1)
    assert set(digest(tmp_path / "other").values()).isdisjoint(set(digest(drawn).values()))


def test_more_images_do_not_change_those_there_were(drawn: Path, tmp_path: Path) -> None:
    """Birds are numbered through the splits, so only what a bird is drawn from counts: its species, its number, the seed."""
    birds.write_birds(tmp_path, species=4, per_class=20, size=40)
    assert all(digest(drawn)[path] == value for path, value in digest(tmp_path).items() if path.endswith(".png") and "unseen" not in path)


@pytest.mark.parametrize("wrong", [{"species": 1}, {"species": 19}, {"per_class": 2}, {"size": 8}])
def test_numbers_that_cannot_be(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        birds.write_birds(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in set with fewer images."""
    whole = birds.write_birds
    monkeypatch.setattr(birds, "write_birds", lambda root, *_, console=None: whole(root, species=3, per_class=4, size=32))


@pytest.mark.usefixtures("few")
def test_the_built_in_set_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    dataset = read_dataset("birds")
    assert (dataset.name, dataset.layout, len(dataset.class_names)) == ("birds", "birds", 3)
    assert [len(dataset.rows(split)) for split in ("train", "val", "test")] == [6, 3, 3]
    assert dataset.root == tmp_path / "cache" / "birds" / birds.VERSION
    assert len(dataset.notes) == 1 and os.listdir(tmp_path / "cache" / "birds") == [birds.VERSION]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("drawn a second time")

    monkeypatch.setattr(birds, "write_birds", fail)
    (tmp_path / "birds").mkdir()
    again = read_dataset("birds")
    assert again.paths == dataset.paths and any("give ./birds to read it" in note for note in again.notes)


def test_a_drawing_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, *_: object, **__: object) -> None:
        (root / "train").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(birds, "write_birds", fail)
    with pytest.raises(KeyboardInterrupt):
        birds.birds_folder(tmp_path)
    assert os.listdir(tmp_path / "birds") == []


def test_another_process_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(root: Path, *_: object, **__: object) -> None:
        (root / "ours").touch()
        theirs = root.with_name(birds.VERSION)
        theirs.mkdir()
        (theirs / "theirs").touch()

    monkeypatch.setattr(birds, "write_birds", overtaken)
    folder = birds.birds_folder(tmp_path)
    assert os.listdir(folder) == ["theirs"] and os.listdir(tmp_path / "birds") == [birds.VERSION]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be written"):
        birds.birds_folder(tmp_path)
