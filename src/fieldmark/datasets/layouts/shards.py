"""Datasets in numbered files: the split of each, and which are missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from fieldmark.core.errors import InputError
from fieldmark.core.names import some
from fieldmark.datasets.dataset import SPLITS
from fieldmark.datasets.layouts.split_names import NUMBERED, split_of

_SERIES = re.compile(r"(?P<head>.*\D)(?P<number>\d{3,9})(?P<tail>\.\w+)")
"""As in train-000000.tar."""


def by_split(files: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The split of every file that has a known one, or train for all if none has; and notes on what was made of the rest.

    Raises InputError if the files are of several splits of which none is known.
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
    for file in files:
        path = PurePosixPath(file)
        if numbered := NUMBERED.fullmatch(path.name):
            tail = path.suffix if numbered["tail"] == path.suffix else f"*{path.suffix}"  # some tails have a checksum of the file
            seen[str(path.parent / numbered["head"]), numbered["total"], tail].add(int(numbered["number"]))
    absent = []
    for (head, total, tail), numbers in seen.items():
        gaps = (number for number in range(int(total)) if number not in numbers)
        absent += [f"{head}-{number:0{len(total)}}-of-{total}{tail}" for number, _ in zip(gaps, range(20), strict=False)]
    return absent + _gaps(files)


def begins_late(files: Sequence[str]) -> list[str]:
    """The first of the files that are numbered without a total, where it is not number 0."""
    return sorted(numbers[min(numbers)] for numbers in _series(files).values() if min(numbers) > 0)


def _gaps(files: Sequence[str]) -> list[str]:
    """What is missing between files that are numbered without a total, as train-000000.tar and train-000002.tar."""
    absent = []
    for (head, tail), numbers in _series(files).items():
        width = len(numbers[max(numbers)]) - len(head) - len(tail)
        gaps = (number for number in range(min(numbers), max(numbers)) if number not in numbers)
        absent += [f"{head}{number:0{width}}{tail}" for number, _ in zip(gaps, range(20), strict=False)]
    return absent


def _series(files: Sequence[str]) -> dict[tuple[str, str], dict[int, str]]:
    """Files by what stands before and after their number, and by the number."""
    series: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for file in files:
        if (found := _SERIES.fullmatch(file)) and not NUMBERED.fullmatch(PurePosixPath(file).name):
            series[found["head"], found["tail"]][int(found["number"])] = file
    return series
