"""VOC XML files: corners, what is malformed, and documents made to exhaust the reader."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fieldmark.datasets.layouts.annotations import Annotations, Box
from fieldmark.datasets.layouts.voc_xml import object_boxes

OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "<part><bndbox><xmin>1</xmin></bndbox></part></object>"
)


def read(folder: Path, content: str | bytes) -> tuple[list[Box] | None, list[str]]:
    (folder / "a").write_bytes(content.encode() if isinstance(content, str) else content)
    notes = Annotations(folder)
    return object_boxes(notes, "a"), [str(problem) for problem in notes.problems]


def test_corners_count_from_one_and_are_inclusive(tmp_path: Path) -> None:
    found = read(tmp_path, f"<annotation>{OBJECT.format('cat', 1, 3, 64, 48)}{OBJECT.format('dog', 0, 0, 9.5, 8)}</annotation>")
    assert found == ([(0, 2, 64, 48), (0, 0, 9.5, 8)], [])
    assert read(tmp_path, "\ufeff<?xml version='1.0'?><annotation/>") == ([], [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "a, line 1: it is not well-formed XML (no element found"),
        ("<annotation>\n<object>\n</annotation>", "a, line 3: it is not well-formed XML (mismatched tag"),
        (b"<annotation>\n\xff</annotation>", "a, line 2: it is not UTF-8 text"),
        ("<html></html>", "a: it holds 'html' instead of the element called annotation that VOC has"),
        (f"<annotation>{OBJECT.format('cat', 1, 1, 5, 5)}<object/></annotation>", "a, object 2: the box '   ' should be four numbers"),
        (f"<annotation>{OBJECT.format('cat', 'nan', 1, 5, 5)}</annotation>", "a, object 1: the box from (nan, 0) to (5, 5) is empty"),
        (f"<annotation>{OBJECT.format('cat', 9, 1, 5, 5)}</annotation>", "a, object 1: the box from (8, 0) to (5, 5) is empty"),
    ],
)
def test_what_is_wrong_is_noted(tmp_path: Path, content: str | bytes, problem: str) -> None:
    found, problems = read(tmp_path, content)
    assert found is None
    assert len(problems) == 1 and problems[0].startswith(problem)


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
DOCUMENT_TYPE = f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]>'


@pytest.mark.parametrize(
    "content",
    [
        f"{DOCUMENT_TYPE}<annotation>&l11;</annotation>",
        f"<?xml version='1.0'?>\n<!-- -->{DOCUMENT_TYPE}<annotation>&l11;</annotation>",
        f"<?xml version='1.0' encoding='utf-16'?>{DOCUMENT_TYPE}<annotation>&l11;</annotation>".encode("utf-16"),
        f"<?xml version='1.0' encoding='utf-16-le'?>{DOCUMENT_TYPE}<annotation>&l11;</annotation>".encode("utf-16-le"),
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><object><name>&e;</name></object></annotation>',
        "<annotation>" * 300_000,
    ],
    ids=["entities", "after a comment", "utf-16", "utf-16 without mark", "external entity", "deep"],
)
def test_hostile_documents_are_refused_at_once(tmp_path: Path, content: str | bytes) -> None:
    start = time.process_time()
    found, problems = read(tmp_path, content)
    assert found is None and len(problems) == 1
    assert time.process_time() - start < 5
