from __future__ import annotations

from pathlib import Path

from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.overview import overview


def test_classes_of_one_size_are_said_once(tmp_path: Path) -> None:
    for path in ("wren/1.png", "wren/2.png", "tit/1.png", "tit/2.png"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert "2 labelled images in each class" in overview(read_dataset(tmp_path)).lines()
    (tmp_path / "wren/3.png").touch()
    assert "labelled images a class: from 2 (tit) to 3 (wren)" in overview(read_dataset(tmp_path)).lines()
