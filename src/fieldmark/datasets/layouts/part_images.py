"""Images inside larger files, by paths such as "train.tar#1.jpg": the file, "#", and what the image is called in it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from fieldmark.core.errors import InputError
from fieldmark.datasets.images import Stamp
from fieldmark.datasets.layouts.annotations import NotAPath, inner_path
from fieldmark.runtime.decode import UnreadableImage

Opened = TypeVar("Opened")


class PartImages(ABC, Generic[Opened]):
    """A file is opened when the first of its images is asked for, once however many threads ask, and kept."""

    def __init__(self, root: Path):
        self._root = root
        self._lock = threading.Lock()
        self._opened: dict[str, Opened] = {}

    @abstractmethod
    def read(self, path: str) -> bytes: ...

    @abstractmethod
    def _open(self, file: str) -> Opened:
        """What `read` needs of a file. Raises InputError if it cannot be read."""

    def stamp(self, path: str) -> Stamp:
        """Of the file."""
        return Stamp.of(self._root / path.rpartition("#")[0])

    def _file(self, path: str) -> Opened:
        """The file of an image, opened. Raises UnreadableImage."""
        file = path.rpartition("#")[0]
        if file not in self._opened:
            with self._lock:
                if file not in self._opened:
                    if not _is_inside(file):
                        raise UnreadableImage(path, "it is in no file of the data's folder")
                    try:
                        self._opened[file] = self._open(file)
                    except InputError as error:
                        raise UnreadableImage(path, str(error.problems[0])) from error
        return self._opened[file]


def _is_inside(file: str) -> bool:
    """Whether a relative path is one below the root, in its simplest form."""
    try:
        return inner_path(file) == file
    except NotAPath:
        return False


def escaped(name: str) -> str:
    """A name as it may follow the "#"."""
    return name.replace("#", "%23")
