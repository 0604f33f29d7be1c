"""What train, val and test are called in the names of files and folders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
NUMBERED = re.compile(r"(?P<head>.+)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})(?P<tail>.*)")
"""As in train-00000-of-00005.parquet."""


def split_of(file: str) -> str | None:
    """The split that a file's name says, or else the folders that it is in: train, val, test, or the name of another; None for none.

    "birds_train_0001.tar" and "validation/0000.parquet" say it by a word; the whole name of a split stands before "-00000-of-00005".
    """
    other = None
    for part in reversed(PurePosixPath(file).parts):
        if numbered := NUMBERED.fullmatch(part):
            word = numbered["head"].rpartition("-")[2]
            other = other or word
            words = {word.lower()}
        else:
            words = set(re.findall(r"[a-z]+", part.lower()))
        splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if len(splits) == 1:
            return splits.pop()
    return other
