"""Where the bytes of a dataset's images are: files of their own, or parts of larger files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fieldmark.runtime.decode import read


class Images(Protocol):
    """Images by the paths that a Dataset gives them. Both methods may be called by several threads at once."""

    def read(self, path: str) -> bytes:
        """The bytes of an encoded image. Raises runtime.decode.UnreadableImage if there are none."""
        ...

    def stamp(self, path: str) -> tuple[int, int]:
        """Size in bytes and time of change in nanoseconds: alike as long as the bytes are. Raises OSError or UnreadableImage."""
        ...


@dataclass(frozen=True)
class Files:
    """A file for each image; paths are relative to `root`."""

    root: Path

    def read(self, path: str) -> bytes:
        return read(self.root / path, path)

    def stamp(self, path: str) -> tuple[int, int]:
        status = (self.root / path).stat()
        return status.st_size, status.st_mtime_ns
