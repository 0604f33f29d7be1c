"""What is said of data before they are trained on."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.recipe.load import load_recipe
from fieldmark.datasets.loading import find_data, load_data


def test_the_table_of_splits_counts_images_that_can_be_used(birds: Path, tmp_path: Path) -> None:
    for file in birds.rglob("*.png"):
        (tmp_path / "data" / "images").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "data" / "images" / f"{file.parent.parent.name}-{file.parent.name}-{file.name}")
    names = sorted(file.name for file in (tmp_path / "data" / "images").iterdir())
    rows = [f"images/{name},{name.split('-')[1]},{name.split('-')[0]}" for name in [*names, "test-Wren-lost.png"]]
    label = rows[0].split(",")[1]
    rows[-1] = f"images/lost.png,{label},test"
    table = tmp_path / "data" / "photos.csv"
    table.write_text("\n".join(["path,label,split", *rows, ""]))
    stream = io.StringIO()
    console = Console(stream=stream)
    load_data(find_data(table, load_recipe().data, console), console)
    lines = stream.getvalue().splitlines()
    assert any(line.startswith("photos: 3 classes, 61 images, of which 1 cannot be used") for line in lines)
    (test,) = (line for line in lines if line.startswith("test "))
    assert [cell.strip() for cell in test.split("│")][:3] == ["test", "3", "12"]


def test_a_class_held_out_whose_images_cannot_be_used(birds: Path, tmp_path: Path) -> None:
    rows = [f"{file.relative_to(birds)},{file.parent.name},{file.parent.parent.name}" for file in sorted(birds.rglob("*.png"))]
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(["path,label,split", *rows, "lost.png,Owl,train", ""]))
    (tmp_path / "train").symlink_to(birds / "train")
    (tmp_path / "test").symlink_to(birds / "test")
    console = Console(stream=io.StringIO())
    data = load_data(find_data(table, load_recipe("default", ["data.unknown_classes=[Owl]"]).data, console), console)
    assert len(data.content.problems) == 1 and len(data.rows("train")) > 0
