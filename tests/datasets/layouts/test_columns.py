from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import columns


def found(header: str, **asked: str) -> str:
    return str(columns.find("t.csv", header.split(","), asked))


def problem(header: str, **asked: str) -> str:
    with pytest.raises(InputError) as caught:
        columns.find("t.csv", header.split(","), asked)
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("path,label", "path=path,label=label"),
        ("id,File Name,CLASS-NAME", "path=File Name,label=CLASS-NAME"),
        ("image_path,target,set,specimen", "path=image_path,label=target,split=set,group=specimen"),
        ("filepath,species,partition,observation_id", "path=filepath,label=species,split=partition,group=observation_id"),
        ("img,category,subset,sequence", "path=img,label=category,split=subset,group=sequence"),
        ("path,label,order,family,genus", "path=path,label=label,parents=order family genus"),
        ("path,category,supercategory", "path=path,label=category,parents=supercategory"),
        ("path,class,make,price", "path=path,label=class,parents=make"),
        ("label,colour", "label=label"),
        ("id,breed", "path=id,label=breed"),
        ("id_code,diagnosis", "path=id_code,label=diagnosis"),
        ("Image,Id", "path=Image,label=Id"),
        ("image,level", "path=image,label=level"),
        ("lesion_id,image_id,dx,dx_type,age", "path=image_id,label=dx"),
        ("id,image_id,label,class_id", "path=image_id,label=label"),
        ("id,path", "path=path"),
        ("path,genus", "path=path,parents=genus"),
        ("image,width", "path=image"),
        ("colour", ""),
        ("", ""),
    ],
)
def test_columns_are_found_by_their_names(header: str, expected: str) -> None:
    assert found(header) == expected


@pytest.mark.parametrize(
    ("header", "box", "sized"),
    [
        ("left,top,right,bottom", (0, 1, 2, 3), False),
        ("ymax,xmax,ymin,xmin", (3, 2, 1, 0), False),
        ("X1,Y1,X2,Y2", (0, 1, 2, 3), False),
        ("bbox_x1,bbox_y1,bbox_x2,bbox_y2", (0, 1, 2, 3), False),
        ("left,top,width,height", (0, 1, 2, 3), True),
        ("x,y,w,h", (0, 1, 2, 3), True),
        ("x,y,width,height", (0, 1, 2, 3), True),
        ("bbox x,bbox y,bbox w,bbox h", (0, 1, 2, 3), True),
        ("width,height,xmin,ymin,xmax,ymax", (2, 3, 4, 5), False),
        ("left,top,right,height", None, False),
    ],
)
def test_boxes(header: str, box: tuple[int, ...] | None, sized: bool) -> None:
    chosen = columns.find("t.csv", header.split(","))
    assert (chosen.box, chosen.sized) == (box, sized)


def test_several_columns_that_could_be_the_label() -> None:
    message = problem("path,class,species,genus")
    assert "t.csv: 2 columns could be the label: class, species" in message
    assert "data.columns='label=species,parents=class'" in message
    assert found("path,class,species,genus", label="species") == "path=path,label=species,parents=genus"
    assert found("path,class,species,genus", label="species", parents="class genus").endswith("parents=class genus")
    assert found("path,class,species,genus", parents="class,genus") == "path=path,label=species,parents=class genus"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    message = problem("path,image,label,class,split,set", lable="x", group="bird")
    for expected in (
        "data.columns has no key 'lable'; did you mean label?",
        "t.csv has no column 'bird'",
        "2 columns could be the path: path, image",
        "2 columns could be the label: label, class",
        "2 columns could be the split: split, set",
    ):
        assert expected in message


def test_what_is_asked_for() -> None:
    assert found("a,b,c d,e", path="b", label="C-D") == "path=b,label=c d"
    assert found("path,label,genus", parents="label") == "path=path,parents=label"
    assert found("p,l,L", path="p", label="L") == "path=p,label=L"
    asked = columns.find("t.csv", list("plabcd"), {"path": "p", "label": "l", "box": "a+b+c+d"})
    assert asked.box == (2, 3, 4, 5) and not asked.sized and asked.asked == {"path", "label", "box"}
    assert columns.find("t.csv", ["a", "b", "bw", "bh", "box_w"], {"box": "a b box_w bh"}).sized
    assert "box=a b c should be the names of four columns" in problem("path,label,a,b,c", box="a b c")
    assert "has no column 'famly'; did you mean Family?; its columns are path, label, Family" in problem(
        "path,label,Family", parents="famly"
    )


