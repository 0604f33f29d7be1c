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
    test = Predictions(
        np.array([str(k) for k in range(n)]), np.array(labels, np.int32), logits, np.zeros((n, 0), np.float32), given.get("names", NAMES)
    )
    summary = a_summary(top1=90.0, test={"top1_calibrated": 80.0} if given.get("vector") else {})
    used: list[dict[str, Any]] = [
        dict(zip(("path", "hash", "label", "split"), row, strict=True)) for row in [*rows, *given.get("also", [])]
    ]
    for split, groups in given.get("groups", {}).items():
        used += [{"path": f"{split}-{k}", "hash": "", "label": "ant", "split": split, "group": group} for k, group in enumerate(groups)]
    folder = SimpleNamespace(manifest=lambda: SimpleNamespace(cautions=given.get("augmentation", ())))
    evidence: Any = SimpleNamespace(run=SimpleNamespace(summary=summary, folder=folder), used=used)
    return cautions(Assessment(evidence, test, logits, np.array([9, 9, 9]), {}, None, (), None))


VAL = [(f"v{k}", f"v{k}", "bee", "val") for k in range(100)]
FEW = [("a", "1", "ant", "train"), ("b", "2", "bee", "val"), ("c", "3", "cow", "test"), ("v", "4", "ant", "val"), ("w", "5", "cow", "val")]
FINE = [*FEW, *VAL]
ENOUGH = [0, 1, 2] * 10


def test_nothing_is_said_where_nothing_was_found() -> None:
    assert said(FINE, ENOUGH) == []


def test_what_was_found_of_the_augmentation_is_repeated() -> None:
    assert said(FINE, ENOUGH, augmentation=("A flip.",)) == ["A flip."]


def test_copies_name_the_files_of_each_group() -> None:
    in_1 = "(1 group of copies)"
    leak, again = said([*FINE, ("d", "1", "ant", "test"), ("e", "1", "ant", "test")], ENOUGH)
    assert leak.startswith("2 images of test are also in train or val, byte for byte, so the figures are optimistically biased")
    assert leak.endswith(f"{in_1}: a (train) = d (test) = e (test).")
    assert (
        again
        == f"2 of 107 images have copies in the same split, byte for byte, and figures and intervals count each of them {in_1}: d = e."
    )
    assert said([*FINE, ("d", "1", "ant", "unknown"), ("e", "", "ant", "train"), ("f", "", "bee", "test")], ENOUGH) == []
    _, doubt = said([*FINE, ("d", "1", "bee", "train"), ("e", "1", "cow", "val")], ENOUGH)
    several = "1 image lies in several classes at once, and at most one of these labels can be right"
    assert doubt == f"{several}: a (ant) = d (bee) = e (cow)."
    many = [(f"{split}{k}", f"h{k}", "ant", split) for k in range(5) for split in ("train", "test")]
    (leak,) = said([*FINE, *many], ENOUGH)
    assert leak.startswith("5 images of test are") and "(5 groups of copies): train0 (train) = test0 (test); train1" in leak
    assert leak.endswith("train2 (train) = test2 (test); and 2 more groups.")
    (blank,) = said([*FINE, *((f"b{k}", "blank", "ant", "train") for k in range(1000))], ENOUGH)
    assert blank.startswith("1,000 of 1,105 images have copies") and blank.endswith(" = b11 = 988 more.")


def test_classes_of_one_name_and_classes_that_val_lacks() -> None:
    (alike,) = said(FINE, ENOUGH, names=("ant", "Ant", "cow"), also=[("x", "8", "Ant", "val")])
    assert alike == "Classes that differ only in capitals, blanks or hyphens: 'ant' and 'Ant'; are they one?"
    (lacking,) = said([*FEW[:3], *VAL], ENOUGH)
    assert lacking.startswith("2 classes of 3 have no images in val, so ") and lacking.endswith(" without them: ant, cow.")


def test_few_images_of_val_for_all_that_is_chosen_and_fitted_on_them() -> None:
    (few,) = said([*FEW, *VAL[:21]], ENOUGH)
    assert few == (
        "Val has 24 images, 8 a class on average: few to choose the best epoch by, and to fit temperature, prediction sets and thresholds "
        "on. With other images these could be quite different."
    )
    assert len(said([*FEW, *VAL[:96]], ENOUGH)) == 1 and said([*FEW, *VAL[:97]], ENOUGH) == []
    assert said([row for row in FEW if row[3] != "val"], ENOUGH) == [], "a run without val chooses and fits nothing on it"


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
