from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.evaluation.sample_submission import read_sample
from fieldmark.evaluation.submission import _as_in

PATHS = ["test/9a.jpg", "test/9b.jpg", "test/9c.jpg"]
BREEDS = ("African hunting dog", "pug", "Shih-Tzu")


def put(file: Path, *lines: str) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def columns(file: Path, class_names: tuple[str, ...], **asked: str) -> list[tuple[str, str | int]]:
    return _as_in(read_sample(file, PATHS), dict(asked), class_names)


@pytest.mark.parametrize("called", [("9c", "9a"), ("9c.jpg", "9a.jpg"), ("test/9c.jpg", "test/9a.jpg")])
def test_ids_in_their_order(tmp_path: Path, called: tuple[str, str]) -> None:
    file = put(tmp_path / "sample_submission.csv", "row,id,breed", f"0,{called[0]},pug", f"1,{called[1]},pug")
    sample = read_sample(file, PATHS)
    assert sample.header[sample.ids] == "id"
    assert sample.images(PATHS) == [(called[0], "test/9c.jpg"), (called[1], "test/9a.jpg")]


def test_ids_of_no_image(tmp_path: Path) -> None:
    file = put(tmp_path / "s.csv", "id,breed", "9a,pug", "9x,pug", "9y,pug")
    with pytest.raises(InputError, match=r"s\.csv has 2 ids that are no unlabelled image of the data: 9x, 9y"):
        read_sample(file, PATHS).images(PATHS)


def test_an_id_of_no_image_is_not_one_that_several_have(tmp_path: Path) -> None:
    file = put(tmp_path / "s.csv", "id,breed", "1,pug", "2,pug", "9,pug")
    paths = ["a/1.jpg", "b/1.jpg", "b/2.jpg"]
    with pytest.raises(InputError) as caught:
        read_sample(file, paths).images(paths)
    assert "s.csv has 1 id that is no unlabelled image of the data: 9\n" in str(caught.value)
    assert "s.csv has an id that could be any of several images: 1 is that of a/1.jpg, b/1.jpg\n" in str(caught.value)
    assert read_sample(file, paths[1:]).header == ("id", "breed")
    file = put(tmp_path / "s.csv", "id,breed", "2,pug")
    assert read_sample(file, paths).images(paths) == [("2", "b/2.jpg")], "others that are called alike are not asked for"


@pytest.mark.parametrize(("first", "count"), [("class_", 4), ("class_", 12), ("p(", 3)])
def test_columns_that_begin_alike(tmp_path: Path, first: str, count: int) -> None:
    names = tuple(map(str, range(10, 10 + count) if count == 3 else range(1, count + 1)))
    titles = [f"{first}{name}" for name in names]
    file = put(tmp_path / "s.csv", ",".join(["id", *titles]), ",".join(["9a", *["0"] * count]))
    assert columns(file, names) == [("id", "id"), *((title, number) for number, title in enumerate(titles))]


def test_a_column_of_probabilities_for_each_class(tmp_path: Path) -> None:
    file = put(tmp_path / "s.csv", "shih_tzu,id,pug,african_hunting_dog", "0.3,9a,0.3,0.3")
    assert columns(file, BREEDS) == [("shih_tzu", 2), ("id", "id"), ("pug", 1), ("african_hunting_dog", 0)]
    file = put(file, "id,pug,pugg,shih-tzu", "9a,0.3,0.3,0.3")
    with pytest.raises(InputError) as caught:
        columns(file, BREEDS)
    assert "it has a column 'pugg', and there is no such class (there is 'pug')" in str(caught.value)
    assert "it has no column for the classes African hunting dog" in str(caught.value)


@pytest.mark.parametrize(
    ("title", "value", "class_names", "expected"),
    [
        ("breed", "pug", BREEDS, "class"),
        ("Id", "new_whale", BREEDS, "class"),
        ("label", "", BREEDS, "class"),
        ("label", "4", tuple("01234"), "class"),
        ("label", "0", ("0", "1"), "class"),
        ("has_cactus", "0.5", ("0", "1"), 1),
        ("dog", "0.5", ("cat", "dog"), 1),
    ],
)
def test_one_column(tmp_path: Path, title: str, value: str, class_names: tuple[str, ...], expected: str | int) -> None:
    file = put(tmp_path / "s.csv", f"id,{title}", f"9a,{value}", f"9b,{value}")
    assert columns(file, class_names) == [("id", "id"), (title, expected)]


@pytest.mark.parametrize("value", ["0", "0.5"])
def test_a_column_that_says_too_little_is_asked_for(tmp_path: Path, value: str) -> None:
    file = put(tmp_path / "s.csv", "id,label", f"9a,{value}")
    with pytest.raises(InputError, match=r"its column 'label' holds .*, which are no names of classes\n.*--columns label=index"):
        columns(file, BREEDS)
    assert columns(file, BREEDS, label="index") == [("id", "id"), ("label", "index")]
    with pytest.raises(InputError, match="has no column 'lable'; did you mean label"):
        columns(file, BREEDS, lable="index")


def test_what_is_no_sample(tmp_path: Path) -> None:
    for file, what in ((tmp_path / "none.csv", "--like: there is no file "), (put(tmp_path / "s.csv", "id", "9a"), "has no records")):
        with pytest.raises(InputError, match=what):
            read_sample(file, PATHS)
    with pytest.raises(InputError, match=r"s\.csv, line 3: it has 1 fields"):
        read_sample(put(tmp_path / "s.csv", "id,label", "9a,pug", "9b"), PATHS)
