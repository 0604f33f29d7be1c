"""Names that look alike to a person and are different bytes."""

from pathlib import Path
from unicodedata import normalize

import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.disk_names import DiskNames


def put(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")


def test_a_path_is_found_in_the_spelling_of_the_disk(tmp_path: Path) -> None:
    put(tmp_path, normalize("NFD", "Grün/Größe.jpg"), "Grün2/a.JPG", "both/a.jpg", "both/a.JPG", "both/b.Jpg", "both/b.JPG")
    names = DiskNames(tmp_path)
    assert names.spelling("Grün/Größe.jpg") == normalize("NFD", "Grün/Größe.jpg")
    assert names.spelling(normalize("NFD", "Grün2/a.JPG")) == "Grün2/a.JPG"
    assert names.spelling("Grün2/a.jpg") == "Grün2/a.JPG"
    assert names.spelling("both/a.JPG") == "both/a.JPG"
    assert names.spelling("both/b.jpg") is None, "it could be either"
    assert names.spelling("Grün2/A.JPG") is None and names.spelling("none/a.jpg") is None


@pytest.mark.parametrize(("table", "disk"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("paths", [("Größe/ä.jpg", "Größe/ö.jpg"), ("ä.jpg", "ö.jpg"), ("ä", "ö")])
def test_a_table_with_accents_in_other_code_points_finds_its_images(tmp_path: Path, table: str, disk: str, paths: tuple[str, str]) -> None:
    put(tmp_path, *(normalize(disk, f"Größe/{path.removeprefix('Größe/').removesuffix('.jpg')}.jpg") for path in paths))
    file = tmp_path / "t.csv"
    file.write_text("\n".join(["path,label", *(normalize(table, f"{path},{kind}") for path, kind in zip(paths, "ab", strict=True))]))
    dataset = read_dataset(file)
    assert all((tmp_path / path).is_file() for path in dataset.paths)
    assert dataset.label_names() == ["a", "b"]


def test_an_ending_in_capitals_is_found_and_said(tmp_path: Path) -> None:
    put(tmp_path, "1.JPG", "2.jpg", "3.JPG")
    (tmp_path / "t.csv").write_text("path,label\n1.jpg,a\n2.jpg,b\n3.jpg,b")
    dataset = read_dataset(tmp_path / "t.csv")
    assert dataset.paths == ("1.JPG", "2.jpg", "3.JPG")
    assert "2 of the images are spelt otherwise in the table than on disk, and found: 1.jpg is 1.JPG, for example" in dataset.notes


def test_two_spellings_of_one_image_are_one_image_twice(tmp_path: Path) -> None:
    put(tmp_path, "1.JPG")
    (tmp_path / "t.csv").write_text("path,label\n1.jpg,a\n1.JPG,b")
    with pytest.raises(InputError, match=r"line 3: the image '1.JPG' is listed twice"):
        read_dataset(tmp_path / "t.csv")
