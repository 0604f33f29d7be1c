"""What a reader has to know of the images before believing figures: copies, shared groups, classes of one name or with few images."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fieldmark.core.names import shown, some
from fieldmark.datasets.dataset import SPLITS
from fieldmark.datasets.splits import straddling

_FEW = 10
_FEW_IN_VAL = 100
_NAMED = 3
_PLACES = 12
_BIASED = "so the figures are optimistically biased"


def data_cautions(images: Sequence[Mapping[str, Any]], tested: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """One sentence or two for each; none if nothing was found.

    images: rows of a split table, with path, hash, label, split and, if there are any, group and true_label. tested: images of each class
    in test, int (C,). class_names: the C names.
    """
    alike = [f"{sentence[:1].upper()}{sentence[1:]}" for sentence in twins(class_names)]
    of_val = [*_not_in_val(images, class_names), *_few_in_val(images, len(class_names))]
    return [*_copies(images), *_shared_groups(images), *alike, *of_val, *_few_images(tested)]


def twins(class_names: Sequence[str]) -> list[str]:
    """A sentence on classes whose names differ only in capitals, blanks, hyphens or how an accent is encoded; none if there are none."""
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold(), []).append(name)
    found = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    return [f"classes that differ only in capitals, blanks or hyphens: {some(found)}; are they one?"] if found else []


def _copies(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same bytes in test and in what was learnt from, several times in one split, and with several labels."""
    by_hash = defaultdict(list)
    for image in images:
        if image["hash"] and image["split"] in SPLITS:
            by_hash[image["hash"]].append(image)
    alike = [each for each in by_hash.values() if len(each) > 1]
    splits = [{row["split"] for row in each} for each in alike]
    leaked = [each for each, found in zip(alike, splits, strict=True) if "test" in found and len(found) > 1]
    within = [[row for row in each if row["split"] == split] for each in alike for split in SPLITS]
    again = [each for each in within if len(each) > 1]
    doubtful = [each for each in alike if len({_label(row) for row in each}) > 1]
    said = []
    if leaked:
        count = sum(row["split"] == "test" for each in leaked for row in each)
        are = "image of test is" if count == 1 else "images of test are"
        places = _named(leaked, lambda row: str(row["split"]))
        said.append(f"{count:,} {are} also in train or val, byte for byte, {_BIASED} ({_counted(leaked)}): {places}.")
    if again:
        used = sum(image["split"] in SPLITS for image in images)
        counts = "figures and intervals count each of them"
        copies = f"{sum(map(len, again)):,} of {used:,} images have copies in the same split, byte for byte, and {counts}"
        said.append(f"{copies} ({_counted(again)}): {_named(again)}.")
    if doubtful:
        images_lie = "image lies" if len(doubtful) == 1 else "images lie"
        several = f"{len(doubtful):,} {images_lie} in several classes at once, and at most one of these labels can be right"
        said.append(f"{several}: {_named(doubtful, _label)}.")
    return said


def _label(image: Mapping[str, Any]) -> str:
    return str(image.get("true_label", image["label"]))


def _counted(groups: Sequence[object]) -> str:
    return f"{len(groups):,} group{'s' * (len(groups) != 1)} of copies"


def _named(groups: Sequence[Sequence[Mapping[str, Any]]], mark: Callable[[Mapping[str, Any]], str] | None = None) -> str:
    """The files of each group of copies, with `mark` of each in brackets."""
    named = [[row["path"] + (f" ({mark(row)})" if mark else "") for row in each] for each in groups[:_NAMED]]
    listed = "; ".join(
        " = ".join(map(shown, each[:_PLACES])) + f" = {len(each) - _PLACES:,} more" * (len(each) > _PLACES) for each in named
    )
    more = f"; and {len(groups) - _NAMED:,} more groups" if len(groups) > _NAMED + 1 else "; and 1 more group" * (len(groups) > _NAMED)
    return f"{listed}{more}"


def _shared_groups(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """Groups, such as individuals, that test shares with train or val."""
    rows = [(image["group"], image["split"]) for image in images if "group" in image and image["split"] in SPLITS]
    tested = {group for group, split in rows if split == "test" and group >= 0}
    shared = tested & set(straddling(*map(np.array, zip(*rows, strict=True))).tolist()) if tested else set()
    if not shared:
        return []
    return [f"{len(shared):,} of {len(tested):,} groups of test also have images in train or val, {_BIASED}."]


def _not_in_val(images: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> list[str]:
    held = {_label(image) for image in images if image["split"] == "val"}
    without = [name for name in class_names if name not in held] if held else []
    if not without:
        return []
    has, them = ("has", "it") if len(without) == 1 else ("have", "them")
    chosen = f"so the best epoch, temperature and thresholds are chosen without {them}"
    return [f"{_classes(len(without))} of {len(class_names):,} {has} no images in val, {chosen}: {some(without, _NAMED)}."]


def _few_in_val(images: Sequence[Mapping[str, Any]], classes: int) -> list[str]:
    count = sum(image["split"] == "val" for image in images)
    if not 0 < count < _FEW_IN_VAL:
        return []
    has = f"Val has {count:,} image{'s' * (count != 1)}, {count / classes:.2g} a class on average"
    chosen = "the best epoch by, and to fit temperature, prediction sets and thresholds on"
    return [f"{has}: few to choose {chosen}. With other images these could be quite different."]


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


def _classes(count: int) -> str:
    return f"{count:,} class{'es' * (count != 1)}"
