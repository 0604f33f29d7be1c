from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniatures import edit, food101, put, refusal

from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return food101.write(tmp_path)


def test_rows_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    row = dataset.paths.index("images/baby_back_ribs/1005661.jpg")
    assert (dataset.label_names()[row], dataset.splits[row]) == ("Baby back ribs", "test")


def test_the_json_files_say_the_same(root: Path) -> None:
    before = read_dataset(root)
    for split in ("train", "test"):
        images: dict[str, list[str]] = {}
        for line in (root / f"meta/{split}.txt").read_text().split():
            images.setdefault(line.partition("/")[0], []).append(line)
        put(root / f"meta/{split}.json", json.dumps(images))
    for name in ("train", "test", "classes", "labels"):
        (root / f"meta/{name}.txt").unlink()
    (root / "meta/classes.txt").write_text("apple_pie\nbaby_back_ribs\ncreme_brulee\n")
    dataset = read_dataset(root)
    assert dataset.paths == before.paths and (dataset.labels == before.labels).all() and (dataset.splits == before.splits).all()
    assert dataset.class_names == ("apple pie", "baby back ribs", "creme brulee")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("apple_pie/1005649", "pie/1005649", "meta/train.txt, line 1: there is no class 'pie' in meta/classes.txt"),
        ("apple_pie/1005649", "1005649", "meta/train.txt, line 1: '1005649' should be a class and an image"),
        ("apple_pie/1005649", "../../x", "meta/train.txt, line 1: the path '../../x.jpg' leads out"),
        ("apple_pie/1005649", "apple_pie/1005650", "the image 'images/apple_pie/1005650.jpg' is listed twice"),
    ],
)
def test_what_is_wrong_is_named(root: Path, old: str, new: str, problem: str) -> None:
    edit(root / "meta/train.txt", old, new)
    assert problem in refusal(root)
