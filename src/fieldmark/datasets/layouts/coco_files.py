"""Which COCO files a folder has, of which split each is, and where their images are, as published and as annotation tools export them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from fieldmark.datasets.dataset import SPLITS
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES, split_of
from fieldmark.datasets.layouts.table_images import ImageFinder

FOLDER = "annotations"
_HEAD = 2**16
_KEYS = re.compile(rb'"(info|images|annotations|categories|licenses)"\s*:')
_SIGNS = re.compile(rb'"(images|annotations|categories|file_name|image_id|category_id)"\s*:')
_MANY_FILES = 50


def root_of(path: Path) -> Path:
    """The folder that the paths of a dataset are relative to: `path`, or the one above a folder of annotations."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == FOLDER else folder


def coco_files(path: Path) -> dict[str, list[str]]:
    """The files of each split, relative to `root_of`, in the order of the splits. A file that says no split is train if it is alone.

    They lie in the folder itself, in its folder "annotations", or in the folders of the splits, next to the images. Where a split has
    several, only one of them instances_*.json, that is the one.
    """
    root = root_of(path)
    if not path.is_dir():
        return {split_of(path.name) or "train": [path.relative_to(root).as_posix()]} if _is_coco(path, named=False) else {}
    for group in (_in_folder(root, ""), _in_folder(root, FOLDER), _in_split_folders(root)):
        named: dict[str, list[str]] = {}
        by_split: dict[str, list[str]] = {}
        for file in group:
            split = split_of(file)
            says_it = split_of(PurePosixPath(file).name) in SPLITS
            if split in SPLITS:
                if says_it:
                    named.setdefault(split, []).append(file)
                if _is_coco(root / file, says_it):
                    by_split.setdefault(split, []).append(file)
        if by_split:  # one beside them that is damaged is meant too
            by_split = {**named, **by_split}
        if "train" in by_split:
            return {split: _instances(by_split[split]) for split in SPLITS if split in by_split}
        others = [file for file in group if split_of(file) not in SPLITS and _is_coco(root / file, named=False)]
        if others and not by_split:
            return {"train": _instances(others)}
        if by_split:
            return by_split
    return {}


def _in_folder(root: Path, folder: str) -> list[str]:
    """The JSON files in a folder; none if there are so many that each must be of one image."""
    files = sorted(islice((root / folder).glob("*.json"), _MANY_FILES + 1))
    return [] if len(files) > _MANY_FILES else [file.relative_to(root).as_posix() for file in files if file.is_file()]


def _in_split_folders(root: Path) -> list[str]:
    named = [folder for folder in folders(root) if folder.name.lower() in SPLIT_NAMES]
    return [file for folder in named for file in _in_folder(root, folder.name)]


def _instances(files: Sequence[str]) -> list[str]:
    instances = [file for file in files if PurePosixPath(file).name.startswith("instances")]
    if len(instances) != 1:
        instances = [file for file in files if "-dev" not in file]  # image_info_test-dev2017 has a part of image_info_test2017
    return instances if len(instances) == 1 else list(files)


def _is_coco(path: Path, named: bool) -> bool:
    """Whether a file begins as COCO does; one that is not `named` after a split must show more of it."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return False
    return _KEYS.search(head) is not None if named else len(set(_SIGNS.findall(head))) >= 2


def image_paths(root: Path, file: str, split: str, names: Sequence[str]) -> tuple[Mapping[str, str], list[str]]:
    """The path, relative to `root`, of each image that a file names, by its name; and remarks.

    Names are relative to the first folder of `_candidates` in which one of the first images is, or else looked up below the root, by
    what follows their folders if these are of another machine.
    """
    finder = ImageFinder(root, foreign=True)
    found = finder.find(file, split, lambda: ((name, split) for name in names), _candidates(file, split))
    return {name: found.get(name, name) for name in names}, finder.remarks


def _candidates(file: str, split: str) -> list[str]:
    """The folders that an image may be relative to: that of the file, the root, "images", and those called like the file or the split."""
    stem = PurePosixPath(file).stem
    own = str(PurePosixPath(file).parent)
    kind = stem.partition("_")[2]  # as in instances_train2017
    first = ("" if own == FOLDER else own, "", "images", "data", stem, split)
    return [*first, *([kind, f"images/{kind}"] if kind else []), f"images/{split}", f"images/{stem}"]
