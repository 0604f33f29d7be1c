"""What lies in a folder, level by level, without opening a file; links may lead anywhere, and what is passed over is counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import shown
from fieldmark.datasets.image_files import LOOPS, Listing, PassedOver, list_folder
from fieldmark.datasets.layouts.annotations import is_text

OTHER_FILES = "files that are not images"
LOOSE = "images outside any class folder"
OURS = "folders that Fieldmark wrote"
_MARKS_OF_OURS = (
    frozenset({"recipe.yaml", "manifest.json"}),  # a run or an ensemble
    frozenset({"study.json", "runs"}),
    frozenset({"best.yaml", "trials.csv"}),  # a search
)


class Survey:
    """Folders below `root`, named by their paths relative to it with forward slashes ("" is the root), and what the user must know.

    `look`, `inside`, `images_in` and `count` only look. `listing` and `images_below` read: they note what they pass over.
    """

    def __init__(self, root: Path):
        self.root = root
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.damaged: set[str] = set()  # class folders that a problem speaks of
        self._passed_over = PassedOver()
        self._looked: dict[str, Listing | OSError] = {}
        self._folders: dict[str, list[str]] = {}
        self._images: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}
        self._read: set[str] = set()
        self._owners: dict[tuple[int, int], tuple[str, str, str]] = {}  # real folder -> split, class folder, where it was met
        self._chain_memo: dict[Path, tuple[int, int]] = {}

    def wrong(self, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(what, remedy=remedy))

    def stop_at_problems(self) -> None:
        if self.problems:
            raise InputError(*self.problems)

    def passed_over(self, what: str, paths: list[str]) -> None:
        self._passed_over.add(what, paths)

    def passed_over_notes(self) -> list[str]:
        return self._passed_over.notes()

    def of_kind(self, what: str) -> list[str]:
        return self._passed_over.paths.get(what, [])

    def look(self, folder: str) -> Listing:
        """What is directly inside; nothing if the folder cannot be looked into."""
        if folder not in self._looked:
            try:
                self._looked[folder] = list_folder(join(self.root, folder))
            except OSError as error:
                self._looked[folder] = error
        found = self._looked[folder]
        return found if isinstance(found, Listing) else Listing([], [], {}, {})

    def inside(self, folder: str) -> list[str]:
        """The folders directly inside, sorted, without those that Fieldmark wrote."""
        if folder not in self._folders:
            self._folders[folder] = [path for path in _inside(folder, self.look(folder).folders) if not self.is_ours(path)]
        return self._folders[folder]

    def with_images(self, folder: str) -> list[str]:
        """The folders directly inside that have images at any depth; of several that are one real folder, the first."""
        distinct = {self.identity(path): path for path in reversed(self.inside(folder))}
        return [path for path in reversed(distinct.values()) if self.count(path)]

    def images_in(self, folder: str) -> list[str]:
        """The images directly inside, sorted."""
        if folder not in self._images:
            self._images[folder] = [path for path in _inside(folder, self.look(folder).images) if is_text(path)]
        return self._images[folder]

    def count(self, folder: str) -> int:
        """How many images there are at any depth, links followed and no folder counted twice."""
        if folder not in self._counts:
            self._counts[folder] = sum(len(self.look(each).images) for each in self.below(folder))
        return self._counts[folder]

    def below(self, folder: str) -> Iterator[str]:
        """The folder and those at any depth inside it, each real one once; none that are above it, where links lead back."""
        parts = folder.split("/") if folder else []
        above = ["/".join(parts[:depth]) for depth in range(len(parts))]
        met = {*self.above_root(), *filter(None, map(self.identity, above))}
        waiting = [folder]
        while waiting:
            path = waiting.pop()
            identity = self.identity(path)
            if identity is not None and identity not in met:
                met.add(identity)
                yield path
                waiting += reversed(self.inside(path))

    def above_root(self) -> set[tuple[int, int]]:
        """The real folders that hold the root, up to the root of the file system, as `identity`."""
        return set(self._chain("")[1:])

    def identity(self, folder: str) -> tuple[int, int] | None:
        """What a real folder and all links to it have in common; None if it cannot be looked at."""
        try:
            return self._identity(join(self.root, folder))
        except OSError:
            return None

    def is_ours(self, folder: str) -> bool:
        """Whether it is a run, an ensemble, a study or a search of ours."""
        found = self.look(folder)
        names = {*found.passed_over.get(OTHER_FILES, ()), *found.folders}
        return any(marks <= names for marks in _MARKS_OF_OURS)

    def holds_only_ours(self, folder: str) -> bool:
        """Whether all its images, at any depth, are ones that Fieldmark wrote, and there is something of that kind."""
        return not self.count(folder) and any(
            self.is_ours(inner) for path in self.below(folder) for inner in _inside(path, self.look(path).folders)
        )

    def listing(self, folder: str) -> tuple[list[str], list[str]]:
        """Relative paths of the folders and of the images directly inside `folder`, sorted."""
        found = self.look(folder)
        if folder not in self._read:
            self._read.add(folder)
            failed = self._looked[folder]
            if isinstance(failed, OSError):
                self._unreadable(folder, failed)
            for what, names in found.passed_over.items():
                self.passed_over(what, _inside(folder, names))
            for name, error in found.unreadable.items():
                self._unreadable(f"{folder}/{name}" if folder else name, error)
            self.passed_over("images whose names are not valid Unicode", [p for p in _inside(folder, found.images) if not is_text(p)])
            self.passed_over(OURS, [path for path in _inside(folder, found.folders) if self.is_ours(path)])
        return self.inside(folder), self.images_in(folder)

    def images_below(self, class_folder: str, split: str, split_folder: str) -> list[str] | None:
        """Relative paths of all images at any depth in a class folder; None if it is a link to a folder above itself.

        Links that lead back to a folder above, or to one already met in this class, are passed over.
        """
        if not is_text(class_folder):
            self.wrong(f"the name of the class folder {shown(class_folder)} is not valid Unicode", remedy="rename the folder")
            self.damaged.add(class_folder)
            return []
        problems = len(self.problems)
        above = {*self._chain(""), *self._chain(split_folder), *self._chain(class_folder)[1:]}
        found: list[str] = []
        waiting = [class_folder]
        while waiting:
            folder = waiting.pop()
            try:
                identity = self._identity(join(self.root, folder))
            except OSError as error:
                self._unreadable(folder, error)
                continue
            owner_split, owner, first_met = self._owners.get(identity, (split, class_folder, folder))
            if identity in above or (owner == class_folder and first_met != folder):
                self.passed_over(LOOPS, [folder])
                if folder == class_folder:
                    return None
            elif owner != class_folder:
                conflict = "two classes" if owner_split == split else f"{owner_split} and in {split}"
                self.wrong(f"{first_met} and {shown(folder)} are one and the same folder: its images cannot be in {conflict}")
            else:
                self._owners[identity] = split, class_folder, folder
                folders, images = self.listing(folder)
                found += images
                waiting += reversed(folders)
        if len(self.problems) > problems:
            self.damaged.add(class_folder)
        return found

    def same_folder(self, one: str, other: str) -> bool:
        return os.path.samefile(join(self.root, one), join(self.root, other))

    def _unreadable(self, path: str, error: OSError) -> None:
        self.wrong(f"{shown(join(self.root, path))} cannot be read ({error.strerror})", remedy="make it readable, or move it away")

    def _chain(self, folder: str) -> list[tuple[int, int]]:
        """The real folder itself, and all that hold it up to the root of the file system; cut short if they cannot be looked at."""
        real = Path(os.path.realpath(join(self.root, folder)))
        chain = []
        for path in (real, *real.parents):
            if path not in self._chain_memo:
                try:
                    self._chain_memo[path] = self._identity(str(path))
                except OSError:
                    break
            chain.append(self._chain_memo[path])
        return chain

    @staticmethod
    def _identity(path: str) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino


def join(root: Path, *parts: str) -> str:
    return os.path.join(root, *(part for part in parts if part))


def last(folder: str) -> str:
    """The name of a folder."""
    return folder.rpartition("/")[2]


def _inside(folder: str, names: Iterable[str]) -> list[str]:
    return [f"{folder}/{name}" if folder else name for name in names]
