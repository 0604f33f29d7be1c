"""What every layout must do, on a miniature set in the exact format that it is published in."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import random
import re
from pathlib import Path
from typing import get_args

import miniatures
import numpy as np
import pytest
from miniatures import Miniature

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.data import LayoutName
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset
from fieldmark.datasets.layouts import LAYOUTS, read_dataset
from fieldmark.runtime.decode import dimensions, open_rgb

SETS = {module.name: importlib.import_module(f"miniatures.{module.name}").MINIATURE for module in pkgutil.iter_modules(miniatures.__path__)}
MUTATIONS = 1000


@pytest.fixture(params=SETS.values(), ids=SETS.keys())
def miniature(request) -> Miniature:
    return request.param


def contents(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(root.rglob("*")) if file.is_file()
    }


def annotation_files(root: Path, miniature: Miniature) -> list[Path]:
    files = sorted(file for pattern in miniature.annotations for file in root.glob(pattern) if file.is_file())
    assert files or not miniature.annotations
    return files


def counts(dataset: Dataset) -> dict[str, int]:
    return {split: len(dataset.rows(split)) for split in (*SPLITS, UNLABELLED) if len(dataset.rows(split))}


def test_every_layout_has_a_miniature() -> None:
    assert {miniature.layout for miniature in SETS.values()} | {"birds"} == set(LAYOUTS)


def test_every_layout_is_listed_under_its_own_name() -> None:
    assert {name: layout.name for name, layout in LAYOUTS.items()} == {name: name for name in get_args(LayoutName)}


def test_it_is_recognised_and_read_as_published(tmp_path: Path, miniature: Miniature) -> None:
    data = miniature.write(tmp_path)
    before = contents(tmp_path)
    dataset = read_dataset(data)
    assert dataset.layout == miniature.layout
    assert dataset.class_names == miniature.class_names
    assert counts(dataset) == miniature.counts
    assert {level.name: tuple(level.of_classes()) for level in dataset.levels} == miniature.levels
    assert (dataset.boxes is not None, dataset.groups is not None, dataset.banner) == (miniature.boxes, miniature.groups, miniature.banner)
    assert list(dataset.paths) == sorted(set(dataset.paths))
    assert dataset.labels.dtype == np.int32 and dataset.splits.dtype.kind == "U"
    if miniature.layout != "class-folders":
        assert dataset.notes[0].startswith(f"recognised as {LAYOUTS[miniature.layout].title} by ")
    assert contents(tmp_path) == before
    for named in (read_dataset(data, miniature.layout), read_dataset(str(data))):
        assert named.paths == dataset.paths and (named.labels == dataset.labels).all() and (named.splits == dataset.splits).all()


def test_its_images_can_be_opened_now_and_later(tmp_path: Path, miniature: Miniature) -> None:
    dataset = read_dataset(miniature.write(tmp_path))
    later = LAYOUTS[dataset.layout].images(dataset.root)
    for row, path in enumerate(dataset.paths):
        data = dataset.images.read(path)
        assert open_rgb(data, path).mode == "RGB"
        assert later.read(path) == data
        assert dataset.images.stamp(path) == later.stamp(path)
        if dataset.boxes is not None and not np.isnan(dataset.boxes[row]).any():
            width, height = dimensions(data, path)
            left, top, right, bottom = dataset.boxes[row]
            assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_a_folder_around_it_is_read_too(tmp_path: Path, miniature: Miniature) -> None:
    data = miniature.write(tmp_path)
    if miniature.layout == "class-folders" or data.is_file():
        pytest.skip("only folders with marks are found inside others")
    assert read_dataset(data.parent if data != tmp_path else data).layout == miniature.layout


def test_what_is_missing_is_named(tmp_path: Path, miniature: Miniature) -> None:
    for number, mark in enumerate(miniature.marks):
        root = tmp_path / str(number)
        root.mkdir()
        data = miniature.write(root)
        for file in root.glob(mark):
            file.rename(root.parent / f"{number}-removed")
        for layout in ("auto", miniature.layout):
            with pytest.raises(InputError) as caught:
                read_dataset(data, layout)
            assert Path(mark).name in str(caught.value), (mark, layout)


def test_damaged_annotations_are_reported_and_never_crash(tmp_path: Path, miniature: Miniature) -> None:
    """A share of MUTATIONS for every miniature: cut, flipped, doubled, swapped and hostile bytes in one file at a time."""
    data = miniature.write(tmp_path)
    files = annotation_files(tmp_path, miniature)
    if not files:
        pytest.skip("it has no annotation files")
    randomness = random.Random(miniature.layout)
    refused = 0
    for _ in range(-(-MUTATIONS // len(SETS))):
        file = randomness.choice(files)
        original = file.read_bytes()
        try:
            file.write_bytes(mutated(original, randomness))
            try:
                read_dataset(data, miniature.layout)
            except InputError as error:
                refused += 1
                assert file.name in str(error) or str(data) in str(error), str(error)
                if miniature.text and "UTF-8" in str(error):
                    assert re.search(r"line \d+", str(error))
        finally:
            file.write_bytes(original)
    assert refused > 0
    assert counts(read_dataset(data, miniature.layout)) == miniature.counts


HOSTILE = [
    b"../../../etc/passwd",
    b"/etc/passwd",
    b"\x00",
    b"\xff\xfe",
    b"-1",
    b"nan",
    b"1e308",
    b"9" * 400,
    b"\r\n",
    b",",
    b'"',
    b"{}",
    b"[" * 2000,
]


def mutated(data: bytes, randomness: random.Random) -> bytes:
    """Between one and four changes anywhere in the bytes."""
    changed = bytearray(data)
    for _ in range(randomness.randint(1, 4)):
        start = randomness.randrange(len(changed) + 1)
        end = min(len(changed), start + randomness.choice([1, 1, 2, 8, 64]))
        match randomness.randrange(6):
            case 0:
                del changed[start:]
            case 1:
                del changed[start:end]
            case 2:
                changed[start:end] = randomness.randbytes(end - start)
            case 3:
                changed[start:start] = changed[start:end] * randomness.randint(1, 3)
            case 4:
                changed[start:end] = randomness.choice(HOSTILE)
            case 5 if changed:
                changed[start % len(changed)] ^= 1 << randomness.randrange(8)
    return bytes(changed)
