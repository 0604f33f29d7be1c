"""Where the bytes of a dataset's images are: files of their own, or parts of larger files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from fieldmark.runtime.decode import read

_COARSE = 10_000_000  # nanoseconds: the finest clock of the file systems that repeat the date as time of change (FAT, exFAT, SFTP)


class Stamp(NamedTuple):
    """What a file system says of a file: its size in bytes, its date (mtime) and its time of change (ctime) in nanoseconds, its inode.

    Archives, `cp -p` and cameras set the date as they like. The time of change is set by the system alone, and the inode tells files apart
    that have changed places, so that a change shows in them even if name, size and date stay.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> Stamp:
        """Raises OSError."""
        status = file.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def shows_changes(self, since: int) -> bool:
        """Whether any change after `since`, in nanoseconds since the epoch, gives the file another stamp.

        Not if the last change is as recent as that, since the next one may fall into the same tick of the clock; and not if the time of
        change is so coarse and so like the date that it may be no more than the date.
        """
        own_clock = self.ctime_ns != self.mtime_ns or self.ctime_ns % _COARSE != 0
        return own_clock and self.ctime_ns < since


class Images(Protocol):
    """Images by the paths that a Dataset gives them. Both methods may be called by several threads at once."""

    def read(self, path: str) -> bytes:
        """The bytes of an encoded image. Raises runtime.decode.UnreadableImage if there are none."""
        ...

    def stamp(self, path: str) -> Stamp:
        """The stamp of the file that holds the image. Raises OSError or UnreadableImage."""
        ...


@dataclass(frozen=True)
class Files:
    """A file for each image; paths are relative to `root`."""

    root: Path

    def read(self, path: str) -> bytes:
        return read(self.root / path, path)

    def stamp(self, path: str) -> Stamp:
        return Stamp.of(self.root / path)
