"""How the disk spells a path that a table spells otherwise: accents in other code points, as macOS has them, or an ending in capitals."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from pathlib import Path


class DiskNames:
    """The names below a folder. Each folder that is asked for is listed once, so that a million paths cost no more than their folders."""

    def __init__(self, root: Path):
        self._root = root
        self._names: dict[str, frozenset[str] | None] = {}  # by folder; None for one that cannot be listed
        self._alike: dict[str, dict[str, list[str]]] = {}  # by folder, its names by what they are matched by

    def spelling(self, path: str) -> str | None:
        """The path, relative to the root, as the disk has it: as it is if it is there; None if none or several there are like it."""
        folder, _, name = path.rpartition("/")
        if (names := self._in(folder)) is not None and name in names:
            return path
        there = self.spelling(folder) if folder else ""
        if there is None or (names := self._in(there)) is None:
            return None
        if name not in names:
            for key in (_composed, _any_ending):
                alike = self._alike_in(there, names).get(key(name), [])
                if len(alike) == 1:
                    name = alike[0]
                    break
            else:
                return None
        return f"{there}/{name}" if there else name

    def _in(self, folder: str) -> frozenset[str] | None:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(self._root / folder))
            except (OSError, ValueError):
                self._names[folder] = None
        return self._names[folder]

    def _alike_in(self, folder: str, names: frozenset[str]) -> dict[str, list[str]]:
        if folder not in self._alike:
            found = self._alike[folder] = defaultdict(list)
            for name in sorted(names):
                for key in {_composed(name), _any_ending(name)}:
                    found[key].append(name)
        return self._alike[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _any_ending(name: str) -> str:
    stem, ending = os.path.splitext(_composed(name))
    return stem + ending.lower()
