"""Decode once: uint8 tiles on disk, mapped into memory, keyed by what the files hold and by how they are seen."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.files import storage_error, write_json
from fieldmark.core.manifest import Colours
from fieldmark.core.processor import available_cores
from fieldmark.core.randomness import key
from fieldmark.core.recipe.data import Resize
from fieldmark.datasets.content import ELSEWHERE, Progress, file_hash, make_folder
from fieldmark.datasets.corruptions import corrupt, parse
from fieldmark.datasets.images import Images
from fieldmark.runtime.decode import DECODER, UnreadableImage
from fieldmark.runtime.preprocess import square

_CHUNK_BYTES = 4 * 2**20
_FLUSH_BYTES = 64 * 2**20
_PIXELS, _INDEX, _BUILDING = "pixels.u8", "index.json", ".building"


@dataclass(frozen=True, eq=False)
class Selection:
    """Images to be decoded, n of them.

    `hashes` are content.file_hash of their bytes, "" for an image that cannot be read; `regions` are float64 (n, 4), the part of each that
    is seen, as in runtime.decode.open_rgb; None for whole images.
    """

    images: Images
    paths: Sequence[str]
    hashes: Sequence[str]
    regions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, start: int, stop: int) -> Selection:
        regions = None if self.regions is None else self.regions[start:stop]
        return Selection(self.images, self.paths[start:stop], self.hashes[start:stop], regions)


@dataclass(frozen=True)
class Decoding:
    """How images are seen: `side` in pixels, `resize` as in runtime.preprocess, `corrupt` as in data.corrupt, `colours` as decoded."""

    side: int
    resize: Resize
    corrupt: str = "none"
    colours: Colours = "srgb"


@dataclass(frozen=True, eq=False)
class PixelCache:
    """`array` is uint8 (n, 3, side, side), mapped read-only, the colours of a pixel side by side in memory.

    `unreadable` says why a row could not be decoded, and that row is all zero; `notes` are those of runtime.decode.open_rgb, by row.

    As long as `array` lives, clear_cache leaves the entry alone.
    """

    array: np.ndarray
    unreadable: dict[int, str]
    notes: dict[int, str]

    def remarks(self, paths: Sequence[str]) -> list[str]:
        """A line for each kind of note, with the number of images and the first of them."""
        rows: dict[str, list[int]] = {}
        for row, note in sorted(self.notes.items()):
            rows.setdefault(note, []).append(row)
        return [f"{len(noted):,} of {len(paths):,} images: it has {note} (first: {paths[noted[0]]})" for note, noted in rows.items()]


@dataclass(frozen=True)
class CacheEntry:
    """One set of decoded images on disk. `last_used` is in seconds since the epoch."""

    key: str
    bytes: int
    last_used: float
    images: int
    side: int
    resize: str


@dataclass(frozen=True)
class CacheContents:
    """The entries in a cache folder, the last used one first; `freed`: bytes that were removed before."""

    folder: Path
    entries: tuple[CacheEntry, ...]
    freed: int = 0

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)


def default_cache_dir() -> Path:
    """$FIELDMARK_CACHE, or the user's cache folder."""
    chosen = os.environ.get("FIELDMARK_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("fieldmark"))


def open_pixels(selection: Selection, decoding: Decoding, cache_dir: Path, progress: Progress | None = None) -> PixelCache:
    """The tiles of a selection, in its order: decoded now, or mapped as an earlier call left them.

    A tile equals runtime.preprocess.square of its image and region, corrupted if the decoding says so. Of processes that ask for the
    same tiles, one decodes and the others wait.

    Raises InputError if the disk is full or cannot be written, and if an image has changed since it was hashed.
    """
    shape = (len(selection), 3, decoding.side, decoding.side)
    if not len(selection):
        return PixelCache(np.empty(shape, np.uint8), {}, {})
    regions = b"" if selection.regions is None else np.ascontiguousarray(selection.regions, "<f8").tobytes()
    entry = file_hash(json.dumps([DECODER, asdict(decoding), *selection.hashes]).encode() + regions)
    folder = cache_dir / "pixels" / entry
    try:
        if (cache := _open(folder, shape)) is None:
            make_folder(folder.parent)
            with FileLock(_lock_file(folder)):
                if (cache := _open(folder, shape)) is None:
                    _build(selection, decoding, folder, progress)
                    cache = _open(folder, shape)
        assert cache is not None
        return cache
    except OSError as error:
        raise storage_error(error, folder, ELSEWHERE) from error


def list_cache(cache_dir: Path) -> list[CacheEntry]:
    """All entries, the last used one first."""
    entries = []
    for folder in _folders(cache_dir):
        index = _read_index(folder)
        if index is not None:
            images, _, side, _ = index["shape"]
            used = (folder / _INDEX).stat().st_mtime
            entries.append(CacheEntry(folder.name, _size(folder), used, images, side, index["view"]["resize"]))
    return sorted(entries, key=lambda entry: entry.last_used, reverse=True)


def clear_cache(cache_dir: Path) -> int:
    """Remove all entries but those in use, and what interrupted processes left half-built. Returns the bytes freed."""
    try:
        return sum(_remove_unused(folder) for folder in _folders(cache_dir))
    except OSError as error:
        raise storage_error(error, cache_dir / "pixels", ELSEWHERE) from error


def _open(folder: Path, shape: tuple[int, ...]) -> PixelCache | None:
    """None if there is no entry, or a damaged one."""
    index = _read_index(folder)
    if index is None or index["shape"] != list(shape):
        return None
    with suppress(FileNotFoundError), (folder / _PIXELS).open("rb") as stream:
        # The mapping holds a duplicate of this descriptor, and with it the lock, for as long as it lives.
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_SH)
        if os.fstat(stream.fileno()).st_size != np.prod(shape, dtype=np.int64):
            return None
        images, channels, side, _ = shape
        array = np.memmap(stream, np.uint8, "r", shape=(images, side, side, channels)).transpose(0, 3, 1, 2)
        with suppress(OSError):
            os.utime(folder / _INDEX)
        unreadable, notes = ({int(row): text for row, text in index[kind].items()} for kind in ("unreadable", "notes"))
        return PixelCache(array, unreadable, notes)
    return None


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return index if {"shape", "view", "unreadable", "notes"} <= index.keys() else None
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return None


