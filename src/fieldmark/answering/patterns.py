"""Names of files and folders as they are typed: literally if they exist, and otherwise as patterns with `*`, `?`, `[ ]` and `**`."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from fieldmark.datasets.image_files import PassedOver, entries_below, is_hidden, is_image_name

_MAGIC = "*?["


def matches(source: str | Path) -> list[Path]:
    """The file or folder of this name, or what matches it as a pattern, sorted; empty if nothing does.

    Every part of the name is taken literally where such a file or folder exists. Wildcards match what a folder holds of the user's, so no
    hidden files and, unless the pattern names an ending, no other files than images. What lies in a folder that matches, and what was
    reached by two links to one folder, is returned once. Raises InputError for a folder that cannot be read.
    """
    path = next((path for path in (Path(source), Path(os.path.expanduser(source))) if _exists(path)), None)
    if path is not None:
        return [path]
    path = Path(os.path.expanduser(source))
    base, parts = (Path(path.anchor), path.parts[1:]) if path.anchor else (Path(), path.parts)
    names_ending = path.suffix != "" and not _is_pattern(path.suffix)
    wanted = names_ending or not _is_pattern(path.name)
    return list(_once(sorted(match for match in _below(base, parts) if wanted or os.path.isdir(match) or is_image_name(match.name))))


def _is_pattern(part: str) -> bool:
    return any(letter in part for letter in _MAGIC)


def _below(base: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if _exists(base / part):
        yield from _below(base / part, rest)
    elif part == "**" and os.path.isdir(base):
        yield from _below(base, rest)
        for folder in [path for path, is_folder in entries_below(base, PassedOver()) if is_folder]:
            yield from _below(folder, rest)
    elif _is_pattern(part):
        for name in _names(base, part):
            yield from _below(base / name, rest)


def _names(folder: Path, pattern: str) -> list[str]:
    """The names in a folder that a pattern matches; if none does, those that it matches with its brackets taken literally."""
    try:
        names = [name for name in os.listdir(folder) if not is_hidden(name) or (name.startswith(".") and pattern.startswith("."))]
    except OSError:
        return []
    return fnmatch.filter(names, pattern) or fnmatch.filter(names, pattern.replace("[", "[[]"))


def _once(found: list[Path]) -> Iterator[Path]:
    """Sorted matches without what lies in a folder among them, and without what was reached by another way to the same folder."""
    folders: set[Path] = set()
    reached: dict[tuple[int, int], Path] = {}
    for match in dict.fromkeys(found):
        is_folder = os.path.isdir(match)
        folder = match if is_folder else match.parent
        status = folder.stat()
        if folders.isdisjoint(match.parents) and reached.setdefault((status.st_dev, status.st_ino), folder) == folder:
            folders |= {match} if is_folder else set()
            yield match


def _exists(path: Path) -> bool:
    """Whether there is something of this name, a link that leads nowhere included, or nobody may look."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
