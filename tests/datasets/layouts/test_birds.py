from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.birds import folder as birds
from fieldmark.datasets.layouts import LAYOUTS, read_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "garden"
    birds.write_birds(root, species=6, per_class=5, size=32, processes=1)
    return root


def test_a_folder_that_was_drawn(drawn: Path) -> None:
    dataset = read_dataset(drawn)
    assert (dataset.name, dataset.layout, dataset.root) == ("garden", "birds", drawn)
    assert dataset.notes[0] == "recognised as the built-in birds by birds.csv and train"
    assert any("are left out: unseen (2)" in note for note in dataset.notes)
    folders = read_dataset(drawn, "class-folders")
    assert dataset.class_names == folders.class_names and dataset.paths == folders.paths
    assert (dataset.labels == folders.labels).all() and (dataset.splits == folders.splits).all()

    with (drawn / birds.TABLE).open(encoding="utf-8", newline="") as stream:
        table = {row["path"]: row for row in csv.DictReader(stream)}
    (genus,) = dataset.levels
    assert genus.name == "genus" and dataset.boxes is not None and dataset.groups is not None
    individuals: dict[int, set[str]] = {}
    for row, path in enumerate(dataset.paths):
        line = table[path]
        assert genus.of_classes()[dataset.labels[row]] == line["genus"]
        left, top, width, height = (int(line[side]) for side in ("left", "top", "width", "height"))
        assert dataset.boxes[row].tolist() == [left, top, left + width, top + height]
        individuals.setdefault(int(dataset.groups[row]), set()).add(line["individual"])
    assert all(len(names) == 1 for names in individuals.values()) and min(individuals) >= 0
    assert len(individuals) == len({table[path]["individual"] for path in dataset.paths})


def test_the_word_birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: Path) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn, tmp_path / "cache" / "birds" / birds.VERSION)
    for layout in ("auto", "birds"):
        dataset = read_dataset("birds", layout)
        assert (dataset.name, dataset.layout) == ("birds", "birds")
        assert dataset.notes == ("the built-in birds, drawn by Fieldmark",)
        assert dataset.boxes is not None and not np.isnan(dataset.boxes).any() and [level.name for level in dataset.levels] == ["genus"]
    shutil.copytree(drawn, tmp_path / "birds")
    assert read_dataset("birds").notes[1] == "the folder birds in the current directory was not read; give ./birds to read it"
    assert read_dataset("./birds").root == tmp_path / "birds"


def test_the_images_can_be_opened_later(drawn: Path) -> None:
    dataset = read_dataset(drawn)
    assert LAYOUTS["birds"].images(dataset.root).read(dataset.paths[0]) == (drawn / dataset.paths[0]).read_bytes()


@pytest.mark.parametrize("change", ["header", "no table"])
def test_a_folder_that_is_not_quite_one(tmp_path: Path, drawn: Path, change: str) -> None:
    data = tmp_path / "garden"
    shutil.copytree(drawn, data)
    table = data / birds.TABLE
    if change == "header":
        table.write_text(table.read_text().replace("plumage", "sex", 1))
    else:
        table.unlink()
    with pytest.raises(InputError, match="the layout birds is the built-in set, and DATA is") as caught:
        read_dataset(data, "birds")
    assert "leave data.layout out" in str(caught.value)
    if change == "no table":
        assert read_dataset(data).layout == "class-folders"


def test_a_table_that_was_damaged(tmp_path: Path, drawn: Path) -> None:
    data = tmp_path / "garden"
    shutil.copytree(drawn, data)
    lines = (data / birds.TABLE).read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ",tall"
    lines[5] = lines[2]
    (data / birds.TABLE).write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        read_dataset(data)
    assert "birds.csv, line 4: the box" in str(caught.value) and "birds.csv, line 6: the image" in str(caught.value)
