"""Images inside tar files."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from fieldmark.datasets.layouts.annotations import Annotations, Place
from fieldmark.datasets.layouts.part_images import PartImages, escaped
from fieldmark.datasets.layouts.tar import DamagedTar, members
from fieldmark.runtime.decode import FILE_LIMIT, IMAGE_EXTENSIONS, UnreadableImage


class ShardImages(PartImages[dict[str, tuple[int, int]]]):
    """Images inside the tar files of a folder. Of a shard the headers are read, and then the images that are asked for."""

    def read(self, path: str) -> bytes:
        shard, _, member = path.rpartition("#")
        offset, size = self._file(path).get(member, (0, -1))
        if size < 0:
            raise UnreadableImage(path, "there is no such image in the shard")
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

    def _open(self, file: str) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every image."""
        notes = Annotations(self._root)
        index = {name: (entry.offset_data, entry.size) for _, name, entry, _ in entries(notes, file) if is_image(name)}
        notes.check()
        return index


def entries(notes: Annotations, shard: str) -> Iterator[tuple[Place, str, tarfile.TarInfo, BinaryIO]]:
    """The files in a shard that are not hidden: place, name as it stands in a path after the "#", header, and the shard to read it from."""
    try:
        with (notes.root / shard).open("rb") as stream:
            for number, member in enumerate(members(stream), 1):
                place = Place(shard, number, "member")
                if member.isdir() or PurePosixPath(member.name).name.startswith("."):
                    continue
                if not member.isreg() or member.issparse():
                    if is_image(member.name):
                        notes.wrong(place, f"{member.name!r} is a link, a device or a sparse file, and should be an image's own bytes")
                    continue
                inner = notes.inner_path(place, member.name)
                if inner is not None:
                    yield place, escaped(inner), member, stream
    except DamagedTar as error:
        notes.wrong(Place(shard), f"it {error}", remedy="download it again")
    except OSError as error:
        notes.wrong(Place(shard), f"it cannot be read ({error.strerror})")


def is_image(name: str) -> bool:
    """By its ending."""
    return PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS
