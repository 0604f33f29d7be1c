from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import LAYOUTS, columns, read_dataset
from fieldmark.datasets.layouts.class_names import MISSING
from fieldmark.datasets.layouts.table_rows import plain_name


def put(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + end).encode())
    return path


def touch(root: Path, *files: str) -> None:
    for file in files:
        put(root / file)


def rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    """(path, class name, split) of every row."""
    return list(zip(dataset.paths, dataset.label_names(), dataset.splits.tolist(), strict=True))


def error_of(data: Path, layout: str = "auto", **columns: str) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, layout, columns)
    return str(caught.value)


def notes(dataset: Dataset) -> str:
    return "\n".join(dataset.notes)


def test_a_table_is_read_with_all_its_columns(tmp_path: Path) -> None:
    file = put(
        tmp_path / "moths.csv",
        "image,species,split,genus,xmin,ymin,xmax,ymax,individual",
        "b/2.jpg,Agrotis ipsilon,train,Agrotis,1,2,11,22.5,x",
        "a/1.jpg,Noctua pronuba,val,Noctua,,,,,",
        "c/3.jpg,Agrotis segetum,test,Agrotis,0,0,5,5,x",
    )
    dataset = read_dataset(file)
    assert (dataset.name, dataset.layout, dataset.root) == ("moths", "table", tmp_path)
    assert rows(dataset) == [
        ("a/1.jpg", "Noctua pronuba", "val"),
        ("b/2.jpg", "Agrotis ipsilon", "train"),
        ("c/3.jpg", "Agrotis segetum", "test"),
    ]
    assert dataset.class_names == ("Agrotis ipsilon", "Agrotis segetum", "Noctua pronuba")
    assert dataset.boxes is not None and dataset.groups is not None
    np.testing.assert_array_equal(dataset.boxes, np.array([[np.nan] * 4, [1, 2, 11, 22.5], [0, 0, 5, 5]], np.float32))
    assert dataset.groups.tolist() == [-1, 0, 0]
    assert [(level.name, level.of_classes()) for level in dataset.levels] == [("genus", ["Agrotis", "Agrotis", "Noctua"])]
    assert (dataset.labels.dtype, dataset.groups.dtype, dataset.boxes.dtype) == (np.int32, np.int32, np.float32)
    assert "path=image,label=species,split=split,group=individual,parents=genus,box=xmin ymin xmax ymax" in notes(dataset)


def test_a_width_and_a_height_become_edges(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path / "t.csv", "path,label,x,y,width,height", "1.jpg,a,10,20,30.5,40", "2.jpg,b,,,,"))
    assert dataset.boxes is not None and dataset.boxes[0].tolist() == [10, 20, 40.5, 60] and np.isnan(dataset.boxes[1]).all()


def test_blank_boxes_and_groups_are_none_at_all(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path / "t.csv", "path,label,x1,y1,x2,y2,group", "1.jpg,a,,,,,", "2.jpg,b,,,,,"))
    assert dataset.boxes is None and dataset.groups is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "-1", "9"], ["-1", "9", "10"]),
        (["1.5", "10.0", "2.0"], ["1.5", "2.0", "10.0"]),
        (["10", "9", "b"], ["10", "9", "b"]),
        (["Zebra", "ant", "Äsche"], ["Zebra", "ant", "Äsche"]),
        ([" robin", "robin ", "wren  (winter)", "wren (winter)"], ["robin", "wren (winter)"]),
        (["e\u0301tourneau", "\u00e9tourneau", "pie"], ["pie", "\u00e9tourneau"]),
        (["1" * 5000, "2"], ["1" * 5000, "2"]),
    ],
)
def test_class_names(tmp_path: Path, labels: list[str], expected: list[str]) -> None:
    file = put(tmp_path / "t.csv", "path,label", *(f"{number}.jpg,{label}" for number, label in enumerate(labels)))
    dataset = read_dataset(file)
    assert list(dataset.class_names) == expected
    assert dataset.label_names() == [plain_name(label) for label in labels]


def test_words_for_splits(tmp_path: Path) -> None:
    words = {"train": "train", "Training": "train", "": "train", "VAL": "val", "valid": "val", "validation": "val", "dev": "val"}
    words |= {"test": "test", "testing ": "test"}
    lines = [f"{number:02d}.jpg,{'ab'[number % 2]},{word}" for number, word in enumerate(words)]
    dataset = read_dataset(put(tmp_path / "t.csv", "path,label,split", *lines))
    assert dataset.splits.tolist() == list(words.values())
    assert "left out" not in notes(dataset)


def test_other_words_for_splits_leave_images_out_whatever_they_are(tmp_path: Path) -> None:
    file = put(
        tmp_path / "t.csv",
        *("path,label,split,genus", "1.jpg,a,train,A", "2.jpg,b,test,B"),
        *("../../3.jpg,c,unseen,C", "4.jpg,a,unseen,X", "5.jpg,b,True,B"),
    )
    dataset = read_dataset(file)
    assert rows(dataset) == [("1.jpg", "a", "train"), ("2.jpg", "b", "test")]
    assert dataset.levels[0].of_classes() == ["A", "B"]
    assert "images whose split is none of train, val, test, unlabelled are left out: unseen (2), True (1)" in notes(dataset)


def test_only_other_words_for_splits(tmp_path: Path) -> None:
    message = error_of(put(tmp_path / "t.csv", "path,label,split", "1.jpg,a,0", "2.jpg,b,1"))
    assert "no labelled images" in message and "0 (1), 1 (1)" in message and "validation" in message


def test_a_blank_label(tmp_path: Path) -> None:
    lines = ["1.jpg,a,train", "2.jpg,b,train", "3.jpg,,test", "4.jpg, ,", "5.jpg,a,unlabelled", "6.jpg,,unlabeled"]
    dataset = read_dataset(put(tmp_path / "t.csv", "path,label,split", *lines))
    assert dataset.splits.tolist() == ["train", "train", *["unlabelled"] * 4]
    assert dataset.labels.tolist() == [0, 1, -1, -1, -1, -1]
    assert "labels in the split unlabelled are not read: 1" in notes(dataset)
    dataset = read_dataset(put(tmp_path / "w.csv", "path,label,split", *lines, "7.jpg,,val", "8.jpg,,train"))
    assert dataset.splits.tolist() == ["train", "train", *["unlabelled"] * 6]
    assert "rows that have no label and are unlabelled: 3; the first is in w.csv, line 5" in notes(dataset)


MISSING_LABELS = ("nan", "NaN", "None", "null", "NULL", "N/A", "n/a", "NA", "<NA>", "-", " nan ", "")


@pytest.mark.parametrize("as_parquet", [False, True])
@pytest.mark.parametrize("quote", ["", '"'])
def test_words_that_say_that_there_is_no_label(tmp_path: Path, quote: str, as_parquet: bool) -> None:
    labels = ["wren", "none", "Na", "owl", *MISSING_LABELS]
    paths = [f"{number:02d}.jpg" for number in range(len(labels))]
    if as_parquet:
        file = parquet(tmp_path / "t.parquet", path=pa.array(paths), label=pa.array(labels))
    else:
        lines = [f"{path},{quote}{label}{quote}" for path, label in zip(paths, labels, strict=True)]
        file = put(tmp_path / "t.csv", "path,label", *lines)
    dataset = read_dataset(file)
    assert dataset.class_names == ("Na", "none", "owl", "wren")
    assert dataset.splits.tolist() == ["train"] * 4 + ["unlabelled"] * len(MISSING_LABELS)
    assert f"rows that have no label and are unlabelled: {len(MISSING_LABELS)}, with nan (2), " in notes(dataset)
    assert ", blank (1); data.missing_labels=blank takes such words as classes; the first is in t." in notes(dataset)
    literal = read_dataset(file, missing_labels="blank")
    assert {"nan", "None", "N/A", "-"} < set(literal.class_names)
    assert [path for path, _, split in rows(literal) if split == "unlabelled"] == ["15.jpg"]
    assert "rows that have no label and are unlabelled: 1; the first is in t." in notes(literal)


def test_float_labels_that_are_not_numbers_are_none(tmp_path: Path) -> None:
    path = pa.array(["1.jpg", "2.jpg", "3.jpg"])
    dataset = read_dataset(parquet(tmp_path / "t.parquet", path=path, label=pa.array([1.0, float("nan"), 2.0])))
    assert dataset.splits.tolist() == ["train", "unlabelled", "train"]


def test_words_that_say_nothing_in_other_columns(tmp_path: Path) -> None:
    header = "path,label,split,individual,genus,x1,y1,x2,y2"
    lines = ("1.jpg,a,train,nan,NaN,None,None,None,None", "2.jpg,b,N/A,nan,None,1,2,3,4", "3.jpg,a,train,x,A,-,NA,,nan")
    dataset = read_dataset(put(tmp_path / "t.csv", header, *lines, "4.jpg,b,train,y,B,,,,"))
    assert dataset.splits.tolist() == ["train"] * 4 and dataset.groups is not None and dataset.groups.tolist() == [-1, -1, 0, 1]
    assert dataset.levels[0].of_classes() == ["A", "B"]
    assert dataset.boxes is not None and np.isnan(dataset.boxes).all(axis=1).tolist() == [True, False, True, True]


def test_missing_labels_have_no_effect_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "None/1.jpg", "NA/1.jpg")
    assert read_dataset(tmp_path).class_names == ("NA", "None")
    with pytest.raises(InputError, match=r"data\.missing_labels has no effect on class folders"):
        read_dataset(tmp_path, missing_labels="blank")


def test_a_column_that_is_declined(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "path,label,individual,genus,x,y,w,h,split", "1.jpg,a,q,A,1,1,2,2,test", "2.jpg,b,q,B,1,1,2,0,train")
    assert "t.csv, line 3: the box from (1, 1) to (3, 1) is empty; data.columns=box= reads the table without boxes" in error_of(file)
    dataset = read_dataset(file, columns=columns.parse("group=,box=,parents= ,split="))
    assert (dataset.groups, dataset.boxes, dataset.levels, set(dataset.splits.tolist())) == (None, None, (), {"train"})
    assert "the columns of t.csv: path=path,label=label" in dataset.notes
    for key in ("path", "label"):
        with pytest.raises(InputError, match=f"'{key}=' should be a key, an equals sign and the name of a column"):
            columns.parse(f"{key}=")


@pytest.mark.parametrize(
    "path", ["../1.jpg", "a/../../1.jpg", "/etc/passwd", "C:\\1.jpg", "c:/1.jpg", "\\\\host\\1.jpg", "", ".", "./", "a\\..\\..\\b"]
)
def test_paths_that_lead_out_of_the_folder(tmp_path: Path, path: str) -> None:
    message = error_of(put(tmp_path / "t.csv", "path,label", "1.jpg,a", f"{path},b"))
    assert "t.csv, line 3: " in message and ("which is refused" in message or "is not a path" in message)


def test_web_addresses_are_no_files(tmp_path: Path) -> None:
    assert "line 2: 'https://a.b/1.jpg' is a web address" in error_of(
        put(tmp_path / "t.csv", "path,label", "https://a.b/1.jpg,a", "2.jpg,b")
    )


def test_paths_below_the_folder_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    spellings = [f"{tmp_path}/a/1.jpg", "./a//2.jpg", "a\\3.jpg", f"{tmp_path}/link/a/4.jpg", "a/b..jpg", ".hidden/5.jpg", "a: c.jpg"]
    lines = [f"{path},{'xy'[number % 2]}" for number, path in enumerate(spellings)]
    dataset = read_dataset(put(tmp_path / "t.csv", "path,label", *lines))
    expected = ["a/1.jpg", "a/2.jpg", "a/3.jpg", "link/a/4.jpg", "a/b..jpg", ".hidden/5.jpg", "a: c.jpg"]
    assert list(dataset.paths) == sorted(expected)


def test_a_folder_reached_by_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real" / "t.csv", "path,label", f"{tmp_path}/link/1.jpg,a", f"{tmp_path.resolve()}/real/2.jpg,b")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert read_dataset(tmp_path / "link" / "t.csv").paths == ("1.jpg", "2.jpg")


def test_an_image_that_is_listed_twice(tmp_path: Path) -> None:
    message = error_of(put(tmp_path / "t.csv", "path,label", "1.jpg,a", "2.jpg,b", "./1.jpg,b"))
    assert "t.csv, line 4: the image '1.jpg' is listed twice (also in t.csv, line 2)" in message


@pytest.mark.parametrize(
    ("sides", "problem"),
    [
        ("1,2,x,4", "the box '1 2 x 4' should be four numbers"),
        ("1,2,1,4", "is empty"),
        ("1,2,,4", "is empty"),
        ("1,2,inf,4", "is empty"),
        ("1,2,3,1e9", "is empty"),
        ("5,5,4,4", "is empty"),
    ],
)
def test_boxes_that_are_none(tmp_path: Path, sides: str, problem: str) -> None:
    message = error_of(put(tmp_path / "t.csv", "path,label,left,top,right,bottom", "1.jpg,a,0,0,4,4", f"2.jpg,b,{sides}"))
    assert "t.csv, line 3: " in message and problem in message


def test_all_problems_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(
        b'path,label,split\r\n1.jpg,a,train\r\n2.jpg,"two\nlines",train\r\nshort\r\n\r\n3.jpg,b,train,extra\r\n'
        b'4.jpg,"b"c,train\r\n5\x00.jpg,b,train\r\n6.jpg,\xff,train\r\n../7.jpg,b,train\r\n1.jpg,b,val\r\n8.jpg,\x07,train\r\n9.jpg,"open,train\r\n'
    )
    message = error_of(file)
    for problem in (
        "t.csv, line 5: it has 1 fields, and the header has 3",
        "t.csv, line 7: it has 4 fields, and the header has 3",
        "t.csv, line 8: it cannot be read as CSV (',' expected after '\"'); is a quote left open?",
        "t.csv, line 9: it holds a zero byte",
        "t.csv, line 10: it is not UTF-8 text",
        "t.csv, line 11: the path '../7.jpg' leads out of the data's folder, which is refused",
        "t.csv, line 12: the image '1.jpg' is listed twice (also in t.csv, line 2)",
        "t.csv, line 13: the label '\\x07' holds control characters",
        "t.csv, line 14: it cannot be read as CSV (unexpected end of data)",
    ):
        assert problem in message
    assert message.count("t.csv, line") == 10


def test_giant_fields_and_lines(tmp_path: Path) -> None:
    giant = put(tmp_path / "field.csv", "path,label", "1.jpg,a", f"2.jpg,{'b' * 200_000}", "3.jpg,c")
    assert "field.csv, line 3: it cannot be read as CSV (field larger than field limit" in error_of(giant)
    endless = put(tmp_path / "line.csv", "path,label", "1.jpg,a", "x," * 600_000)
    assert "line.csv, line 3: it is longer than 1,000,000 characters" in error_of(endless)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "delimiter"), [("t.csv", ","), ("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", "\t"), ("T.CSV", ","), ("t.csv", ", ")]
)
def test_separators_and_ends_of_lines(tmp_path: Path, name: str, delimiter: str, end: str) -> None:
    lines = [delimiter.join(fields) for fields in (("Path", "Class Name"), ('"a, b.jpg"', "x"), ("2.jpg", '"y;z"'), ("",) * 2)]
    file = put(tmp_path / name, *lines, end=end)
    for mark in (b"", b"\xef\xbb\xbf"):
        file.write_bytes(mark + file.read_bytes())
        assert rows(read_dataset(file)) == [("2.jpg", "y;z", "train"), ("a, b.jpg", "x", "train")]


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\n1.jpg,a\n2.jpg,b")
    assert rows(read_dataset(tmp_path / "t.csv")) == [("1.jpg", "a", "train"), ("2.jpg", "b", "train")]


def test_a_header_that_says_nothing(tmp_path: Path) -> None:
    message = error_of(put(tmp_path / "t.csv", "1.jpg,a", "2.jpg,b"))
    assert (
        "t.csv has no column of paths and none of labels; its columns are 1.jpg, a" in message
        and "add one such as path,label in front" in message
    )
    assert "has no column of labels; its columns are path, colour, size" in error_of(
        put(tmp_path / "t.csv", "path,colour,size", "1.jpg,red,1")
    )
    (tmp_path / "t.csv").write_bytes(b"")
    assert "t.csv has no column of paths and none of labels; it is empty" in error_of(tmp_path / "t.csv")


def test_too_few_classes(tmp_path: Path) -> None:
    assert "only one class, 'a'" in error_of(put(tmp_path / "t.csv", "path,label", "1.jpg,a", "2.jpg,a"))
    assert "no labelled images" in error_of(put(tmp_path / "t.csv", "path,label", "1.jpg,", "2.jpg,"))


def test_columns_that_are_asked_for(tmp_path: Path) -> None:
    file = put(
        tmp_path / "t.csv",
        *("id,photo,Common Name,class,tribe,a,b,c,d,bird", "1,x/1.jpg,tit,Aves,P,1,2,3,4,q", "2,x/2.jpg,owl,Aves,S,5,6,7,8,r"),
    )
    columns = {"path": "photo", "label": "common_name", "parents": "class, tribe", "box": "a b c d", "group": "bird"}
    dataset = read_dataset(file, columns=columns)
    assert rows(dataset) == [("x/1.jpg", "tit", "train"), ("x/2.jpg", "owl", "train")]
    assert {level.name: level.of_classes() for level in dataset.levels} == {"class": ["Aves", "Aves"], "tribe": ["S", "P"]}
    assert dataset.boxes is not None and dataset.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert dataset.groups is not None and dataset.groups.tolist() == [0, 1]
    assert read_dataset(tmp_path, "table", columns).paths == dataset.paths
    assert "t.csv has no column 'foto'; did you mean photo?; its columns are id, photo" in error_of(file, path="foto", label="class")
    assert "data.columns has no key 'lable'; did you mean label?" in error_of(file, lable="class")


def test_columns_have_no_effect_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert "data.columns has no effect on class folders" in error_of(tmp_path, label="x")


GENERA = ("path,label,genus", "1.jpg,a,A", "2.jpg,b,B", "3.jpg,a,A", "4.jpg,b,C", "5.jpg,b,D")


def test_a_column_that_contradicts_itself_is_no_level(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", *GENERA)
    problem = "class 'b' has two parents in genus: 'B' (t.csv, line 3) and 'C' (t.csv, line 5)"
    dataset = read_dataset(file)
    assert dataset.levels == () and f"genus is not taken as a level: {problem}" in notes(dataset)
    assert problem in error_of(file, parents="genus")


def test_a_class_without_a_parent(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "path,label,genus,family", "1.jpg,a,,F", "2.jpg,b,B,", "3.jpg,b,B,F", "4.jpg,a,,F")
    dataset = read_dataset(file)
    assert [(level.name, level.of_classes()) for level in dataset.levels] == [("family", ["F", "F"])]
    assert "genus is not taken as a level: class 'a' has no genus" in notes(dataset)
    assert "class 'a' has no genus" in error_of(file, parents="family genus")


def test_the_table_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "shells"
    put(folder / "list.csv", "path,label", "images/1.jpg,a", "images/2.jpg,b")
    put(folder / "prices.csv", "shell,price", "a,3")
    put(folder / ".hidden.csv", "path,label", "1.jpg,a")
    touch(folder, "images/1.jpg", "images/2.jpg", "images/more/3.jpg")
    for data in (folder, tmp_path):
        dataset = read_dataset(data)
        assert (dataset.name, dataset.layout, dataset.root) == ("shells", "table", folder)
        assert dataset.notes[0].startswith("recognised as a table of images by list.csv")
    assert LAYOUTS["table"].images(dataset.root).read("images/1.jpg") == b"\n"


def test_tables_named_after_splits(tmp_path: Path) -> None:
    put(tmp_path / "train.csv", "path,label,genus", "train/1.jpg,a,A", "train/2.jpg,b,B", "train/3.jpg,a,A")
    put(tmp_path / "valid.tsv", "label\tpath\tsplit", "b\ttrain/9.jpg\t", "a\ttrain/8.jpg\ttest")
    put(tmp_path / "test.csv", "id,path", "1,test/1.jpg", "2,test/2.jpg")
    touch(tmp_path, "train/1.jpg", "test/1.jpg")
    dataset = read_dataset(tmp_path)
    assert rows(dataset) == [
        *[("test/1.jpg", "", "unlabelled"), ("test/2.jpg", "", "unlabelled")],
        *[("train/1.jpg", "a", "train"), ("train/2.jpg", "b", "train"), ("train/3.jpg", "a", "train")],
        *[("train/8.jpg", "a", "test"), ("train/9.jpg", "b", "val")],
    ]
    assert dataset.levels[0].of_classes() == ["A", "B"]
    asked = read_dataset(tmp_path, columns={"path": "path", "label": "label"})
    assert rows(asked) == rows(dataset)
    put(tmp_path / "test.csv", "path,label", "train/2.jpg,a", "test/3.jpg,")
    assert "train.csv, line 3: the image 'train/2.jpg' is listed twice (also in test.csv, line 2)" in error_of(tmp_path)
    put(tmp_path / "train.csv", "path,label", "train/1.jpg,", "train/5.jpg,a", "train/6.jpg,b")
    assert rows(read_dataset(tmp_path))[1] == ("train/1.jpg", "", "unlabelled")


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("train.csv", "more.csv"), ("val.csv", "valid.csv"), ("train.csv", "train.tsv")])
def test_several_tables_that_are_no_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        delimiter = "\t" if name.endswith(".tsv") else ","
        put(tmp_path / name, f"path{delimiter}label", f"{name}1{delimiter}a", f"{name}2{delimiter}b")
    message = error_of(tmp_path)
    assert f"holds 2 tables: {', '.join(sorted(names))}" in message and "Give one of them as DATA" in message
    assert len(read_dataset(tmp_path / names[0])) == 2


@pytest.mark.parametrize("folders", [("a", "b"), ("train/a", "train/b"), ("train/a", "test/a")])
def test_class_folders_beside_a_table(tmp_path: Path, folders: tuple[str, ...]) -> None:
    file = put(tmp_path / "list.csv", "path,label", "a/1.jpg,x", "b/1.jpg,y")
    touch(tmp_path, *(f"{folder}/1.jpg" for folder in folders))
    message = error_of(tmp_path)
    assert "in more than one way" in message and str(file) in message and "data.layout=class-folders" in message
    assert read_dataset(file).class_names == ("x", "y")
    if folders != ("train/a", "test/a"):
        assert read_dataset(tmp_path, "class-folders").class_names == ("a", "b")


def test_folders_named_after_splits_that_hold_images_are_no_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "list.csv", "path,label", "train/1.jpg,x", "test/1.jpg,y")
    touch(tmp_path, "train/1.jpg", "test/1.jpg", "val/1.jpg")
    assert read_dataset(tmp_path).class_names == ("x", "y")


def test_a_folder_without_a_table(tmp_path: Path) -> None:
    assert "holds no table" in error_of(tmp_path, "table")
    touch(tmp_path, "notes.txt")
    assert "notes.txt is not a table" in error_of(tmp_path / "notes.txt", "table")
    put(tmp_path / "only.csv", "colour,size", "red,1")
    assert "only.csv has no column of paths and none of labels; its columns are colour, size" in error_of(tmp_path, "table")


def test_a_folder_of_many_tables_is_not_one_table(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path / f"{number}.csv", "path,label", "1.jpg,a")
    assert LAYOUTS["table"].recognise(tmp_path) is None


def parquet(file: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.large_string())],
)
def test_texts_of_any_type_in_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    paths, labels = ["1.jpg", "2.jpg", "3.jpg", "4.jpg"], ["b", None, "a", "b"]
    file = parquet(tmp_path / "t.parquet", path=pa.array(paths).cast(kind), label=pa.array(labels).cast(kind))
    assert rows(read_dataset(file)) == [
        ("1.jpg", "b", "train"),
        ("2.jpg", "", "unlabelled"),
        ("3.jpg", "a", "train"),
        ("4.jpg", "b", "train"),
    ]


def test_numbers_in_parquet(tmp_path: Path) -> None:
    path = pa.array(["1.jpg", "2.jpg", "3.jpg"])
    box = {name: pa.array([value, float("nan"), None]) for name, value in (("x1", 0.1), ("y1", 1.5), ("x2", 1e3), ("y2", 2e3))}
    for label in (pa.array([10, 9, 9]), pa.array([10.0, 9.0, 9.0]), pa.array([10, 9, 9], pa.uint8())):
        dataset = read_dataset(parquet(tmp_path / "t.parquet", path=path, label=label, **box, group=pa.array([None, 5, 5])))
        assert dataset.class_names == ("9", "10") and dataset.labels.tolist() == [1, 0, 0]
        assert dataset.boxes is not None and dataset.groups is not None and dataset.groups.tolist() == [-1, 0, 0]
        np.testing.assert_array_equal(dataset.boxes, np.array([[0.1, 1.5, 1e3, 2e3], [np.nan] * 4, [np.nan] * 4], np.float32))


def test_problems_in_parquet(tmp_path: Path) -> None:
    path = pa.array([f"{number // 2}.jpg" for number in range(3)])
    message = error_of(parquet(tmp_path / "t.parquet", path=path, label=pa.array(["a", "b", "c"])))
    assert "t.parquet, record 2: the image '0.jpg' is listed twice (also in t.parquet, record 1)" in message
    message = error_of(parquet(tmp_path / "t.parquet", path=path, label=pa.array([b"\xff", b"b", b"c"])))
    assert "t.parquet: it is not a Parquet file that can be read" in message and "UTF8" in message
    file = put(tmp_path / "t.parquet", "path,label")
    assert "t.parquet: it is not a Parquet file that can be read" in error_of(file)
    message = error_of(parquet(file, path=path, label=pa.array([[1], [2], [3]])))
    assert "t.parquet has no column of labels" in message


def test_a_parquet_that_holds_the_images_is_another_layout(tmp_path: Path) -> None:
    label = pa.array(["a", "b"])
    with_struct = pa.table({"image": pa.array([{"bytes": b"x", "path": "1.jpg"}] * 2), "label": label})
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}}}
    with_binary = pa.table({"image": pa.array([b"x", b"y"]), "label": label}).replace_schema_metadata({"huggingface": json.dumps(features)})
    with_name = with_struct.append_column("file_name", pa.array(["1.jpg", "2.jpg"]))
    pq.write_table(with_name, tmp_path / "t.parquet")
    assert read_dataset(tmp_path).layout == read_dataset(tmp_path / "t.parquet").layout == "huggingface"
    for table in (with_struct, with_binary):
        pq.write_table(table, tmp_path / "t.parquet")
        assert LAYOUTS["table"].recognise(tmp_path / "t.parquet") is None and LAYOUTS["table"].recognise(tmp_path) is None
        assert "has no column of paths; its columns are label" in error_of(tmp_path / "t.parquet", "table")


def test_a_small_parquet_takes_little_memory_and_time(tmp_path: Path) -> None:
    """A long text that is written once and stands in many records; spelt out it would take 200 GB."""
    count = 200_000
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(["x" * 1_000_000]))
    paths = pa.array([f"{number}.jpg" for number in range(count)])
    file = parquet(tmp_path / "t.parquet", path=paths, label=long)
    assert "a text is longer than 131,072 characters" in error_of(file)
    assert "a text is longer than" in error_of(parquet(tmp_path / "t.parquet", path=long, label=paths))


def excel(file: Path, encoding: str) -> Path:
    lines = ["Größe;image;species", *(f"{number};{number}.jpg;{'ab'[number % 2]}" for number in range(30)), *["1;käfer.jpg;Käfer"] * 30]
    file.write_bytes("\r\n".join(lines).encode(encoding))
    return file


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_a_file_that_is_not_utf_8_is_told_once(tmp_path: Path, name: str, encoding: str) -> None:
    message = error_of(excel(tmp_path / name, encoding))
    assert message.splitlines()[0] == f"{name}, line 1: it is not UTF-8 text; save it as 'CSV UTF-8'"
    assert message.count("UTF-8 text") == 1 and "zero byte" not in message


def test_a_first_line_that_names_the_separator(tmp_path: Path) -> None:
    lines = ["image;species,name", "1.jpg;a,b", "2.jpg;c,d"]
    assert rows(read_dataset(put(tmp_path / "t.csv", "sep=;", *lines), columns={"label": "species,name"})) == [
        ("1.jpg", "a,b", "train"),
        ("2.jpg", "c,d", "train"),
    ]
    assert "t.csv, line 5: it has 1 fields" in error_of(put(tmp_path / "t.csv", "sep=;", *lines, "3.jpg"), label="species,name")
    assert len(read_dataset(put(tmp_path / "t.tsv", "sep=|", "image|species", "1.jpg|a", "2.jpg|b", end="\r\n"))) == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_image_folders_of_hugging_face(tmp_path: Path, suffix: str) -> None:
    """A metadata file next to the images of each split; that of test may lack labels."""
    for split, labelled in (("train", True), ("validation", True), ("test", False)):
        table = {"file_name": [f"{number}.png" for number in range(3)], "caption": ["a", "b", "c"]}
        table |= {"label": ["wren", "owl", "wren"]} if labelled else {}
        if suffix == ".jsonl":
            records = [dict(zip(table, row, strict=True), objects={"bbox": []}) for row in zip(*table.values(), strict=True)]
            put(tmp_path / split / "metadata.jsonl", *map(json.dumps, records))
        elif suffix == ".csv":
            put(tmp_path / split / "metadata.csv", ",".join(table), *map(",".join, zip(*table.values(), strict=True)))
        else:
            (tmp_path / split).mkdir()
            parquet(tmp_path / split / "metadata.parquet", **{name: pa.array(values) for name, values in table.items()})
        touch(tmp_path / split, *table["file_name"])
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.class_names) == ("table", ("owl", "wren"))
    assert rows(dataset)[0] == ("test/0.png", "", "unlabelled") and rows(dataset)[4] == ("train/1.png", "owl", "train")
    assert dataset.splits.tolist() == ["unlabelled"] * 3 + ["train"] * 3 + ["val"] * 3
    assert dataset.notes[0].startswith("recognised as a table of images by test/metadata") and dataset.images.read("train/0.png")


def test_one_metadata_file_for_the_folders_of_the_splits(tmp_path: Path) -> None:
    lines = ["train/1.png,a", "./train/2.png,b", "validation/1.png,a", "test/1.png,b", "other/1.png,a"]
    put(tmp_path / "metadata.csv", "file_name,label", *lines)
    dataset = read_dataset(tmp_path)
    assert dict(zip(dataset.paths, dataset.splits.tolist(), strict=True)) == {
        "train/1.png": "train",
        "train/2.png": "train",
        "validation/1.png": "val",
        "test/1.png": "test",
        "other/1.png": "train",
    }


def test_json_lines(tmp_path: Path) -> None:
    records = [{"path": "1.jpg", "label": 3}, {"label": 10, "path": "2.jpg", "extra": [1]}, {"path": "3.jpg", "label": None}]
    file = put(tmp_path / "t.jsonl", *map(json.dumps, records), "", '{"path": "4.jpg"}')
    dataset = read_dataset(file)
    assert [row[1:] for row in rows(dataset)] == [("3", "train"), ("10", "train"), ("", "unlabelled"), ("", "unlabelled")]
    file.write_bytes(file.read_bytes() + b'{"path": "5.jpg",\n[1]\n"\xff"\n' + b"[" * 50_000 + b'\n{"path": "../6.jpg", "label": "a"}\n')
    message = error_of(file)
    for problem in ("line 6: it is not JSON", "line 7: it should hold an object", "line 8: it is not UTF-8", "line 9: it is not JSON"):
        assert f"t.jsonl, {problem}" in message
    assert "t.jsonl, line 10: the path '../6.jpg' leads out" in message
    assert "t.jsonl, line 1: it is not JSON" in error_of(put(tmp_path / "t.jsonl", "path,label"))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas(tmp_path: Path, separator: str) -> None:
    lines = ("image,label,x,y,w,h", "1.jpg,a,1|5,2,3|25,4", "2.jpg,1|5,,,,")
    file = put(tmp_path / "t.csv", *(line.replace(",", separator).replace("|", ",") for line in lines))
    dataset = read_dataset(file)
    assert dataset.boxes is not None and dataset.boxes[0].tolist() == [1.5, 2, 4.75, 6]
    assert dataset.class_names == ("1,5", "a")


def test_a_comma_in_a_number_where_commas_separate(tmp_path: Path) -> None:
    message = error_of(put(tmp_path / "t.csv", "image,label,x,y,w,h", '1.jpg,a,"1,5",2,3,4', "2.jpg,b,,,,"))
    assert "t.csv, line 2: the box '1,5 2 3 4' should be four numbers" in message


def test_spaces_around_a_path(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "image,label", '" a/1.jpg  ",a', "2.jpg ,b")
    assert read_dataset(file).paths == ("2.jpg", "a/1.jpg")
    file = parquet(tmp_path / "t.parquet", path=pa.array(["1.jpg ", "\t2.jpg\n"]), label=pa.array(["a", "b"]))
    assert read_dataset(file).paths == ("1.jpg", "2.jpg")


def test_paths_that_are_wrong_in_one_way_are_told_once(tmp_path: Path) -> None:
    lines = [line for number in range(30) for line in (f"../{number}.jpg,a", f"https://x.y/{number}.jpg,b")]
    message = error_of(put(tmp_path / "t.csv", "image,label", *lines, ",a"))
    assert message.splitlines()[:3] == [
        "t.csv, line 2: the path '../0.jpg' leads out of the data's folder, which is refused: put the table into a folder above the"
        " images (and 29 more like it)",
        "t.csv, line 3: 'https://x.y/0.jpg' is a web address, and images should be files: download them first (and 29 more like it)",
        "t.csv, line 62: '' is not a path",
    ]


def test_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "image,label", "1.jpg,a", "2.jpg,", "3.jpg,b", "4.jpg,")
    assert "rows that have no label and are unlabelled: 2; the first is in t.csv, line 3" in notes(read_dataset(file))
    assert "no label" not in notes(read_dataset(put(file, "image,label,split", "1.jpg,a,", "2.jpg,,test", "3.jpg,b,")))


def test_an_unknown_table_of_images_beside_folders(tmp_path: Path) -> None:
    touch(tmp_path, "2019/1.jpg", "2020/2.jpg")
    put(tmp_path / "prices.csv", "shell;price", "a;3")
    assert read_dataset(tmp_path).class_names == ("2019", "2020")
    file = put(tmp_path / "käfer.csv", "Datei;Art", "2019/1.JPG ;Laufkäfer", "2020/2.jpg;Hirschkäfer")
    message = error_of(tmp_path)
    assert "looks like a table of images, with käfer.csv" in message and "it has Datei, Art" in message
    assert "data.columns='path=Datei,label=Art'" in message and "data.layout=class-folders" in message
    assert read_dataset(tmp_path, "class-folders").class_names == ("2019", "2020")
    assert read_dataset(file, columns={"path": "Datei", "label": "Art"}).class_names == ("Hirschkäfer", "Laufkäfer")
    file.write_bytes("Datei;Käferart\n2019/1.jpg;Laufkäfer\n".encode("cp1252"))
    assert "data.columns='path=Datei,label=Käferart'" in error_of(tmp_path)
    put(file, "Datei;Datei", "2019/1.jpg;2019/1.jpg")
    assert "it has Datei, Datei" in error_of(tmp_path)


@pytest.mark.parametrize(
    "lines", [("Datei", "1.jpg"), ("Datei;Art",), ("Datei;Art", "1.jpg;a", "2.txt;b"), ("Datei;label", "1.jpg;a"), ('"open;Art', "1.jpg")]
)
def test_other_tables_beside_folders_are_passed_over(tmp_path: Path, lines: tuple[str, ...]) -> None:
    put(tmp_path / "other.csv", *lines)
    touch(tmp_path, "2019/1.jpg", "2020/2.jpg")
    assert read_dataset(tmp_path).class_names == ("2019", "2020")


def test_an_unknown_parquet_of_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    parquet(tmp_path / "t.parquet", tags=pa.array([["x"]]), Art=pa.array(["x"]), Datei=pa.array(["1.png"]))
    assert "data.columns='path=Datei,label=Art'" in error_of(tmp_path)


def test_a_damaged_parquet_by_itself_is_named(tmp_path: Path) -> None:
    put(tmp_path / "t.parquet", "path,label")
    assert "with t.parquet, but lacks contents that can be read (t.parquet: it is not a Parquet file" in error_of(tmp_path)
    (tmp_path / "t.parquet").unlink()
    excel(tmp_path / "t.csv", "utf-16")
    assert "with t.csv, but lacks contents that can be read (t.csv, line 1: it is not UTF-8 text" in error_of(tmp_path)
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert read_dataset(tmp_path).class_names == ("a", "b")


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
    lambda text: plain_name(text) == text and text not in MISSING
)
PARTS = NAMES.map(lambda text: text.translate({ord(each): "_" for each in "/\\:"})).filter(lambda text: text not in (".", ".."))
EDGES = st.tuples(*[st.integers(0, 500)] * 2, *[st.integers(1, 500)] * 2)
RECORD = st.fixed_dictionaries(
    {
        "label": st.sampled_from(range(4)),
        "split": st.sampled_from(["train", "val", "test"]),
        "box": st.none() | EDGES,
        "group": NAMES,
    }
)


def as_csv(delimiter: str, suffix: str, quoting: int, end: str) -> Callable[[Path, dict[str, list]], Path]:
    def write(folder: Path, table: dict[str, list]) -> Path:
        with (folder / f"t{suffix}").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        return folder / f"t{suffix}"

    return write


