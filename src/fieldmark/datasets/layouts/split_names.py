"""What train, val and test are called in the names of files and folders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

from fieldmark.datasets.dataset import UNLABELLED

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_FOLDER_WORDS = {
    **SPLIT_NAMES,
    "trn": "train",
    "trainval": "train",
    "dev": "val",
    "tst": "test",
    "eval": "test",
    "evaluation": "test",
    "pred": UNLABELLED,
    "predict": UNLABELLED,
    "unlabelled": UNLABELLED,
    "unlabeled": UNLABELLED,
}
_FILLERS = "set|sets|split|splits|folder|data|dataset|image|images|img|imgs|picture|pictures|pic|pics|photo|photos|jpg|jpeg|png"
_COMPOUND = re.compile(rf"({'|'.join(sorted(_FOLDER_WORDS, key=len, reverse=True))})(?:{_FILLERS})?")
_FILLER = re.compile(_FILLERS)
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


class SplitWord(NamedTuple):
    """What a folder's name says: a split, and what is left of the name without it, numbers and words such as "images" and "set"."""

    split: str
    rest: str


def split_word(folder: str) -> SplitWord | None:
    """The split in the name of a folder, as in "training_set", "images_val", "test1", "TestImages" and "seg_pred"; None without one.

    A word is no proof: "validation stamp" and "test_pilot" have one as well, and something left.
    """
    for name in (folder, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder)):
        words = re.findall(r"[^\W\d_]+", name.lower())
        found = [(word, match[1]) for word in words if (match := _COMPOUND.fullmatch(word))]
        splits = {_FOLDER_WORDS[split] for _, split in found}
        if splits == {"train", "val"}:  # as in "train_val_images"
            splits = {"train"}
        if len(splits) == 1:
            said = {word for word, _ in found}
            rest = [word for word in words if word not in said and not _FILLER.fullmatch(word)]
            return SplitWord(splits.pop(), " ".join(rest))
    return None