def test_columns_of_one_name() -> None:
    assert "2 columns could be the label: label, label" in problem("path,label,label")
    assert "2 columns are called label" in problem("path,label,label", label="label")
    assert found("path,Label,label", label="label") == "path=path,label=label"
    assert "2 columns are called x" in problem("path,label,x,y,X,w,h")
    assert "2 columns are called genus" in problem("path,label,genus,Genus")
    assert found("path,label,x,x") == "path=path,label=label"


def test_only_what_is_looked_for_can_be_wrong() -> None:
    chosen = columns.find("t.csv", ["path", "label", "class", "x1", "y1", "x2", "y2"], keys=("path", "box"))
    assert chosen.label is None and chosen.box == (3, 4, 5, 6)


def test_has() -> None:
    header = ["Image", "breed"]
    assert columns.has(header, {}, "path", "label") and not columns.has(header, {}, "path", "group")
    assert columns.has(header, {"group": "breed"}, "group") and not columns.has(header, {"label": "species"}, "label")


def test_parse() -> None:
    assert columns.parse("label=species,parents=genus family,box=x1 y1 x2 y2") == {
        "label": "species",
        "parents": "genus family",
        "box": "x1 y1 x2 y2",
    }
    assert columns.parse("image=photo,label=breed") == {"image": "photo", "label": "breed"}  # for Hugging Face datasets
    assert columns.parse(" path = image file , parents=genus+family") == {"path": "image file", "parents": "genus+family"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'' should be a key, an equals sign and the name of a column"),
        ("species", "'species' should be a key"),
        ("label=", "'label=' should be a key"),
        ("=species", "'=species' should be a key"),
        ("label=a,,path=b", "'' should be a key"),
        ("label=a,label=b", "data.columns says twice what label is: 'a' and 'b'"),
        ("parent=genus", "data.columns has no key 'parent'; did you mean parents or path?"),
    ],
)
def test_what_cannot_be_parsed(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        columns.parse(text)
    assert expected in str(caught.value) and "For example data.columns='path=image" in str(caught.value)


NAMES = st.from_regex(r"[a-z]{1,6}( [a-z]{1,4})?", fullmatch=True)


@given(st.dictionaries(st.sampled_from(columns.KEYS), NAMES, min_size=1))
def test_what_is_parsed_is_what_was_written(asked: dict[str, str]) -> None:
    assert columns.parse(",".join(f"{key}={value}" for key, value in asked.items())) == asked


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        asked = columns.parse(text)
    except InputError:
        return
    assert asked and set(asked) <= set(columns.KEYS) and all(asked.values())


@given(
    st.lists(st.sampled_from(["path", "label", "Class", "split", "genus", "x", "y", "w", "h", "", "x1"]) | st.text(max_size=6), max_size=12)
)
def test_any_header_is_understood_or_refused(header: list[str]) -> None:
    try:
        chosen = columns.find("t.csv", header)
    except InputError:
        return
    places = [chosen.path, chosen.label, chosen.split, chosen.group, *chosen.parents, *(chosen.box or ())]
    taken = [place for place in places if place is not None]
    assert len(set(taken)) == len(taken) and all(0 <= place < len(header) for place in taken)
    both = chosen.path is not None and chosen.label is not None
    assert columns.may_have(header, {}, "path", "label") == both
    assert both or not columns.has(header, {}, "path", "label")


def test_a_semicolon_between_entries_is_named_and_mended():
    with pytest.raises(InputError, match="has a semicolon where a comma should be") as caught:
        columns.parse("path=Datei ;label=Art")
    assert caught.value.hint == "data.columns='path=Datei,label=Art'"
    assert columns.parse("path=a;b") == {"path": "a;b"}