def as_parquet(folder: Path, table: dict[str, list]) -> Path:
    pq.write_table(pa.table(table), folder / "t.parquet", row_group_size=3)
    return folder / "t.parquet"


@settings(max_examples=60, deadline=None)
@given(
    records=st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), RECORD, min_size=2, max_size=12),
    names=st.lists(NAMES, min_size=4, max_size=4, unique=True),
    parents=st.lists(NAMES, min_size=4, max_size=4),
    write=st.sampled_from(
        [
            as_csv(",", ".csv", csv.QUOTE_MINIMAL, "\n"),
            as_csv(";", ".csv", csv.QUOTE_ALL, "\r\n"),
            as_csv("\t", ".tsv", csv.QUOTE_MINIMAL, "\r"),
            as_parquet,
        ]
    ),
)
def test_a_table_that_is_written_is_read_back(
    records: dict[str, dict], names: list[str], parents: list[str], write: Callable[[Path, dict[str, list]], Path]
) -> None:
    labels = {row["label"] for row in records.values()}
    if len(labels) < 2:
        return
    table = {
        "genus": [parents[row["label"]] for row in records.values()],
        "path": list(records),
        "label": [names[row["label"]] for row in records.values()],
        "split": [row["split"] for row in records.values()],
        "group": [row["group"] for row in records.values()],
        **{side: [row["box"] and row["box"][at] for row in records.values()] for at, side in enumerate(("x", "y", "w", "h"))},
    }
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_dataset(write(Path(folder), table))
    expected = [(path, names[row["label"]], row["split"]) for path, row in sorted(records.items())]
    assert rows(dataset) == expected
    assert set(dataset.class_names) == {names[label] for label in labels}
    assert dict(zip(dataset.class_names, dataset.levels[0].of_classes(), strict=True)) == {names[label]: parents[label] for label in labels}
    for row, path in enumerate(dataset.paths):
        box = records[path]["box"]
        if box is not None:
            assert dataset.boxes is not None and dataset.boxes[row].tolist() == [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        else:
            assert dataset.boxes is None or np.isnan(dataset.boxes[row]).all()
    assert dataset.groups is not None
    group_names = [records[path]["group"] for path in dataset.paths]
    assert len(set(zip(dataset.groups.tolist(), group_names, strict=True))) == len(set(group_names)) == len(set(dataset.groups.tolist()))


def test_whole_numbers_with_a_decimal_point(tmp_path: Path) -> None:
    """As pandas writes the numbers of a column in which some are missing."""
    lines = ["path,label,genus", "a.png,10.0,x", "b.png,,", "c.png,2.0,y", "d.png,10.0,x", "e.png,2.0,x"]
    put(tmp_path / "train.csv", *lines)
    put(tmp_path / "val.csv", "path,label,genus", "f.png,2,y")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("2", "10")
    assert [label for _, label, _ in rows(dataset)] == ["10", "", "2", "10", "2", "2"]
    assert "the labels are whole numbers: 10.0 is read as 10" in dataset.notes
    assert any(note.startswith("genus is not taken as a level: class '2' has two parents in genus: 'y'") for note in dataset.notes)
    put(tmp_path / "train.csv", *lines[:-1])
    (level,) = read_dataset(tmp_path).levels
    assert level.of_classes() == ["y", "x"]


@pytest.mark.parametrize("labels", [["1.5", "2.0"], ["1.0", "two"], ["01", "02"]])
def test_labels_that_are_not_all_whole_numbers_stay_as_they_are(tmp_path: Path, labels: list[str]) -> None:
    dataset = read_dataset(put(tmp_path / "labels.csv", "path,label", *(f"{label}.png,{label}" for label in labels)))
    assert dataset.class_names == tuple(labels)


def test_of_images_that_are_left_out_nothing_else_is_said(tmp_path: Path) -> None:
    file = put(tmp_path / "t.csv", "path,label,genus", "C:\\x\\1.jpg,a,A", "C:\\x\\2.jpg,b,B")
    said = error_of(file, parents="genus")
    assert "leads out of the data's folder" in said and "has no genus" not in said


def test_the_columns_that_are_proposed_are_those_of_the_table(tmp_path: Path) -> None:
    said = error_of(put(tmp_path / "t.csv", "Nr;Datei;Art;Ort", "1;a.jpg;x;y", "2;b.jpg;z;y"))
    assert said.endswith("Say which are which: data.columns='path=Datei,label=Nr', for example.")
    assert error_of(put(tmp_path / "u.csv", "Nr;path;Art", "1;a.jpg;x")).endswith("data.columns='path=path,label=Nr', for example.")
    assert "image,label=species" not in error_of(put(tmp_path / "v.csv", "path,label", "a.jpg,x"), label="species")


def test_a_table_that_cannot_be_read_is_named_if_columns_were_given(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.jpg", "B/1.jpg")
    (tmp_path / "t.csv").write_text("Datei;Art\nA/1.jpg;A\nB/1.jpg;B\n", encoding="utf-16")
    assert "t.csv, line 1: it is not UTF-8 text; save it as 'CSV UTF-8'" in error_of(tmp_path, path="Datei", label="Art")


@pytest.mark.parametrize(("file", "name"), [("train.csv", "cars"), ("Labels.csv", "cars"), ("vans.csv", "vans")])
def test_a_table_whose_name_says_nothing_is_called_after_its_folder(tmp_path: Path, file: str, name: str) -> None:
    assert read_dataset(put(tmp_path / "cars" / file, "path,label", "a.png,x", "b.png,y")).name == name
