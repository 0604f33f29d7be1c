from __future__ import annotations

from xml.etree import ElementTree

import pytest

from fieldmark.reports.charts.svg import compact, page_element

START = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" viewBox="0 0 9 9">'


def element(inside: str) -> ElementTree.Element:
    colours = {"#0072b2": "var(--train)", "#000000": "currentColor"}
    return ElementTree.fromstring(page_element(f"{START}{inside}</svg>", colours, "a line & a dot"))


def test_colours_become_those_of_the_page_and_text_is_left_alone() -> None:
    svg = element('<text style="font: 8px Sans; fill: #000000">#0072b2: d="M 1.2345 2"</text><path style="fill: none; stroke: #0072b2"/>')
    text, path = svg
    assert text.get("style") == "font: 8px Sans; fill: currentColor" and text.text == '#0072b2: d="M 1.2345 2"'
    assert path.get("style") == "fill: none; stroke: var(--train)"
    assert (svg.get("viewBox"), svg.get("aria-label"), svg.get("width")) == ("0 0 9 9", "a line & a dot", None)


def test_a_colour_that_no_page_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="#123456"):
        element('<path style="fill: #123456"/>')


def test_only_identifiers_that_are_used_stay_and_names_of_groups_become_classes() -> None:
    svg = element(
        '<defs><path id="m1"/></defs><g id="line2d_1"><use xlink:href="#m1"/></g><g id="rung-1" clip-path="url(#p1)"/>'
        '<g id="patch_2"/><clipPath id="p1"/><clipPath id="p2"/>'
    )
    found = [(each.tag, each.get("id"), each.get("class"), each.get("href")) for each in svg.iter()][1:]
    assert found == [
        ("defs", None, None, None),
        ("path", "m1", None, None),
        ("g", None, None, None),
        ("use", None, None, "#m1"),
        ("g", None, "rung-1", None),
        ("g", None, None, None),
        ("clipPath", "p1", None, None),
        ("clipPath", None, None, None),
    ]


def test_rules_of_style_that_would_apply_to_the_whole_page_are_left_out() -> None:
    assert [each.tag for each in element("<defs><style>*{stroke-linejoin: round}</style></defs><g/>").iter()] == ["svg", "g"]


def test_compact_paths_are_the_same_paths() -> None:
    assert compact("M 1.004 2.000 \nL 3.5 2.001 \nL 3.5 7 \nL 4 8 \nz\n") == "M1 2H3.5V7L4 8z"
    assert compact("M 0 0 C 1.239 2 3 4 5 6 L 5 7 z M 1 1 L 5 7") == "M0 0C1.24 2 3 4 5 6V7zM1 1L5 7"
    assert compact("") == ""
