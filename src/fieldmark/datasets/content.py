"""What the files of a dataset hold: a hash of their bytes and the size of their image, read once and remembered."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error, whole_file
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.images import Images, Stamp
from fieldmark.runtime.decode import DECODER, UnreadableImage, dimensions

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

ELSEWHERE = "set the variable FIELDMARK_CACHE to a folder that you may write to"
MISSING = "the file does not exist"
_CHUNK = 64
_SETTLED = 2_000_000_000  # nanoseconds: the longest clock tick of a file system


@dataclass(frozen=True, eq=False)
class Content:
    """One row per image of the dataset.

    `hashes` are BLAKE2b-128 of the file's bytes in hexadecimal, "" for a file that cannot be read; `widths` and `heights` are int32 (n,) in
    pixels after EXIF orientation, 0 if unknown; `problems` says why a row's image cannot be used.
    """

    hashes: tuple[str, ...]
    widths: np.ndarray
    heights: np.ndarray
    problems: dict[int, str]

    def take(self, rows: np.ndarray) -> Content:
        """The content of these rows alone, in their order."""
        problems = {position: self.problems[int(row)] for position, row in enumerate(rows) if int(row) in self.problems}
        return Content(tuple(self.hashes[row] for row in rows), self.widths[rows], self.heights[rows], problems)


class _Entry(NamedTuple):
    stamp: Stamp | None
    hash: str
    width: int
    height: int
    problem: str


_SCHEMA = pa.schema(
    [
        ("path", pa.binary()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("ctime_ns", pa.int64()),
        ("inode", pa.uint64()),
        ("hash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("problem", pa.string()),
    ]
)


def scan(dataset: Dataset, progress: Progress | None = None, cache_dir: Path | None = None) -> Content:
    """Read every file once. With `cache_dir`, a file is not read again if its stamp, which every change shows in, is what it was."""
    memo_file = None if cache_dir is None else _memo_file(cache_dir, dataset.root)
    memo = {} if memo_file is None else _read_memo(memo_file)
    before = time.time_ns() - _SETTLED

    def examine(start: int) -> list[_Entry]:
        return [_examine(dataset.images, path, memo.get(path)) for path in dataset.paths[start : start + _CHUNK]]

    entries: list[_Entry] = []
    with ThreadPoolExecutor(thread_name_prefix="scan") as pool:
        for chunk in pool.map(examine, range(0, len(dataset), _CHUNK)):
            entries += chunk
            if progress is not None:
                progress(len(entries), len(dataset))

    if memo_file is not None:
        read = dict(zip(dataset.paths, entries, strict=True))
        lasting = {path: entry for path, entry in read.items() if entry.hash and entry.stamp and entry.stamp.shows_changes(before)}
        of_others = {path: entry for path, entry in memo.items() if path not in read}
        if of_others | lasting != memo:
            _write_memo(memo_file, of_others | lasting)
    return Content(
        hashes=tuple(entry.hash for entry in entries),
        widths=np.array([entry.width for entry in entries], np.int32),
        heights=np.array([entry.height for entry in entries], np.int32),
        problems={row: entry.problem for row, entry in enumerate(entries) if entry.problem},
    )


def fingerprint(dataset: Dataset, content: Content) -> str:
    """A hash over the (path, hash, label's name, split) of every row, whatever their order: alike for alike data, splits included."""
    columns = zip(dataset.paths, content.hashes, dataset.label_names(), dataset.splits, strict=True)
    rows = sorted("\0".join(row) for row in columns)
    return file_hash(os.fsencode("\n".join(rows)))


def file_hash(data: bytes) -> str:
    """BLAKE2b-128 in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def make_folder(folder: Path) -> None:
    """A folder of the cache. Raises InputError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"the cache folder {folder} cannot be made: a file is in its way", hint="Set FIELDMARK_CACHE to a folder."
        ) from error
    except OSError as error:
        raise storage_error(error, folder, ELSEWHERE) from error


def _examine(images: Images, path: str, known: _Entry | None) -> _Entry:
    try:
        stamp = images.stamp(path)
        if known is not None and known.stamp == stamp:
            return known
        data = images.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return _Entry(None, "", 0, 0, MISSING)
    except OSError as error:
        return _Entry(None, "", 0, 0, f"the file cannot be read ({error.strerror})")
    except UnreadableImage as error:
        return _Entry(None, "", 0, 0, error.reason)
    digest = file_hash(data)
    try:
        width, height = dimensions(data, path)
    except UnreadableImage as error:
        return _Entry(stamp, digest, 0, 0, error.reason)
    return _Entry(stamp, digest, width, height, "")


def _memo_file(cache_dir: Path, root: Path) -> Path:
    key = file_hash(os.fsencode(root.resolve()) + DECODER.encode())
    return cache_dir / "content" / f"{key}.parquet"


def _read_memo(file: Path) -> dict[str, _Entry]:
    """Empty if there is none, or if it is damaged."""
    try:
        table = pq.read_table(file, page_checksum_verification=True).select(_SCHEMA.names).cast(_SCHEMA)
        paths, *columns = (column.to_pylist() for column in table.columns)
        fields = len(Stamp._fields)
        return dict(zip(map(os.fsdecode, paths), map(_Entry, map(Stamp, *columns[:fields]), *columns[fields:]), strict=True))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return {}


def _write_memo(file: Path, entries: dict[str, _Entry]) -> None:
    rows = [(os.fsencode(path), *(stamp or ()), *found) for path, (stamp, *found) in entries.items()]
    table = pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * len(_SCHEMA), schema=_SCHEMA)
    make_folder(file.parent)
    with whole_file(file, ELSEWHERE) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
