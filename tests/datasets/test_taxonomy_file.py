from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts.table_rows import plain_name
from fieldmark.datasets.taxonomy_file import read_levels


def put(folder: Path, *lines: str, name: str = "taxa.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def error_of(file: Path, *class_names: str) -> str:
    with pytest.raises(InputError) as caught:
        read_levels(file, class_names)
    return str(caught.value)


def test_levels_in_the_order_of_the_classes(tmp_path: Path) -> None:
    file = put(tmp_path, "species,Genus,family name", "b,B,F", "other,,", "a, A ,F", "b,B,F")
    assert read_levels(file, ["a", "b"]) == {"genus": ["A", "B"], "family_name": ["F", "F"]}
    assert read_levels(file, ["b"]) == {"genus": ["B"], "family_name": ["F"]}


@pytest.mark.parametrize("header", ["species\tgenus", "bird\tgenus", "name\tgenus"])
def test_the_classes_are_in_the_first_column(tmp_path: Path, header: str) -> None:
    assert read_levels(put(tmp_path, header, "a\tA", "b\tB", name="taxa.tsv"), ["b", "a"]) == {"genus": ["B", "A"]}


@pytest.mark.parametrize("key", ["class", "Label", "name", "species"])
def test_or_in_the_one_that_is_called_so(tmp_path: Path, key: str) -> None:
    assert read_levels(put(tmp_path, f"order,genus,{key}", "O,A,a", "O,B,b"), ["a", "b"]) == {"order": ["O", "O"], "genus": ["A", "B"]}


def test_names_are_matched_in_any_spelling_of_accents(tmp_path: Path) -> None:
    assert read_levels(put(tmp_path, "class,genus", "e\u0301tourneau,Sturnus"), ["\u00e9tourneau"]) == {"genus": ["Sturnus"]}


def test_classes_that_are_missing_are_named_with_the_nearest(tmp_path: Path) -> None:
    message = error_of(put(tmp_path, "class,genus", "Carrion crow,Corvus", "Magpie,Pica"), "Carrion Crow", "Magpie", "Zebra finch")
    assert "taxa.csv: class 'Carrion Crow' of the data is not in it; 'Carrion crow' is" in message
    assert "taxa.csv: class 'Zebra finch' of the data is not in it\n" in message and "Magpie" not in message


def test_contradictions_and_blanks(tmp_path: Path) -> None:
    file = put(tmp_path, "class,genus,family", "a,A,F", "b,B,F", "c,C,", "a,X,F", "b,,F", "unknown,Q,", "unknown,R,")
    message = error_of(file, "a", "b", "c")
    assert "taxa.csv, line 5: class 'a' has two parents in genus: 'A' (taxa.csv, line 2) and 'X' (taxa.csv, line 5)" in message
    assert "taxa.csv, line 4: class 'c' has no family" in message and "taxa.csv, line 6: class 'b' has no genus" in message
    assert "unknown" not in message


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("class,species,genus", "2 columns could be the classes: class, species"),
        ("class", "has one column only"),
        ("class,genus,Genus", "has columns without a name of their own"),
        ("class,,genus", "has columns without a name of their own"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, header: str, expected: str) -> None:
    message = error_of(put(tmp_path, header, "a,A,X"), "a")
    assert "taxa.csv" in message and expected in message and "class,genus,family" in message


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    assert "taxa.txt is not a table" in error_of(put(tmp_path, "class,genus", name="taxa.txt"), "a")
    (tmp_path / "taxa.csv").touch()
    assert "taxa.csv has one column only" in error_of(tmp_path / "taxa.csv", "a")
    assert "there is no file " in error_of(tmp_path / "none.csv", "a")
    (tmp_path / "taxa.csv").write_bytes(b"class,genus\na,\xff\n")
    assert "taxa.csv, line 2: it is not UTF-8 text" in error_of(tmp_path / "taxa.csv", "a")


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(lambda text: plain_name(text) == text)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(NAMES, NAMES), min_size=1, max_size=8), st.randoms())
def test_a_taxonomy_that_is_written_is_read_back(taxa: dict[str, tuple[str, str]], randomness) -> None:
    lines = [(name, *parents) for name, parents in taxa.items()]
    randomness.shuffle(lines)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "taxa.csv"
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("class", "genus", "family"), *lines])
        assert read_levels(file, list(taxa)) == {
            "genus": [genus for genus, _ in taxa.values()],
            "family": [family for _, family in taxa.values()],
        }
