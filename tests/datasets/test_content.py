from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.datasets import content
from fieldmark.datasets import images as images
from fieldmark.datasets.content import fingerprint, scan
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.images import Files

LONG_AGO = 1_600_000_000


def save(file: Path, width: int = 12, height: int = 8, colour: str = "teal") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(file)
    os.utime(file, (LONG_AGO, LONG_AGO))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six images, the fourth of them empty, the fifth gone."""
    root = tmp_path / "data"
    paths = tuple(f"{name}/{number} ü.png" for name in ("kea", "kākā") for number in range(3))
    for number, path in enumerate(paths):
        save(root / path, 12 + number, 8)
    (root / paths[3]).write_bytes(b"")
    os.utime(root / paths[3], (LONG_AGO, LONG_AGO))
    (root / paths[4]).unlink()
    labels = np.repeat(np.arange(2, dtype=np.int32), 3)
    return Dataset("birds", root, "class-folders", ("kea", "kākā"), paths, labels, np.array(["train"] * 6), Files(root))


def test_hashes_sizes_and_problems(dataset: Dataset) -> None:
    found = scan(dataset)
    whole = [0, 1, 2, 3, 5]
    for row in whole:
        assert found.hashes[row] == hashlib.blake2b((dataset.root / dataset.paths[row]).read_bytes(), digest_size=16).hexdigest()
    assert found.hashes[4] == ""
    assert found.problems == {3: "the file is empty", 4: "the file does not exist"}
    np.testing.assert_array_equal(found.widths, [12, 13, 14, 0, 0, 17])
    np.testing.assert_array_equal(found.heights, [8, 8, 8, 0, 0, 8])
    assert found.widths.dtype == found.heights.dtype == np.int32


def test_sizes_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    one = Dataset("x", tmp_path, "class-folders", ("a",), ("a.jpg",), np.zeros(1, np.int32), np.array(["train"]), Files(tmp_path))
    found = scan(one)
    assert (found.widths[0], found.heights[0]) == (20, 30)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after the files were written."""
    now = time.time_ns()
    monkeypatch.setattr(content.time, "time_ns", lambda: now + 60_000_000_000)


@pytest.mark.usefixtures("later")
def test_second_scan_reads_no_file(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(dataset, cache_dir=tmp_path / "cache")

    def fail(*_: object) -> bytes:
        raise AssertionError("read a second time")

    monkeypatch.setattr(images, "read", fail)
    second = scan(dataset, cache_dir=tmp_path / "cache")
    assert second.hashes == first.hashes and second.problems == first.problems
    np.testing.assert_array_equal(second.widths, first.widths)
    scan(dataset.take(np.array([0])), cache_dir=tmp_path / "cache")
    assert scan(dataset, cache_dir=tmp_path / "cache").hashes == first.hashes, "a scan of some files does not forget the others"


def _overwritten(one: Path, other: Path) -> None:
    for file, data in ((one, other.read_bytes()), (other, one.read_bytes())):
        file.write_bytes(data)


def _copied_over(one: Path, other: Path) -> None:
    kept = shutil.copy2(one, one.with_suffix(".kept"))
    shutil.copy2(other, one)
    shutil.move(kept, other)


def _renamed(one: Path, other: Path) -> None:
    aside = one.rename(one.with_suffix(".aside"))
    other.rename(one)
    aside.rename(other)


def _folders_renamed(one: Path, other: Path) -> None:
    _renamed(one.parent, other.parent)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("exchange", [_overwritten, _copied_over, _renamed, _folders_renamed])
def test_images_that_change_places_are_seen(tmp_path: Path, exchange: Callable[[Path, Path], None]) -> None:
    files = [tmp_path / "data" / name for name in ("a/0.ppm", "b/0.ppm")]
    for file, colour in zip(files, ("red", "blue"), strict=True):
        save(file, colour=colour)
    labels, splits = np.arange(2, dtype=np.int32), np.array(["train"] * 2)
    both = Dataset("x", tmp_path / "data", "class-folders", ("a", "b"), ("a/0.ppm", "b/0.ppm"), labels, splits, Files(tmp_path / "data"))
    before = scan(both, cache_dir=tmp_path / "cache").hashes
    exchange(*files)
    for file in files:
        os.utime(file, (LONG_AGO, LONG_AGO))
    assert scan(both, cache_dir=tmp_path / "cache").hashes == before[::-1]


FINE = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("mtime", "ctime", "since", "shown"),
    [
        (FINE, FINE, FINE + 1, True),
        (FINE - 10**9, FINE, FINE + 1, True),
        (FINE, FINE, FINE, False),  # changed in the tick of the scan
        (FINE - 10**18, FINE, FINE - 1, False),  # with an old date, as from an archive
        (FINE, FINE + 10**12, FINE, False),  # a clock that runs ahead
        (1_700_000_000 * 10**9, 1_700_000_000 * 10**9, FINE, False),  # FAT and SFTP: the date in place of the time of change
        (1_600_000_000 * 10**9, 1_700_000_000 * 10**9, FINE, True),  # a coarse clock, but one of its own
    ],
)
def test_when_a_stamp_is_sure_to_show_changes(mtime: int, ctime: int, since: int, shown: bool) -> None:
    assert images.Stamp(10, mtime, ctime, 7).shows_changes(since) == shown


