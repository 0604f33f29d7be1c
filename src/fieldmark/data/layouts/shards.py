"""Datasets in numbered files: which split each belongs to by its name, and which are missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from fieldmark.core.errors import InputError
from fieldmark.data.dataset import SPLITS
from fieldmark.data.layouts.class_folders import SPLIT_NAMES
from fieldmark.data.layouts.location import some

_NUMBERED = re.compile(r"(?P<head>.+)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})(?P<tail>.*)")


def split_of(file: str) -> str | None:
    """The split that a file's name says, or else the folders that it is in: train, val, test, or the name of another; None for none.

    "birds_train_0001.tar" and "validation/0000.parquet" say it by a word; the whole name of a split stands before "-00000-of-00005".
    """
    other = None
    for part in reversed(PurePosixPath(file).parts):
        if numbered := _NUMBERED.fullmatch(part):
            word = numbered["head"].rpartition("-")[2]
            other = other or word
            words = {word.lower()}
        else:
            words = set(re.findall(r"[a-z]+", part.lower()))
        splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if len(splits) == 1:
            return splits.pop()
    return other


def by_split(files: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The split of every file that has a known one, or train for all where none has; and notes on what was made of the rest.

    Raises InputError where the files are of several splits of which none is known.
    """
    splits = {file: split_of(file) for file in files}
    known = {file: split for file, split in splits.items() if split in SPLITS}
    if known:
        rest = [file for file in files if file not in known]
        return known, [f"passed over, since their names say no split that is known: {some(rest)}"] if rest else []
    others = sorted({split for split in splits.values() if split is not None})
    if len(others) > 1:
        raise InputError(
            f"the files are of the splits {some(others)}, and of none called train",
            hint="Rename the files of the one to learn from, so that they say train.",
        )
    return dict.fromkeys(files, "train"), ["no file says its split: all is train"]


def missing(files: Sequence[str]) -> list[str]:
    """Names of files that should be there by what the others say: 00000-of-00005 says that there are five."""
    seen: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    tails: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for file in files:
        path = PurePosixPath(file)
        if numbered := _NUMBERED.fullmatch(path.name):
            series = (str(path.parent / numbered["head"]), numbered["total"], path.suffix)
            seen[series].add(int(numbered["number"]))
            tails[series].add(numbered["tail"])
    absent = []
    for (head, total, suffix), numbers in seen.items():
        tail = tails[head, total, suffix].pop() if len(tails[head, total, suffix]) == 1 else f"*{suffix}"
        gaps = (number for number in range(int(total)) if number not in numbers)
        absent += [f"{head}-{number:0{len(total)}}-of-{total}{tail}" for number, _ in zip(gaps, range(20), strict=False)]
    return absent