def _build(selection: Selection, decoding: Decoding, folder: Path, progress: Progress | None) -> None:
    for left_over in folder.parent.glob(f".*{_BUILDING}"):
        if left_over != _building(folder):
            _remove_unused(left_over)
    building = _building(folder)
    for stale in (building, folder):
        if stale.exists():
            shutil.rmtree(stale)
    building.mkdir()
    try:
        with (building / _PIXELS).open("wb") as stream:
            _reserve(stream, len(selection) * 3 * decoding.side**2, folder.parent)
            unreadable: dict[int, str] = {}
            notes: dict[int, str] = {}
            done, flush_every = 0, max(1, _FLUSH_BYTES // (3 * decoding.side**2))
            for tiles, problems, noted in _decode(selection, decoding):
                stream.write(tiles.data)
                if (done + len(tiles)) // flush_every > done // flush_every:
                    _flush(stream)  # little by little, so that the disk works while images are decoded
                unreadable |= {done + row: reason for row, reason in problems.items()}
                notes |= {done + row: note for row, note in noted.items()}
                done += len(tiles)
                if progress is not None:
                    progress(done, len(selection))
            _flush(stream)
        shape = [len(selection), 3, decoding.side, decoding.side]
        index = {"shape": shape, "view": asdict(decoding), "decoder": DECODER, "unreadable": unreadable, "notes": notes}
        write_json(building / _INDEX, index)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _reserve(stream: BinaryIO, size: int, folder: Path) -> None:
    """Take the space now: a disk that is too small says so before the decoding, not after it."""
    free = shutil.disk_usage(folder).free
    try:
        if size > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return  # a file system that cannot reserve space; writing will tell
        space = f"the decoded images take {size / 1e9:.1f} GB, and the disk that holds {folder} has {free / 1e9:.1f} GB left"
        raise InputError(
            Problem(space, kind="machine"),
            hint="Free some space, set FIELDMARK_CACHE to a folder on another disk, or lower data.size or data.cache_scale.",
        ) from error


_Chunk = tuple[np.ndarray, dict[int, str], dict[int, str]]
"""Tiles, and by their row what is wrong with some and noted of others."""


def _decode(selection: Selection, decoding: Decoding) -> Iterator[_Chunk]:
    """Chunks in order; only a few are in memory at a time."""
    cores = available_cores()
    chunk = min(max(1, _CHUNK_BYTES // (3 * decoding.side**2)), 64)
    pending: deque[Future[_Chunk]] = deque()
    with ThreadPoolExecutor(cores, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(selection), chunk):
                pending.append(pool.submit(_decode_chunk, selection.part(start, start + chunk), decoding))
                if len(pending) > 2 * cores:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode_chunk(selection: Selection, decoding: Decoding) -> _Chunk:
    tiles = np.zeros((len(selection), decoding.side, decoding.side, 3), np.uint8)
    problems, notes = {}, {}
    for row, (path, digest) in enumerate(zip(selection.paths, selection.hashes, strict=True)):
        if not digest:
            problems[row] = "the file cannot be read"
            continue
        region = None if selection.regions is None else selection.regions[row].tolist()
        try:
            data = _unchanged(selection.images, path, digest)
            noted: list[str] = []
            tile = square(data, decoding.side, decoding.resize, path, region, decoding.colours, noted).transpose(1, 2, 0)
            if noted:
                notes[row] = "; ".join(noted)
            tiles[row] = tile if decoding.corrupt == "none" else corrupt(tile, *parse(decoding.corrupt), key(digest))
        except UnreadableImage as error:
            problems[row] = error.reason
    return tiles, problems, notes


def _unchanged(images: Images, path: str, digest: str) -> bytes:
    hint = "Leave the data alone while a command reads it, and run the command again."
    try:
        data = images.read(path)
    except UnreadableImage as error:
        raise InputError(f"{path} could be read a moment ago, and now cannot: {error.reason}", hint=hint) from error
    if file_hash(data) != digest:
        raise InputError(f"{path} has changed since the data was scanned", hint=hint)
    return data


def _building(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{_BUILDING}")


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name.removeprefix('.').removesuffix(_BUILDING)}.lock")


def _folders(cache_dir: Path) -> list[Path]:
    """Entries, whole and half-built."""
    pixels = cache_dir / "pixels"
    return sorted(folder for folder in pixels.iterdir() if folder.is_dir()) if pixels.is_dir() else []


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _remove_unused(folder: Path) -> int:
    """Remove an entry unless it is being built or is mapped by some process; gives the bytes freed."""
    with suppress(Timeout, BlockingIOError, FileNotFoundError), FileLock(_lock_file(folder), timeout=0), _nobody_maps(folder / _PIXELS):
        freed = _size(folder)
        shutil.rmtree(folder)
        return freed
    return 0


@contextmanager
def _nobody_maps(pixels: Path) -> Iterator[None]:
    """Raises BlockingIOError if someone does."""
    if not pixels.exists():
        yield
        return
    with pixels.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
