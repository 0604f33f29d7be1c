"""Pictures inside tar files."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fieldmark.data.layouts.annotations import Annotations, Place
from fieldmark.data.layouts.tar import DamagedTar, members
from fieldmark.runtime.decode import FILE_LIMIT, IMAGE_EXTENSIONS, UnreadableImage


class ShardPictures:
    """Pictures inside the tar files of a folder. A shard's headers are read when the first of its pictures is asked for."""

    def __init__(self, root: Path):
        self._root = root
        self._lock = threading.Lock()
        self._indices: dict[str, dict[str, tuple[int, int]]] = {}

    def read(self, path: str) -> bytes:
        shard, _, member = path.rpartition("#")
        offset, size = self._index(shard, path).get(member, (0, -1))
        if size < 0:
            raise UnreadableImage(path, "there is no such picture in the shard")
        if size > FILE_LIMIT:
            raise UnreadableImage(path, f"it has {size / 2**30:.1f} GiB, more than the limit of {FILE_LIMIT // 2**30} GiB")
        try:
            with (self._root / shard).open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise UnreadableImage(path, f"the shard cannot be read ({error.strerror})") from error
        if len(data) < size:
            raise UnreadableImage(path, "the shard is cut short")
        return data

    def stamp(self, path: str) -> tuple[int, int]:
        """Of the shard."""
        status = (self._root / path.rpartition("#")[0]).stat()
        return status.st_size, status.st_mtime_ns

    def _index(self, shard: str, path: str) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every picture in a shard."""
        if shard not in self._indices:
            with self._lock:
                if shard not in self._indices:
                    notes = Annotations(self._root)
                    if notes.inner_path(Place(shard), shard) != shard:
                        raise UnreadableImage(path, "it is in no shard of the data's folder")
                    found = entries(notes, shard)
                    index = {name: (entry.offset_data, entry.size) for _, name, entry, _ in found if is_picture(name)}
                    if notes.problems:
                        raise UnreadableImage(path, notes.problems[0])
                    self._indices[shard] = index
        return self._indices[shard]


def entries(notes: Annotations, shard: str) -> Iterator[tuple[Place, str, tarfile.TarInfo, BinaryIO]]:
    """The files in a shard that are not hidden: place, name as it stands in a path after the "#", header, and the shard to read it from."""
    try:
        with (notes.root / shard).open("rb") as stream:
            for number, member in enumerate(members(stream), 1):
                place = Place(shard, number, "member")
                if member.isdir() or PurePosixPath(member.name).name.startswith("."):
                    continue
                if not member.isreg() or member.issparse():
                    if is_picture(member.name):
                        notes.wrong(place, f"{member.name!r} is a link, a device or a sparse file, and should be a picture's own bytes")
                    continue
                inner = notes.inner_path(place, member.name)
                if inner is not None and not _is_text(inner):
                    notes.wrong(place, f"the name {inner!a} is not UTF-8 text")
                elif inner is not None:
                    yield place, inner.replace("#", "%23"), member, stream
    except DamagedTar as error:
        notes.wrong(Place(shard), f"it {error}; fetch it again")
    except OSError as error:
        notes.wrong(Place(shard), f"it cannot be read ({error.strerror})")


def is_picture(name: str) -> bool:
    """By its ending."""
    return PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
