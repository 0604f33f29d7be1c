"""Class folders: one folder of images per class, by itself or under train, val and test."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import in_order, nearest, shown, some
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset, Level
from fieldmark.datasets.image_files import LOOPS, PassedOver, list_folder
from fieldmark.datasets.images import Files
from fieldmark.datasets.layouts.annotations import is_text
from fieldmark.datasets.layouts.car_names import car_levels
from fieldmark.datasets.layouts.layout import Layout, Source
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def read(source: Source) -> Dataset:
    """Read a folder of class folders, or of train, val and test (or their common other names) that hold class folders.

    Classes are the folders of train, sorted by name, or as numbers if all are; those of val and test are matched to them by name. Images
    deeper inside a class folder belong to that class. A test folder that holds images and no folders is unlabelled. Names of cars give
    levels. Links are followed. Hidden files and folders are ignored; whatever else is passed over is counted in the notes. Nothing is
    opened or changed.
    Raises InputError, with all problems at once.
    """
    root = source.path
    if not root.is_dir():
        raise InputError(
            f"{shown(root)} is a file, not a folder",
            hint="Unpack it and give the folder."
            if root.name.lower().endswith(_ARCHIVES)
            else "Give the folder that holds one folder per class, or a table that ends in .csv, .tsv or .parquet.",
        )
    survey = _Survey(root)
    top_folders, top_images = survey.listing("")
    survey.stop_at_problems()
    split_folders = _split_folders(survey, top_folders)

    if split_folders:
        found = ", ".join(split_folders.values())
        layout_note = f"read as class folders in splits: {found}"
        beside = [folder for folder in top_folders if folder not in split_folders.values()]
        if beside:
            survey.notes.append(f"passed over beside {found}: {some(beside)}")
        if "train" not in split_folders:
            folders = "the folder" if len(split_folders) == 1 else "the folders"
            raise InputError(f"{shown(root)} has {folders} {found}, but no train", hint="Add the folder train with one folder per class.")
    else:
        layout_note = "read as one folder per class, without splits"
        split_folders = {"train": ""}
        if named := [folder for folder in top_folders if folder.lower() in SPLIT_NAMES]:
            survey.notes.append(f"{some(named)}: read as a class and not as a split, since it holds no class folders")

    images: dict[str, dict[str, list[str]]] = {}
    unlabelled: list[str] = []
    for split, folder in split_folders.items():
        class_folders, loose = survey.listing(folder) if folder else (top_folders, top_images)
        if split == "test" and loose and not class_folders:
            unlabelled = loose
            survey.notes.append(f"{folder} holds images and no class folders: they are unlabelled")
            continue
        below = {name: survey.images_below(name, split, folder) for name in class_folders}
        images[split] = {name: paths for name, paths in below.items() if paths is not None}
        survey.passed_over("images outside any class folder", loose)
    if split_folders["train"]:
        survey.passed_over("images outside any class folder", top_images)

    if not survey.problems and not any(images["train"].values()):
        raise _no_images(survey, root, split_folders["train"])
    class_names = _train_classes(survey, images["train"])
    if not survey.problems and len(class_names) == 1:
        inside, _ = survey.listing(next(iter(images["train"])))
        raise InputError(
            f"{shown(_join(root, split_folders['train']))} has one class only ({class_names[0]}): a classifier needs at least two classes",
            hint=f"If the classes are the folders inside, give {shown(_join(root, *images['train']))}."
            if inside and not split_folders["train"]
            else "Put the images of each class into a folder of its own.",
        )
    label_of = {_key(name): label for label, name in enumerate(class_names)}
    for split in images:
        if split != "train":
            _check_against_train(survey, split_folders[split], images[split], class_names)
            if not any(images[split].values()):
                survey.notes.append(f"{split_folders[split]} has no images in class folders and counts as missing")
    survey.stop_at_problems()

    labelled = [
        (path, label_of[_key(_last(folder))], split)
        for split, classes in images.items()
        for folder, paths in classes.items()
        for path in paths
    ]
    table = sorted(labelled + [(path, -1, UNLABELLED) for path in unlabelled])
    return Dataset(
        name=os.path.basename(os.path.abspath(root)) or str(root),
        root=root,
        layout="class-folders",
        class_names=class_names,
        paths=tuple(path for path, _, _ in table),
        labels=np.fromiter((label for _, label, _ in table), np.int32, len(table)),
        splits=np.array([split for _, _, split in table], np.str_),
        images=Files(root),
        levels=tuple(Level.of(level, parents) for level, parents in (car_levels(class_names) or {}).items()),
        notes=(layout_note, *survey.notes, *survey.passed_over_notes()),
    )


class _Survey:
    """Walks folders below `root`, with relative paths, and collects what the user must know."""

    def __init__(self, root: Path):
        self.root = root
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.damaged: set[str] = set()  # class folders that a problem speaks of
        self._passed_over = PassedOver()
        self._listings: dict[str, tuple[list[str], list[str]]] = {}
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

    def listing(self, folder: str) -> tuple[list[str], list[str]]:
        """Relative paths of the folders and of the images directly inside `folder`, sorted."""
        if folder not in self._listings:
            folders: list[str] = []
            images: list[str] = []
            try:
                found = list_folder(_join(self.root, folder))
            except OSError as error:
                self._unreadable(folder, error)
            else:
                folders, named = (_inside(folder, names) for names in (found.folders, found.images))
                images = [path for path in named if is_text(path)]
                self.passed_over("images whose names are not valid Unicode", [path for path in named if not is_text(path)])
                for what, names in found.passed_over.items():
                    self.passed_over(what, _inside(folder, names))
                for name, reason in found.unreadable.items():
                    self._unreadable(_inside(folder, [name])[0], reason)
            self._listings[folder] = folders, images
        return self._listings[folder]

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
                identity = self._identity(_join(self.root, folder))
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
        return os.path.samefile(_join(self.root, one), _join(self.root, other))

    def _unreadable(self, path: str, error: OSError) -> None:
        self.wrong(f"{shown(_join(self.root, path))} cannot be read ({error.strerror})", remedy="make it readable, or move it away")

    def _chain(self, folder: str) -> list[tuple[int, int]]:
        """The real folder itself, and all that hold it up to the root of the file system; cut short if they cannot be looked at."""
        real = Path(os.path.realpath(_join(self.root, folder)))
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


def _split_folders(survey: _Survey, folders: list[str]) -> dict[str, str]:
    """Split -> its folder, in the order train, val, test; empty if the folders are classes.

    A class may be called "train" (as opposed to "bus"): among folders that are not splits, split names count only if one of them holds
    folders itself.
    """
    named = [folder for folder in folders if folder.lower() in SPLIT_NAMES]
    if not named or (len(named) < len(folders) and not any(survey.listing(folder)[0] for folder in named)):
        return {}
    by_split: dict[str, list[str]] = defaultdict(list)
    for folder in named:
        by_split[SPLIT_NAMES[folder.lower()]].append(folder)
    for split, several in by_split.items():
        if len(several) > 1:
            survey.wrong(f"{' and '.join(several)} are two names for one split, {split}", remedy="keep one, or rename the other")
    chosen = {split: by_split[split][0] for split in SPLITS if split in by_split}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        if first in chosen and second in chosen and survey.same_folder(chosen[first], chosen[second]):
            survey.wrong(f"{chosen[first]} and {chosen[second]} are one and the same folder: {second} needs images of its own")
    survey.stop_at_problems()
    return chosen


def _train_classes(survey: _Survey, images: dict[str, list[str]]) -> tuple[str, ...]:
    """Class names, in order; every class of train must have images."""
    for folder, paths in images.items():
        if not paths and folder not in survey.damaged:
            survey.wrong(f"class folder {folder} has no images", remedy="add some, or move it elsewhere")
    _check_distinct(survey, images)
    return tuple(in_order(_last(folder) for folder in images))


def _check_against_train(survey: _Survey, split_folder: str, images: dict[str, list[str]], class_names: tuple[str, ...]) -> None:
    known = {_key(name) for name in class_names}
    unknown = []
    for name in (_last(folder) for folder, paths in images.items() if paths):
        if _key(name) not in known:
            near = nearest(name, class_names, likeness=0.8)
            unknown.append(repr(name) + (f" (train has {near[0]!r})" if near else ""))
    if unknown:
        classes = "a class" if len(unknown) == 1 else f"{len(unknown)} classes"
        remedy = "classes are matched by the names of their folders: rename them, delete them or add them to train"
        survey.wrong(f"{split_folder} has {classes} that train lacks: {', '.join(unknown)}", remedy)
    _check_distinct(survey, images)


def _check_distinct(survey: _Survey, folders: dict[str, list[str]]) -> None:
    by_key: dict[str, str] = {}
    for folder in folders:
        twin = by_key.setdefault(_key(_last(folder)), folder)
        if twin != folder:
            what = f"the class folders {twin} and {folder} have the same name in two Unicode spellings ({twin!a}, {folder!a})"
            survey.wrong(what, remedy="merge them")


def _no_images(survey: _Survey, root: Path, train_folder: str) -> InputError:
    folder = shown(_join(root, train_folder))
    loose = len(survey.of_kind("images outside any class folder"))
    if loose:
        return InputError(
            f"{folder} has no class folders with images; {loose:,} image{'s lie' if loose > 1 else ' lies'} outside any class folder",
            hint="Put the images of each class into a folder named after the class.",
        )
    others = survey.of_kind("files that are not images")
    if archives := [path for path in others if path.lower().endswith(_ARCHIVES)]:
        return InputError(f"there are no images in {folder}, but archives: {some(archives)}", hint="Unpack them and give the folder.")
    kinds = f" ({some(others)})" if others else ""
    return InputError(
        f"there are no images in {folder}{kinds}",
        hint=f"An image is a file whose name ends in {', '.join(sorted(IMAGE_EXTENSIONS))}.",
    )


def _key(name: str) -> str:
    """What names are matched by: macOS and Linux may spell the same accented name in different code points."""
    return unicodedata.normalize("NFC", name)


def _join(root: Path, *parts: str) -> str:
    return os.path.join(root, *(part for part in parts if part))


def _inside(folder: str, names: list[str]) -> list[str]:
    return [f"{folder}/{name}" if folder else name for name in names]


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]


LAYOUT = Layout(
    name="class-folders",
    title="class folders",
    recognise=lambda path: None,
    read=read,
    example="photos/",
)
