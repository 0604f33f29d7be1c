"""Which files in a folder are the user's images; everything that reads folders asks here, and what is passed over is counted."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_SYSTEM = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "@recently-snapshot", "#snapshot", "lost+found", "$recycle.bin", "recycler"}
    | {"system volume information", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__pycache__"}
)
_THUMBNAILS = frozenset({"thumbs", "thumbnails", "_thumbs", "_thumbnails"})


@dataclass(frozen=True)
class Listing:
    """The names directly inside a folder, sorted: its folders and images, and what is passed over, by what it is.

    `unreadable` are entries that cannot be looked at. Entries that a system left (hidden ones, `@eaDir`, `Thumbs.db`) are in none of them.
    """

    folders: list[str]
    images: list[str]
    passed_over: dict[str, list[str]]
    unreadable: dict[str, OSError]


@dataclass
class PassedOver:
    """What was found and not used, by what it is.

    keeps_unreadable: inner folders and entries that cannot be read are not an InputError but among the images, and decoding says why.
    """

    keeps_unreadable: bool = False
    paths: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, what: str, paths: list[str]) -> None:
        if paths:
            self.paths[what] += paths

    def notes(self) -> list[str]:
        """A line for each kind, with the number and the first."""
        return [f"passed over {what}: {len(paths):,} (first: {shown(min(paths))})" for what, paths in sorted(self.paths.items())]


LOOPS = "links that lead back to a folder already read"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's, but left by a system: hidden, or by name."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_image_name(name: str) -> bool:
    """Whether a name ends as an image's does, in capitals or not."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def list_folder(folder: str | Path) -> Listing:
    """What is directly inside a folder; links count as what they lead to, and nothing is opened. Raises OSError."""
    found = Listing([], [], defaultdict(list), {})
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            try:
                _sort_in(entry, found)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    found.passed_over["links that lead nowhere"].append(entry.name)
                else:
                    found.unreadable[entry.name] = error
    found.folders.sort()
    found.images.sort()
    return found


def _sort_in(entry: os.DirEntry[str], found: Listing) -> None:
    if entry.is_dir():
        if entry.name.lower() in _THUMBNAILS:
            found.passed_over["folders of thumbnails"].append(entry.name)
        else:
            found.folders.append(entry.name)
    elif entry.is_symlink() and not entry.is_file():
        found.passed_over["links that lead nowhere"].append(entry.name)
    elif not is_image_name(entry.name) or not entry.is_file():
        found.passed_over["files that are not images"].append(entry.name)
    else:
        found.images.append(entry.name)


def images_below(folder: Path, passed_over: PassedOver) -> Iterator[Path]:
    """The images at any depth in a folder, sorted by name, folder by folder.

    Links are followed, and no folder is read twice. Raises InputError for a folder that cannot be read, unless `passed_over` keeps it.
    """
    return (path for path, is_folder in entries_below(folder, passed_over) if not is_folder)


def entries_below(folder: Path, passed_over: PassedOver) -> Iterator[tuple[Path, bool]]:
    """The folders and images at any depth, with whether each is a folder; as images_below."""
    read = _chain(folder.resolve().parent)
    waiting = [iter([(folder, True)])]
    while waiting:
        path, is_folder = next(waiting[-1], (None, False))
        if path is None:
            waiting.pop()
        elif not is_folder:
            yield path, False
        else:
            identity = _identity(path)
            if identity in read or (path.is_symlink() and path != folder and identity in _chain(path.parent)):
                passed_over.add(LOOPS, [str(path)])
                continue
            read.add(identity)
            if path != folder:
                yield path, True
            waiting.append(iter(_inside(path, passed_over, passed_over.keeps_unreadable and path != folder)))


def _inside(folder: Path, passed_over: PassedOver, as_image: bool) -> list[tuple[Path, bool]]:
    try:
        listing = list_folder(folder)
    except OSError as error:
        if as_image:
            return [(folder, False)]
        raise _unreadable(folder, error) from error
    for name, reason in listing.unreadable.items():
        if not passed_over.keeps_unreadable:
            raise _unreadable(folder / name, reason)
        listing.images.append(name)
    for what, names in listing.passed_over.items():
        passed_over.add(what, [str(folder / name) for name in names])
    entries = [(name, True) for name in listing.folders] + [(name, False) for name in listing.images]
    return [(folder / name, is_folder) for name, is_folder in sorted(entries)]


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{shown(path)} cannot be read ({error.strerror})", hint="Make it readable, or move it away.")


def _chain(folder: Path) -> set[tuple[int, int]]:
    """A folder, where it really is, and all that hold it; as far as they can be looked at."""
    real = folder.resolve()
    found = set()
    for path in (real, *real.parents):
        with suppress(InputError):
            found.add(_identity(path))
    return found


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_dev, status.st_ino
