from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from fieldmark.core import randomness
from fieldmark.core.errors import InputError
from fieldmark.data import birds
from fieldmark.data.layouts import read_dataset

WARBLER, FINCH = birds.GENERA[:2]


def drawings(genus: birds.Genus, mark: str, keys: range, size: int = 32) -> np.ndarray:
    return np.stack([np.asarray(birds.draw_bird(genus, mark, size, randomness.key(key, mark))) for key in keys])


def test_folder_and_pictures(tmp_path: Path) -> None:
    birds.write_birds(tmp_path, species=4, per_class=10, size=40)
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("Capped Warbler", "Eye-ringed Warbler", "Wing-barred Finch", "Wing-barred Warbler")
    assert np.bincount(dataset.labels[dataset.rows("train")]).tolist() == [8] * 4
    assert np.bincount(dataset.labels[dataset.rows("test")]).tolist() == [2] * 4
    contents = {dataset.file(row).read_bytes() for row in range(len(dataset))}
    assert len(contents) == len(dataset), "no two pictures may be alike"
    with Image.open(dataset.file(0)) as image:
        assert (image.size, image.mode, image.format) == ((40, 40), "RGB", "PNG")


def test_same_arguments_same_pixels() -> None:
    assert (drawings(WARBLER, "Capped", range(3)) == drawings(WARBLER, "Capped", range(3))).all()
    assert not (drawings(WARBLER, "Capped", range(1)) == drawings(WARBLER, "Capped", range(1, 2))).all()


def test_species_of_a_genus_differ_by_the_mark_alone() -> None:
    def drawing(mark: str) -> np.ndarray:
        return np.asarray(birds.draw_bird(WARBLER, mark, 96, 5), np.int16)

    for mark in birds.MARKS:
        for other in birds.MARKS:
            changed = (np.abs(drawing(mark) - drawing(other)).max(-1) > 24).mean()
            assert changed == 0 if mark == other else 0.001 < changed < 0.06


def test_genera_are_easy_and_species_are_not() -> None:
    def accuracy(groups: list[tuple[birds.Genus, str]]) -> float:
        """Of a linear classifier on mean colours, which see the genus but hardly the mark."""
        features = np.concatenate([drawings(genus, mark, range(60))[:, 8:24, 8:24].mean((1, 2)) for genus, mark in groups]) / 255
        labels = np.repeat(np.arange(len(groups)), 60)
        even = np.arange(len(labels)) % 2 == 0
        return float(LogisticRegression(C=1000).fit(features[even], labels[even]).score(features[~even], labels[~even]))

    assert accuracy([(WARBLER, "Capped"), (FINCH, "Capped")]) > 0.8
    assert accuracy([(WARBLER, "Eye-ringed"), (WARBLER, "Streaked")]) < 0.8


def test_all_species_can_be_drawn(tmp_path: Path) -> None:
    birds.write_birds(tmp_path, species=len(birds.SPECIES), per_class=2, size=16)
    dataset = read_dataset(tmp_path)
    assert len(dataset.class_names) == 24 and len(dataset.rows("test")) == len(dataset.rows("train")) == 24


@pytest.mark.parametrize("wrong", [{"species": 1}, {"species": 25}, {"per_class": 1}, {"size": 8}])
def test_numbers_that_cannot_be(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        birds.write_birds(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_built_in_set_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    dataset = read_dataset("birds")
    assert (dataset.name, dataset.layout, len(dataset.class_names)) == ("birds", "birds", 6)
    assert (len(dataset.rows("train")), len(dataset.rows("test"))) == (192, 48)
    assert dataset.root == tmp_path / "cache" / "birds" / birds.VERSION
    assert len(dataset.notes) == 1 and os.listdir(tmp_path / "cache" / "birds") == [birds.VERSION]

    def fail(*_: object) -> None:
        raise AssertionError("drawn a second time")

    monkeypatch.setattr(birds, "write_birds", fail)
    (tmp_path / "birds").mkdir()
    again = read_dataset("birds")
    assert again.paths == dataset.paths and any("give ./birds to read it" in note for note in again.notes)


def test_a_drawing_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        (root / "train").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(birds, "write_birds", fail)
    with pytest.raises(KeyboardInterrupt):
        birds.birds_folder(tmp_path)
    assert os.listdir(tmp_path / "birds") == []


def test_another_process_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(root: Path) -> None:
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
