"""What a reader has to know before believing a run's figures: faults of its data, and of how they were used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fieldmark.core.names import some
from fieldmark.core.summary import SplitMetrics
from fieldmark.datasets.dataset import SPLITS
from fieldmark.datasets.splits import straddling
from fieldmark.evaluation.assessment import Assessment
from fieldmark.evaluation.run import Run

_FEW = 10
_NAMED = 3
_BIASED = "so the figures are optimistically biased"


def cautions(found: Assessment) -> list[str]:
    """One sentence or two for each; none if nothing was found."""
    run, images = found.evidence.run, found.evidence.used
    return [
        *_copies(images),
        *_shared_groups(images),
        *_few_images(found),
        *_no_answers(found),
        *_vector_scaling(run.summary.test),
        *_refitted(run, found),
    ]


def _copies(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same bytes in test and in what was learnt from, and the same bytes with several labels."""
    by_hash = defaultdict(list)
    for image in images:
        if image["hash"] and image["split"] in ("train", "val", "test"):
            by_hash[image["hash"]].append(image)
    alike = [each for each in by_hash.values() if len(each) > 1]
    leaked = [row["path"] for each in alike if {"train", "val"} & {row["split"] for row in each} for row in each if row["split"] == "test"]
    doubtful = [each[0]["path"] for each in alike if len({row["label"] for row in each}) > 1]
    said = []
    if leaked:
        are = "is" if len(leaked) == 1 else "are"
        said.append(f"{_images(leaked)} of test {are} also in train or val, byte for byte, {_BIASED}: {some(leaked, _NAMED)}.")
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


def _few_images(found: Assessment) -> list[str]:
    counts = np.bincount(found.test.labels, minlength=len(found.test.class_names))
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


def _no_answers(found: Assessment) -> list[str]:
    unanswered = int((found.predicted < 0).sum())
    return [f"{unanswered:,} of {len(found.test):,} images of test have an output that is not a finite number."] if unanswered else []


def _vector_scaling(test: SplitMetrics) -> list[str]:
    calibrated, _, _ = test.interval("top1_calibrated")
    if calibrated is None:
        return []
    return [
        f"Vector scaling, fitted on val, changes answers: {calibrated:.1f} % are right and not {test.top1:.1f} %. "
        "predict and all below the first figures go by it."
    ]


def _refitted(run: Run, found: Assessment) -> list[str]:
    if found.decisions is None or not run.has_learnt_val:
        return []
    return ["Temperature, threshold and sets were fitted on the predictions of val before the refit, and the network has changed since."]


def _images(paths: Sequence[str]) -> str:
    return f"{len(paths):,} image{'s' * (len(paths) != 1)}"


def _classes(count: int) -> str:
    return f"{count:,} class{'es' * (count != 1)}"