def test_changes_are_seen(dataset: Dataset, tmp_path: Path) -> None:
    first = scan(dataset, cache_dir=tmp_path / "cache")
    save((dataset.root / dataset.paths[0]), 40, 30)
    os.utime((dataset.root / dataset.paths[0]), (LONG_AGO + 1, LONG_AGO + 1))
    save(dataset.root / dataset.paths[4])
    second = scan(dataset, cache_dir=tmp_path / "cache")
    assert second.hashes[0] != first.hashes[0] and second.widths[0] == 40
    assert second.hashes[4] and list(second.problems) == [3]
    (dataset.root / dataset.paths[1]).unlink()
    assert list(scan(dataset, cache_dir=tmp_path / "cache").problems) == [1, 3]


def test_a_file_of_this_moment_is_read_again(tmp_path: Path) -> None:
    """A change within the file system's clock tick, to a file of the same length, leaves size and time as they were."""
    file = tmp_path / "data" / "a.ppm"
    file.parent.mkdir()
    one = Dataset("x", file.parent, "class-folders", ("a",), ("a.ppm",), np.zeros(1, np.int32), np.array(["train"]), Files(file.parent))
    file.write_bytes(b"P6 1 1 255\nabc")
    moment = file.stat().st_mtime_ns
    first = scan(one, cache_dir=tmp_path / "cache")
    file.write_bytes(b"P6 1 1 255\nxyz")
    os.utime(file, ns=(moment, moment))
    assert scan(one, cache_dir=tmp_path / "cache").hashes != first.hashes


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
def test_a_damaged_memo_is_ignored_and_rebuilt(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    first = scan(dataset, cache_dir=tmp_path / "cache")
    (memo,) = (tmp_path / "cache" / "content").glob("*.parquet")
    whole = memo.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 40]) + whole[middle + 40 :]
    memo.write_bytes({"empty": b"", "cut": whole[:-9], "flipped": flipped, "text": b"PAR1 no PAR1"}[damage])
    assert scan(dataset, cache_dir=tmp_path / "cache").hashes == first.hashes
    assert content._read_memo(memo).keys() == set(dataset.paths) - {dataset.paths[4]}


@pytest.mark.usefixtures("later")
def test_an_unwritable_cache_is_the_users_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="a file is in its way"):
        scan(dataset, cache_dir=tmp_path / "cache")


def test_progress_ends_at_the_total(dataset: Dataset) -> None:
    calls: list[tuple[int, int]] = []
    scan(dataset, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (6, 6)


def test_fingerprint(dataset: Dataset) -> None:
    found = scan(dataset)
    print_ = fingerprint(dataset, found)
    order = [5, 3, 1, 0, 2, 4]
    shuffled = replace(
        dataset,
        paths=tuple(dataset.paths[i] for i in order),
        labels=dataset.labels[order],
        splits=dataset.splits[order],
        root=Path("elsewhere"),
    )
    assert fingerprint(shuffled, replace(found, hashes=tuple(found.hashes[i] for i in order))) == print_
    others = [
        fingerprint(replace(dataset, splits=np.array(["test", *["train"] * 5])), found),
        fingerprint(replace(dataset, labels=1 - dataset.labels), found),
        fingerprint(replace(dataset, paths=("other.png", *dataset.paths[1:])), found),
        fingerprint(dataset, replace(found, hashes=("0" * 32, *found.hashes[1:]))),
        fingerprint(replace(dataset, class_names=("kea", "tui")), found),
    ]
    assert len({print_, *others}) == 6
