"""Lists of paths and labels, as many benchmarks publish their splits: train.txt, val.txt, test.txt with lines such as "images/x.jpg 3"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath

from fieldmark.core.errors import InputError
from fieldmark.core.names import in_order, shown, some
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset
from fieldmark.datasets.image_files import is_image_name
from fieldmark.datasets.layouts.annotations import Annotations, Line, Place, Row
from fieldmark.datasets.layouts.class_names import MISSING, readable
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.split_names import split_of
from fieldmark.datasets.layouts.table_images import ImageFinder

_FOLDERS = ("", "meta", "splits", "lists", "ImageSets")
_NAMES = ("classes.txt", "class_names.txt", "classnames.txt", "labels.txt", "label_names.txt", "names.txt", "categories.txt")
_MANY_FILES = 50
_HEAD = 4096


def read(source: Source) -> Dataset:
    """Read the lists of a folder, one for each split, or one for all; or one that is given as DATA.

    In each line the last word, after spaces, a tab or a comma, is the label, and what is before it the path; a list without labels is
    unlabelled. Labels are names, or numbers from 0 of the lines in classes.txt, if there is such a file; a line there may have the number
    as well. A path is relative to the folder, to that of the list, or to one that is called after the split or "images", or else looked
    up by name. Raises InputError with all problems at once.
    """
    root, files = _lists(source.path)
    notes = Annotations(root)
    if not files:
        raise InputError(f"{shown(source.path)} holds no list of images", hint="Its lines are such as: images/x.jpg 3")
    names_file = next((file for file in _names_files(root, files) if (root / file).is_file()), None)
    names = {} if names_file is None else _class_names(notes, names_file)
    remarks = [f"{file} says no split: all of it is train" for file in files if split_of(file) not in SPLITS]
    missing = MISSING if source.missing_labels == "words" else ()
    without: list[Place] = []
    found: list[tuple[Place, str, str | None, str]] = []
    for file, split in files.items():
        lines = [(line.place, *_fields(line)) for line in notes.lines(file)]
        paths, said = _paths(root, file, split, [text for _, text, _ in lines])
        remarks += said
        for place, text, label in lines:
            if label is None and split != "test":
                notes.wrong(place, f"it has no label after {text!r:.200}")
            if label in missing:
                label = None
                without.append(place)
            if (path := notes.inner_path(place, paths.get(text, text))) is not None:
                found.append((place, path, label, split if label is not None else UNLABELLED))
    notes.check()
    if without:
        remarks.append(f"images that have no label and are unlabelled: {len(without):,}; the first is in {without[0]}")
    labels = in_order({label for *_, label, _ in found if label is not None})
    if names and (unknown := [label for label in labels if label not in names]):
        place = next(place for place, _, label, _ in found if label == unknown[0])
        notes.wrong(place, f"there is no class {some(unknown)} in {names_file}")
        notes.check()
    index = {label: position for position, label in enumerate(labels)}
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=readable([names.get(label, label) for label in labels]),
        rows=[Row(place, path, None if label is None else index[label], split) for place, path, label, split in found],
        notes=[f"labels are named by {names_file}" if names else "labels are as the lists have them", *remarks],
    )


def _lists(path: Path) -> tuple[Path, dict[str, str]]:
    """The folder that all lies in, and the lists, relative to it, with their splits: one for each, or a single one."""
    if not path.is_dir():
        return (path.parent, {path.name: split_of(path.name) or "train"}) if path.suffix == ".txt" and _is_list(path) else (path.parent, {})
    for folder in _FOLDERS:
        texts = sorted(islice((path / folder).glob("*.txt"), _MANY_FILES))
        files = [file.relative_to(path).as_posix() for file in texts if _is_list(file)]
        by_split: dict[str, str] = {}
        for file in files:
            by_split.setdefault(split_of(PurePosixPath(file).name) or "", file)
        splits = {by_split[split]: split for split in SPLITS if split in by_split}
        if "train" in by_split:
            if "test" not in by_split and (test := _unlabelled_test(path, texts, files)):
                splits[test] = "test"
            return path, splits
        if len(files) == 1:
            return path, {files[0]: "train"}
    return path, {}


def _unlabelled_test(root: Path, texts: list[Path], lists: list[str]) -> str | None:
    """A list of paths alone, called test."""
    named = [file for file in texts if split_of(file.name) == "test" and file.relative_to(root).as_posix() not in lists]
    bare = [file for file in named if all(is_image_name(line) for line in _head(file))]
    return bare[0].relative_to(root).as_posix() if len(bare) == 1 else None


def _is_list(file: Path) -> bool:
    """Whether most of its first lines are the name of an image and a label."""
    lines = _head(file)
    return bool(lines) and 2 * sum(len(_split(line)) == 2 for line in lines) > len(lines)


def _head(file: Path) -> list[str]:
    """The first whole lines, none if it is no text."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_HEAD)
        lines = data.decode("utf-8-sig").splitlines() if len(data) < _HEAD else data[: data.rfind(b"\n")].decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in lines if line.strip()]


def _split(line: str) -> list[str]:
    """The path and the label, or the line alone if it is a path."""
    line = line.strip()
    if is_image_name(line):
        return [line]
    for separator in ("\t", ",", ";", None):
        head, _, label = line.rpartition(separator) if separator else _last_word(line)
        if is_image_name(head.strip()) and label.strip():
            return [head.strip(), label.strip()]
    return [line]


def _last_word(line: str) -> tuple[str, str, str]:
    parts = line.rsplit(maxsplit=1)
    return (parts[0], " ", parts[1]) if len(parts) == 2 else (line, "", "")


def _fields(line: Line) -> tuple[str, str | None]:
    parts = _split(line.text)
    return parts[0], parts[1] if len(parts) == 2 else None


def _paths(root: Path, file: str, split: str, texts: list[str]) -> tuple[Mapping[str, str], list[str]]:
    """The path of each image of a list, by what it is called there; and remarks."""
    stem, own = PurePosixPath(file).stem, str(PurePosixPath(file).parent)
    folders = ["", own, split, stem, "images", f"images/{split}", f"images/{stem}", "data"]
    finder = ImageFinder(root)
    return finder.find(file, split, lambda: ((text, split) for text in texts), folders), finder.remarks


def _names_files(root: Path, files: dict[str, str]) -> Iterator[str]:
    folders = dict.fromkeys(["", *(str(PurePosixPath(file).parent) for file in files)])
    for folder in folders:
        yield from (str(PurePosixPath(folder, name)) for name in _NAMES if str(PurePosixPath(folder, name)) not in files)


def _class_names(notes: Annotations, file: str) -> dict[str, str]:
    """The name of each label: by its line from 0, or by the number, or the label, that stands before it or after it."""
    lines = [" ".join(re.sub(r"(?<=\d)[:,]|[:,](?=\s*\d)", " ", line.text).split()) for line in notes.lines(file)]
    first = [line.partition(" ") for line in lines]
    last = [line.rpartition(" ") for line in lines]
    if all(head.isdecimal() and name for head, _, name in first):
        return {str(int(head)): name for head, _, name in first}
    if all(number.isdecimal() and name for name, _, number in last):
        return {str(int(number)): name for name, _, number in last}
    return {str(number): line for number, line in enumerate(lines)} | {line: line for line in lines if not line.isdecimal()}


def _recognise(path: Path) -> Evidence | None:
    _, files = _lists(path)
    return Evidence(tuple(files)) if files else None


LAYOUT = Layout(
    name="path-lists",
    title="lists of paths and labels",
    recognise=_recognise,
    read=read,
    example="benchmark/",
    settings=("missing_labels",),
)
