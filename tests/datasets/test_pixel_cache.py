from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.datasets import pixel_cache as pixels
from fieldmark.datasets.content import file_hash
from fieldmark.datasets.images import Files
from fieldmark.datasets.pixel_cache import Decoding, Selection, clear_cache, default_cache_dir, list_cache, open_pixels
from fieldmark.runtime.colour import DAMAGED, made_profile
from fieldmark.runtime.preprocess import Preprocess, square

VIEW = Decoding(24, "squash")


def write_images(folder: Path, count: int) -> tuple[list[Path], list[str]]:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(file)
    return files, [file_hash(file.read_bytes()) for file in files]


def selected(files: list[Path], hashes: list[str]) -> Selection:
    return Selection(Files(Path("/")), [str(file) for file in files], hashes)


@pytest.fixture
def images(tmp_path: Path) -> tuple[list[Path], list[str]]:
    return write_images(tmp_path / "data", 9)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "pixels").iterdir() if path.is_dir())


@pytest.mark.parametrize("view", [VIEW, Decoding(16, "shorter-side"), Decoding(20, "letterbox")])
def test_tiles_equal_the_preprocessing(images: tuple[list[Path], list[str]], cache: Path, view: Decoding) -> None:
    files, hashes = images
    found = open_pixels(selected(files, hashes), view, cache)
    assert isinstance(found.array, np.memmap) and found.array.dtype == np.uint8 and found.unreadable == {}
    preprocess = Preprocess(view.side, view.resize, (0, 0, 0), (1, 1, 1))
    np.testing.assert_array_equal(found.array, np.stack([preprocess.pixels(file) for file in files]))


