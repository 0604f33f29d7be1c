import csv
from pathlib import Path

import numpy as np
import pytest

from fieldmark.answering.answer import Answer
from fieldmark.answering.writer import AnswerWriter

NAMES, SHARES = ("wren", "finch", "robin"), np.array([0.5, 0.375, 0.125], np.float32)


@pytest.mark.parametrize(
    ("answer", "beside"),
    [
        (Answer("a.png", NAMES, SHARES), ""),
        (Answer("a.png", NAMES, SHARES, among=("wren",), coarser={"genus": "wren"}), ""),
        (Answer("a.png", NAMES, SHARES, among=NAMES, coarser={"genus": ""}), ""),
        (Answer("a.png", NAMES, SHARES, among=("wren", "robin")), " (among wren, robin)"),
        (
            Answer("a.png", NAMES, SHARES, "seen whole", among=NAMES[:2], coarser={"genus": "", "family": "small ones"}),
            " (among wren, finch; family small ones; seen whole)",
        ),
    ],
)
def test_the_terminal_says_of_sets_and_levels_what_the_classes_do_not(
    answer: Answer, beside: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with AnswerWriter(None, 3, ("genus", "family"), as_json=False, quiet=False) as answers:
        answers.add(answer)
    assert capsys.readouterr().out == f"a.png: wren 50.0 %, finch 37.5 %, robin 12.5 %{beside}\n"


def test_of_an_image_of_none_of_the_classes_nothing_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    with AnswerWriter(None, 3, ("genus",), as_json=False, quiet=False) as answers:
        answers.add(Answer("a.png", NAMES, SHARES, "", True, NAMES[:2], {"genus": "small ones"}))
    assert capsys.readouterr().out.endswith("the nearest are wren 50.0 %, finch 37.5 %, robin 12.5 %\n")


def test_a_table_has_a_column_for_the_set_and_one_for_each_level(tmp_path: Path) -> None:
    with AnswerWriter(tmp_path / "t.csv", 1, ("genus", "note"), as_json=False, quiet=True) as answers:
        answers.add(Answer("a.png", NAMES[:1], SHARES[:1], "", False, NAMES[:2], {"genus": "wren", "note": "small, ones"}))
        answers.add(Answer("b.png", (), SHARES[:0], "it is empty"))
    header, *rows = csv.reader((tmp_path / "t.csv").open(newline="", encoding="utf-8"))
    assert header == ["path", "unknown", "class_1", "probability_1", "among", "coarser_genus", "coarser_note", "note"]
    assert rows[0] == ["a.png", "no", "wren", "0.500000", "wren; finch", "wren", "small, ones", ""]
    assert rows[1] == ["b.png", "", "", "", "", "", "", "it is empty"]
