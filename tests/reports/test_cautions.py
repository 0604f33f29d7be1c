from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fieldmark.evaluation.assessment import Assessment
from fieldmark.reports.cautions import cautions
from fieldmark.scoring.predictions import Predictions
from records import a_summary

NAMES = ("ant", "bee", "cow")


def said(rows: list[tuple[str, str, str, str]], labels: list[int], **given: Any) -> list[str]:
    """Cautions of a run with these rows of path, hash, label and split, whose test has these labels."""
    n = len(labels)
    logits = 5 * np.eye(3, dtype=np.float32)[labels]
    logits[given.get("broken", []), 0] = np.nan
    test = Predictions(np.array([str(k) for k in range(n)]), np.array(labels, np.int32), logits, np.zeros((n, 0), np.float32), NAMES)
    summary = a_summary(top1=90.0, test={"top1_calibrated": 80.0} if given.get("vector") else {})
    used: list[dict[str, Any]] = [dict(zip(("path", "hash", "label", "split"), row, strict=True)) for row in rows]
    for split, groups in given.get("groups", {}).items():
        used += [{"path": f"{split}-{k}", "hash": "", "label": "ant", "split": split, "group": group} for k, group in enumerate(groups)]
    folder = SimpleNamespace(manifest=lambda: SimpleNamespace(cautions=given.get("augmentation", ())))
    evidence: Any = SimpleNamespace(run=SimpleNamespace(summary=summary, folder=folder), used=used)
    return cautions(Assessment(evidence, test, logits, np.array([9, 9, 9]), {}, None, (), None))


FINE = [("a", "1", "ant", "train"), ("b", "2", "bee", "val"), ("c", "3", "cow", "test")]
ENOUGH = [0, 1, 2] * 10


def test_nothing_is_said_where_nothing_was_found() -> None:
    assert said(FINE, ENOUGH) == []


def test_what_was_found_of_the_augmentation_is_repeated() -> None:
    assert said(FINE, ENOUGH, augmentation=("A flip.",)) == ["A flip."]


def test_copies_across_splits_and_across_classes() -> None:
    (leak,) = said([*FINE, ("d", "1", "ant", "test"), ("e", "2", "bee", "test")], ENOUGH)
    assert leak == "2 images of test are also in train or val, byte for byte, so the figures are optimistically biased: d, e."
    (again,) = said([*FINE, ("d", "3", "cow", "test"), ("e", "3", "cow", "test")], ENOUGH)
    assert again == "2 of 5 images are copies of others in the same split, byte for byte, and figures and intervals count each of them: c."
    assert said([*FINE, ("d", "1", "ant", "unknown"), ("e", "", "ant", "train"), ("f", "", "bee", "test")], ENOUGH) == []
    _, doubt = said([*FINE, ("d", "1", "bee", "train")], ENOUGH)
    assert doubt == "1 image lies in several classes at once, and at most one of these labels can be right: a."
    many = [(f"t{k}", f"h{k}", "ant", split) for k in range(5) for split in ("train", "test")]
    assert said(many, ENOUGH)[0].endswith("t0, t1, t2 and 2 more.")


def test_groups_that_test_shares() -> None:
    (one,) = said(FINE, ENOUGH, groups={"train": [1, 2, -1], "val": [3], "test": [3, 4, 5, -1]})
    assert one == "1 of 3 groups of test also have images in train or val, so the figures are optimistically biased."
    assert said(FINE, ENOUGH, groups={"train": [1, -1], "test": [2, -1]}) == []
    assert said(FINE, ENOUGH, groups={"train": [1, 2], "val": [1, 2], "test": [3], "unknown": [3]}) == [], "test shares none of them"


def test_classes_with_few_images_or_none() -> None:
    none, few = said(FINE, [0] * 20 + [1] * 3)
    assert none == "1 class of 3 has no images in test, so nothing is known about it."
    assert few.startswith("1 class of 3 has fewer than 10 images in test")


def test_answers_that_are_no_number_and_scaling_that_changes_answers() -> None:
    broken, vector = said(FINE, ENOUGH, broken=[3, 4], vector=True)
    assert broken == "2 of 30 images of test have an output that is not a finite number."
    assert "Vector scaling, fitted on val, changes answers: 80.0 % are right and not 90.0 %" in vector
