from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.datasets.boxes_file import given_boxes, read_boxes


def put(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def error_of(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_boxes(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        ([1, 2, 3, 4], "boxes are a table, or a dictionary {path: (left, top, right, bottom)}, not a list"),
        (3, "not 3 (int)"),
        ({"a.jpg": "abc"}, "the box of a.jpg: 'abc' (str) is not four numbers"),
        ({"a.jpg": None}, "the box of a.jpg: None is not four numbers"),
        ({"a.jpg": (1, 2, 3)}, "the box of a.jpg: it has 3 numbers, not four"),
        ({"a.jpg": (float("nan"), 1, 2, 3)}, "the box of a.jpg: (nan, 1, 2, 3) are not all finite"),
        ({"a.jpg": (5, 1, 2, 3)}, "the box of a.jpg: (5, 1, 2, 3) has no area"),
        ({7: (0, 0, 9, 9)}, "an image is named by its path, not 7 (int)"),
    ],
)
def test_what_is_no_box_is_refused(boxes: object, wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        given_boxes(boxes)  # type: ignore[arg-type]
    assert wanted in str(caught.value)


def test_paths_are_beside_the_table_or_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("tables/beside.jpg", "tables/both.jpg", "here/both.jpg", "outside.jpg"):
        put(tmp_path / file)
    (tmp_path / "here" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    monkeypatch.chdir(tmp_path / "here")
    names = ["beside.jpg", "both.jpg", "sub/../only.jpg", "../outside.jpg", "link.jpg", f"{tmp_path}/x/../absolute.jpg"]
    table = put(
        tmp_path / "tables" / "boxes.csv", "path,left,top,right,bottom", *(f"{name},0,1,{10 + at},20" for at, name in enumerate(names))
    )
    expected = ["tables/beside.jpg", "tables/both.jpg", "here/only.jpg", "outside.jpg", "here/link.jpg", "absolute.jpg"]
    boxes = {str(tmp_path / name): (0.0, 1.0, 10.0 + at, 20.0) for at, name in enumerate(expected)}
    assert read_boxes(table) == boxes
    monkeypatch.chdir(tmp_path)
    assert list(read_boxes(Path("tables/boxes.csv")))[:2] == [str(tmp_path / name) for name in expected[:2]]


def test_widths_and_blanks_and_columns_that_do_not_matter(tmp_path: Path) -> None:
    table = put(tmp_path / "boxes.tsv", "label\tclass\tfile\tx\ty\tw\th", "a\tb\t1.jpg\t1\t2\t3\t4.5", "a\tb\t2.jpg\t\t\t\t")
    assert read_boxes(table) == {os.path.abspath("1.jpg"): (1.0, 2.0, 4.0, 6.5)}


def test_parquet(tmp_path: Path) -> None:
    sides = {name: pa.array([value, None]) for name, value in (("xmin", 1.5), ("ymin", 2.0), ("xmax", 3.0), ("ymax", 4.0))}
    pq.write_table(pa.table({"path": pa.array(["/1.jpg", "/2.jpg"]), **sides}), tmp_path / "boxes.parquet")
    assert read_boxes(tmp_path / "boxes.parquet") == {"/1.jpg": (1.5, 2.0, 3.0, 4.0)}


def test_problems_with_their_lines(tmp_path: Path) -> None:
    lines = ["a/1.jpg,1,2,3,4", "a/2.jpg,1,2,x,4", "a/3.jpg,3,2,1,4", "a/../a/1.jpg,1,2,3,4", ",1,2,3,4", "a/4.jpg,1,,3,4", "a/5.jpg,1"]
    message = error_of(put(tmp_path / "boxes.csv", "path,x1,y1,x2,y2", *lines))
    for problem in (
        "boxes.csv, line 3: the box '1 2 x 4' should be four numbers",
        "boxes.csv, line 4: the box from (3, 2) to (1, 4) is empty",
        "boxes.csv, line 5: the image 'a/../a/1.jpg' is listed twice (also in boxes.csv, line 2)",
        "boxes.csv, line 6: '' is not a path",
        "boxes.csv, line 7: the box '1  3 4' should be four numbers",
        "boxes.csv, line 8: it has 2 fields, and the header has 5",
    ):
        assert problem in message


def test_files_that_are_no_tables_of_boxes(tmp_path: Path) -> None:
    assert "has no column of boxes; its columns are path, label" in error_of(put(tmp_path / "t.csv", "path,label", "1.jpg,a"))
    assert "has no column of paths and none of boxes" in error_of(put(tmp_path / "t.csv", "colour", "red"))
    assert "2 columns could be the path: path, file" in error_of(put(tmp_path / "t.csv", "path,file,x,y,w,h"))
    assert "there is no file " in error_of(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfep\0")
    assert "t.csv, line 1: " in error_of(tmp_path / "t.csv")


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters='/"\\,'), min_size=1, max_size=8)
EDGES = st.lists(st.floats(-1e4, 1e6, width=32), min_size=2, max_size=2, unique=True).map(sorted)
BOXES = st.builds(lambda across, down: (across[0], down[0], across[1], down[1]), EDGES, EDGES).filter(
    lambda box: not 0 < max(box) <= 1  # those are refused as shares of an image
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name not in (".", "..")), BOXES, max_size=6))
def test_boxes_that_are_written_are_read_back(boxes: dict[str, tuple[float, float, float, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [f'"{path}",{",".join(map(repr, box))}' for path, box in boxes.items()]
        table = put(Path(folder) / "boxes.csv", "path,left,top,right,bottom", *lines)
        for path in boxes:
            (Path(folder) / path).touch()
        assert read_boxes(table) == {os.path.join(folder, path): box for path, box in boxes.items()}
