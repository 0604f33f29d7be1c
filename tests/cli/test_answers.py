import numpy as np
import pytest

from fieldmark.answering.answer import Answer
from fieldmark.cli.answers import answer_line

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
def test_the_terminal_says_of_sets_and_levels_what_the_classes_do_not(answer: Answer, beside: str) -> None:
    assert answer_line(answer) == f"a.png: wren 50.0 %, finch 37.5 %, robin 12.5 %{beside}"


def test_of_an_image_of_none_of_the_classes_nothing_is_promised() -> None:
    line = answer_line(Answer("a.png", NAMES, SHARES, "", True, NAMES[:2], {"genus": "small ones"}))
    assert line.endswith("the nearest are wren 50.0 %, finch 37.5 %, robin 12.5 %")


def test_an_image_without_an_answer_says_why() -> None:
    assert answer_line(Answer("b.png", (), SHARES[:0], "it is empty")) == "b.png: no answer: it is empty"