def test_many_chunks_keep_their_order(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, hashes = write_images(tmp_path / "many", 31)
    monkeypatch.setattr(pixels, "_CHUNK_BYTES", 2 * 3 * VIEW.side**2)
    monkeypatch.setattr(pixels, "_FLUSH_BYTES", 3 * 3 * VIEW.side**2)

    def uneven(source: bytes, *arguments: Any) -> np.ndarray:
        time.sleep(0.01 * (len(source) % 3))
        return square(source, *arguments)

    monkeypatch.setattr(pixels, "square", uneven)
    calls: list[tuple[int, int]] = []
    found = open_pixels(selected(files, hashes), VIEW, cache, lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(found.array, np.stack([square(file, 24, "squash") for file in files]))
    assert calls == [(done, 31) for done in [*range(2, 31, 2), 31]]


def test_decoded_once(images: tuple[list[Path], list[str]], cache: Path) -> None:
    files, hashes = images
    first = np.array(open_pixels(selected(files, hashes), VIEW, cache).array)
    for file in files:
        file.unlink()
    np.testing.assert_array_equal(open_pixels(selected(files, hashes), VIEW, cache).array, first)


def test_key_is_the_content_its_order_and_the_view(images: tuple[list[Path], list[str]], cache: Path) -> None:
    files, hashes = images
    open_pixels(selected(files, hashes), VIEW, cache)
    open_pixels(selected(files[::-1], hashes[::-1]), VIEW, cache)
    open_pixels(selected(files, hashes), Decoding(24, "letterbox"), cache)
    open_pixels(selected(files, hashes), Decoding(25, "squash"), cache)
    open_pixels(selected(files[:-1], hashes[:-1]), VIEW, cache)
    assert len(folders(cache)) == 5


def test_unreadable_rows_are_zero_and_named(images: tuple[list[Path], list[str]], cache: Path) -> None:
    files, hashes = images
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    files[7].write_bytes(b"")
    hashes = [file_hash(file.read_bytes()) for file in files]
    hashes[4] = ""
    expected = {2: "the file is cut short", 4: "the file cannot be read", 7: "the file is empty"}
    for _ in range(2):
        found = open_pixels(selected(files, hashes), VIEW, cache)
        assert found.unreadable == expected
        assert [row for row in range(9) if not found.array[row].any()] == [2, 4, 7]


def test_notes_are_kept_and_colours_are_part_of_the_key(tmp_path: Path, cache: Path) -> None:
    files, _ = write_images(tmp_path, 3)
    Image.open(files[1]).save(files[1], icc_profile=made_profile((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), None))
    Image.open(files[2]).save(files[2], icc_profile=b"damaged")
    selection = selected(files, [file_hash(file.read_bytes()) for file in files])
    for _ in range(2):
        found = open_pixels(selection, VIEW, cache)
        assert found.notes == {2: DAMAGED}
        assert found.remarks(["a", "b", "c"]) == [f"1 of 3 images: it has {DAMAGED} (first: c)"]
    stored = open_pixels(selection, replace(VIEW, colours="stored"), cache)
    assert stored.notes == {} and len(folders(cache)) == 2
    assert [np.array_equal(*pair) for pair in zip(found.array, stored.array, strict=True)] == [True, False, True]


def test_a_file_that_changed_is_an_error(images: tuple[list[Path], list[str]], cache: Path) -> None:
    files, hashes = images
    shutil.copy(files[0], files[1])
    with pytest.raises(InputError, match=r"1\.jpg has changed"):
        open_pixels(selected(files, hashes), VIEW, cache)
    files[1].unlink()
    with pytest.raises(InputError, match=r"1\.jpg could be read a moment ago"):
        open_pixels(selected(files, hashes), VIEW, cache)
    assert folders(cache) == []


def test_nothing_to_decode(cache: Path) -> None:
    assert open_pixels(selected([], []), VIEW, cache).array.shape == (0, 3, 24, 24)


@pytest.mark.parametrize("damage", ["no index", "torn index", "list index", "short pixels", "no pixels"])
def test_a_damaged_entry_is_rebuilt(images: tuple[list[Path], list[str]], cache: Path, damage: str) -> None:
    files, hashes = images
    expected = np.array(open_pixels(selected(files, hashes), VIEW, cache).array)
    gc.collect()
    (entry,) = (cache / "pixels" / name for name in folders(cache))
    match damage:
        case "no index":
            (entry / "index.json").unlink()
        case "torn index":
            (entry / "index.json").write_text('{"shape": [9,')
        case "list index":
            (entry / "index.json").write_text("[]")
        case "short pixels":
            os.truncate(entry / "pixels.u8", 1000)
        case "no pixels":
            (entry / "pixels.u8").unlink()
    np.testing.assert_array_equal(open_pixels(selected(files, hashes), VIEW, cache).array, expected)
    assert folders(cache) == [entry.name]


def test_half_built_entries_are_ignored_and_cleaned_up(images: tuple[list[Path], list[str]], cache: Path) -> None:
    files, hashes = images
    for key in (pixels_key(files, hashes, cache), "0" * 32):
        (cache / "pixels" / f".{key}.building").mkdir(parents=True, exist_ok=True)
        (cache / "pixels" / f".{key}.building" / "pixels.u8").write_bytes(b"torn")
    assert list_cache(cache) == []
    assert open_pixels(selected(files, hashes), VIEW, cache).array.any()
    assert not any(name.endswith(".building") for name in folders(cache))


def pixels_key(files: list[Path], hashes: list[str], cache: Path) -> str:
    open_pixels(selected(files, hashes), VIEW, cache)
    gc.collect()
    (name,) = folders(cache)
    shutil.rmtree(cache / "pixels" / name)
    return name


def test_an_interrupted_build_leaves_nothing(images: tuple[list[Path], list[str]], cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pixels(selected(*images), VIEW, cache, interrupt)
    assert folders(cache) == []


def test_threads_that_want_the_same_tiles_decode_once(
    images: tuple[list[Path], list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []
    build = pixels._build

    def counted(*arguments: Any) -> None:
        built.append(arguments[3])
        time.sleep(0.2)
        build(*arguments)

    monkeypatch.setattr(pixels, "_build", counted)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(open_pixels(selected(*images), VIEW, cache).array)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1 and len(found) == 4
    for array in found:
        np.testing.assert_array_equal(array, found[0])


def test_processes_that_want_the_same_tiles_do_not_clash(images: tuple[list[Path], list[str]], cache: Path) -> None:
    code = """
import sys
from pathlib import Path
from fieldmark.datasets.content import file_hash
from fieldmark.datasets.images import Files
from fieldmark.datasets.pixel_cache import Selection, Decoding, open_pixels
files = sorted(Path(sys.argv[1]).iterdir())
chosen = Selection(Files(files[0].parent), [file.name for file in files], [file_hash(file.read_bytes()) for file in files])
found = open_pixels(chosen, Decoding(24, "squash"), Path(sys.argv[2]))
print(file_hash(found.array.tobytes()))
"""
    command = [sys.executable, "-c", code, str(images[0][0].parent), str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate()[0] for process in processes}
    assert answers == {file_hash(open_pixels(selected(*images), VIEW, cache).array.tobytes()) + "\n"}
    assert len(folders(cache)) == 1


def test_full_disk(images: tuple[list[Path], list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
        with pytest.raises(InputError, match=r"take 0\.0 GB, and the disk that holds .* has 0\.0 GB left"):
            open_pixels(selected(*images), VIEW, cache)
    with monkeypatch.context() as patch:

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(InputError, match="Free some space"):
            open_pixels(selected(*images), VIEW, cache)
        patch.undo()
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="no space left on the disk"):
            open_pixels(selected(*images), VIEW, cache)
    assert folders(cache) == []


def test_a_disk_that_fills_up_while_writing(images: tuple[list[Path], list[str]], cache: Path) -> None:
    """A real limit in a real process: the kernel refuses writes beyond it."""
    code = """
import errno, os, resource, signal, sys
from pathlib import Path
from fieldmark.core.errors import InputError
from fieldmark.datasets import pixel_cache as pixels
from fieldmark.datasets.images import Files
files = sorted(Path(sys.argv[1]).iterdir())
hashes = [pixels.file_hash(file.read_bytes()) for file in files]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    chosen = pixels.Selection(Files(files[0].parent), [file.name for file in files], hashes)
    pixels.open_pixels(chosen, pixels.Decoding(24, "squash"), Path(sys.argv[2]))
except OSError as error:
    assert error.errno == errno.EFBIG
    print("refused", [path.name for path in (Path(sys.argv[2]) / "pixels").iterdir() if path.is_dir()])
"""
    command = [sys.executable, "-c", code, str(images[0][0].parent), str(cache)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "refused []\n"


def test_an_unwritable_cache_is_the_users_error(images: tuple[list[Path], list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    cache.write_text("a file where a folder should be")
    with pytest.raises(InputError, match="a file is in its way"):
        open_pixels(selected(*images), VIEW, cache)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be written"):
        open_pixels(selected(*images), VIEW, cache)


def test_list_and_clear(images: tuple[list[Path], list[str]], cache: Path) -> None:
    assert list_cache(cache) == [] and clear_cache(cache) == 0
    files, hashes = images
    used = open_pixels(selected(files, hashes), VIEW, cache)
    first = folders(cache)[0]
    open_pixels(selected(files[:4], hashes[:4]), Decoding(16, "letterbox"), cache)
    gc.collect()
    os.utime(cache / "pixels" / first / "index.json", (1, 1))
    newest, oldest = list_cache(cache)
    assert (newest.images, newest.side, newest.resize) == (4, 16, "letterbox")
    assert (oldest.key, oldest.images, oldest.side, oldest.last_used) == (first, 9, 24, 1)
    assert oldest.bytes >= 9 * 3 * 24 * 24

    assert clear_cache(cache) == newest.bytes
    assert folders(cache) == [first]
    array = used.array
    del used
    gc.collect()
    assert clear_cache(cache) == 0, "the array alone keeps its entry"
    del array
    gc.collect()
    assert clear_cache(cache) == oldest.bytes
    assert folders(cache) == [] and list_cache(cache) == []


def test_clear_leaves_what_is_being_built(images: tuple[list[Path], list[str]], cache: Path) -> None:
    freed: list[int] = []
    found = open_pixels(selected(*images), VIEW, cache, lambda done, total: freed.append(clear_cache(cache)))
    assert set(freed) == {0} and found.array.any()


def test_use_is_remembered(images: tuple[list[Path], list[str]], cache: Path) -> None:
    open_pixels(selected(*images), VIEW, cache)
    os.utime(cache / "pixels" / folders(cache)[0] / "index.json", (1, 1))
    open_pixels(selected(*images), VIEW, cache)
    assert time.time() - list_cache(cache)[0].last_used < 60


def test_default_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", "~/elsewhere")
    assert default_cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("FIELDMARK_CACHE")
    assert default_cache_dir().name == "fieldmark"
