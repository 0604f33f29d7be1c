"""What a reader has to know of the images before believing figures: copies, shared groups, classes with few images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fieldmark.core.names import some
from fieldmark.datasets.dataset import SPLITS
from fieldmark.datasets.splits import straddling

_FEW = 10
_NAMED = 3
_BIASED = "so the figures are optimistically biased"


def data_cautions(images: Sequence[Mapping[str, Any]], tested: np.ndarray) -> list[str]:
    """One sentence or two for each; none if nothing was found.

    images: rows of a split table, with path, hash, label, split and, if there are any, group and true_label. tested: images of each class
    in test, int (C,).
    """
    return [*_copies(images), *_shared_groups(images), *_few_images(tested)]


def _copies(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same bytes in test and in what was learnt from, several times in one split, and with several labels."""
    by_hash = defaultdict(list)
    for image in images:
        if image["hash"] and image["split"] in SPLITS:
            by_hash[image["hash"]].append(image)
    alike = [each for each in by_hash.values() if len(each) > 1]
    leaked = [row["path"] for each in alike if {"train", "val"} & {row["split"] for row in each} for row in each if row["split"] == "test"]
    counted = len({(row["hash"], row["split"]) for each in alike for row in each})
    again = sum(map(len, alike)) - counted
    doubtful = [each[0]["path"] for each in alike if len({row.get("true_label", row["label"]) for row in each}) > 1]
    said = []
    if leaked:
        are = "is" if len(leaked) == 1 else "are"
        said.append(f"{_images(leaked)} of test {are} also in train or val, byte for byte, {_BIASED}: {some(leaked, _NAMED)}.")
    if again:
        are = "is a copy" if again == 1 else "are copies"
        used = sum(image["split"] in SPLITS for image in images)
        first = [each[0]["path"] for each in alike if len({row["split"] for row in each}) < len(each)]
        counts = "figures and intervals count each of them"
        said.append(f"{again:,} of {used:,} images {are} of others in the same split, byte for byte, and {counts}: {some(first, _NAMED)}.")
    if doubtful:
        lie = "lies" if len(doubtful) == 1 else "lie"
        several = f"{_images(doubtful)} {lie} in several classes at once, and at most one of these labels can be right"
        said.append(f"{several}: {some(doubtful, _NAMED)}.")
    return said


def _shared_groups(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """Groups, such as individuals, that test shares with train or val."""
    rows = [(image["group"], image["split"]) for image in images if "group" in image and image["split"] in SPLITS]
    tested = {group for group, split in rows if split == "test" and group >= 0}
    shared = tested & set(straddling(*map(np.array, zip(*rows, strict=True))).tolist()) if tested else set()
    if not shared:
        return []
    return [f"{len(shared):,} of {len(tested):,} groups of test also have images in train or val, {_BIASED}."]


def _few_images(counts: np.ndarray) -> list[str]:
    without, few = int((counts == 0).sum()), int(((counts > 0) & (counts < _FEW)).sum())
    said = []
    if without:
        has, them = ("has", "it") if without == 1 else ("have", "them")
        said.append(f"{_classes(without)} of {len(counts):,} {has} no images in test, so nothing is known about {them}.")
    if few:
        said.append(
            f"{_classes(few)} of {len(counts):,} {'has' if few == 1 else 'have'} fewer than {_FEW} images in test, "
            "so figures of a single class are imprecise."
        )
    return said


def _images(paths: Sequence[str]) -> str:
    return f"{len(paths):,} image{'s' * (len(paths) != 1)}"


def _classes(count: int) -> str:
    return f"{count:,} class{'es' * (count != 1)}"
