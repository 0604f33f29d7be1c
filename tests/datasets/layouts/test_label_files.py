"""Files beside images that say what is in them: what an error says of each, with a command that works."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.columns import parse

NUMBERS = range(12)
LABELS = ["gut" if number % 3 else "schlecht" for number in NUMBERS]


def images(root: Path, *folders: str) -> Path:
    for number in NUMBERS:
        file = root / folders[number % len(folders)] / f"leaf_{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def written(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def error_of(data: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data)
    return str(caught.value)


def commanded(message: str) -> tuple[str, ...]:
    """The classes that the one command of a message reads."""
    (line,) = [line for line in message.splitlines() if line.startswith("  fieldmark train ")]
    _, _, path, *given = shlex.split(line)
    settings = dict(each.removeprefix("data.").split("=", 1) for each in given)
    columns = parse(settings.pop("columns")) if "columns" in settings else None
    dataset = read_dataset(path, columns=columns, **settings)
    assert len(dataset) == len(NUMBERS) and all((dataset.root / each).is_file() for each in dataset.paths)
    return dataset.class_names


def test_a_table_with_columns_of_other_names(tmp_path: Path) -> None:
    rows = [f"leaf_{number},{30 + number},{label},{'ab'[number % 2]}" for number, label in zip(NUMBERS, LABELS, strict=True)]
    written(images(tmp_path, "train") / "daten.csv", "Nr,Alter,Befund nach Labor,Ort", *rows)
    message = error_of(tmp_path)
    assert "daten.csv lists the images in its column Nr, and could have their labels in Befund nach Labor" in message
    assert "add some or move" not in message and commanded(message) == ("gut", "schlecht")


def test_a_table_in_a_folder_of_its_own(tmp_path: Path) -> None:
    rows = [f"leaf_{number}.jpg,x{number % 5},{label}" for number, label in zip(NUMBERS, LABELS, strict=True)]
    written(images(tmp_path, "photos") / "docs" / "findings.csv", "shot,tray,finding", *rows)
    assert commanded(error_of(tmp_path)) == ("x0", "x1", "x2", "x3", "x4")


def test_a_table_above_the_folder_of_images(tmp_path: Path) -> None:
    rows = [f"leaf_{number}.jpg,{label}" for number, label in zip(NUMBERS, LABELS, strict=True)]
    written(images(tmp_path, "photos") / "train.csv", "image_id,label", *rows)
    message = error_of(tmp_path / "photos")
    assert "train.csv lists the images in its column image_id, and has their labels in label" in message
    assert commanded(message) == ("gut", "schlecht")


def test_a_table_beside_parts_of_an_archive(tmp_path: Path) -> None:
    rows = [f"{number},leaf_{number},{label},{30 + number}" for number, label in zip(NUMBERS, LABELS, strict=True)]
    written(images(tmp_path, "part_1", "part_2") / "meta.csv", "lesion,shot,finding,age", *rows)
    message = error_of(tmp_path)
    assert "part_1, part_2 are numbered parts" in message and "meta.csv lists the images in its column shot" in message
    assert "data.columns=path=shot,label=finding" in message


def spreadsheet(root: Path) -> None:
    (root / "labels.xlsx").write_bytes(b"PK")


def in_json(root: Path) -> None:
    (root / "labels.json").write_text(json.dumps({f"leaf_{number}.jpg": label for number, label in zip(NUMBERS, LABELS, strict=True)}))


def one_hot(root: Path) -> None:
    written(root / "train.csv", "image_id,rust,scab", *(f"leaf_{number},{number % 2},{1 - number % 2}" for number in NUMBERS))


def yolo(root: Path) -> None:
    for number in NUMBERS:
        written(root / "boxes" / f"leaf_{number}.txt", "0 0.5 0.5 0.2 0.2")


def regression(root: Path) -> None:
    written(root / "train.csv", "image_id,weight,height", *(f"leaf_{number},{number * 1.7},{number * 3.1}" for number in NUMBERS))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (spreadsheet, "labels.xlsx is a spreadsheet: save it as a CSV file"),
        (in_json, "labels.json names the images, in a form that is not known here: save what it says as a CSV file"),
        (one_hot, "train.csv lists the images in its column image_id, and has a column of 0 and 1 for each class (rust, scab)"),
        (yolo, "boxes holds 12 .txt files named like the images, as YOLO has"),
        (regression, "and no column that could be labels (its columns are image_id, weight, height)"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, write: Callable[[Path], None], said: str) -> None:
    write(images(tmp_path, "photos"))
    message = error_of(tmp_path)
    assert said in message and "fieldmark train" not in message


def test_other_files_are_not_named(tmp_path: Path) -> None:
    images(tmp_path, "photos")
    written(tmp_path / "README.md", "Leaves of all kinds.")
    written(tmp_path / "SHA256SUMS.txt", *(f"{hashlib.sha256(b'').hexdigest()}  photos/leaf_{number}.jpg" for number in NUMBERS))
    written(tmp_path / "sample_submission.csv", "id,label,x", *(f"leaf_{number},0,1" for number in NUMBERS))
    written(tmp_path / "other.csv", "a,b,c", "1,2,3", "2,3,4")
    (tmp_path / "broken.json").write_bytes(b"\xff\xfe{")
    assert error_of(tmp_path).endswith("outside any class folder\nPut the images of each class into a folder named after the class.")
