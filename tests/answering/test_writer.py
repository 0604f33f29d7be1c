import csv
from pathlib import Path

import numpy as np

from fieldmark.answering.answer import Answer
from fieldmark.answering.writer import answer_writer

NAMES, SHARES = ("wren", "finch", "robin"), np.array([0.5, 0.375, 0.125], np.float32)


def test_a_table_has_a_column_for_the_set_and_one_for_each_level(tmp_path: Path) -> None:
    with answer_writer(tmp_path / "t.csv", 1, ("genus", "note")) as add:
        add(Answer("a.png", NAMES[:1], SHARES[:1], "", False, NAMES[:2], {"genus": "wren", "note": "small, ones"}))
        add(Answer("b.png", (), SHARES[:0], "it is empty"))
    header, *rows = csv.reader((tmp_path / "t.csv").open(newline="", encoding="utf-8"))
    assert header == ["path", "unknown", "class_1", "probability_1", "among", "coarser_genus", "coarser_note", "note"]
    assert rows[0] == ["a.png", "no", "wren", "0.500000", "wren; finch", "wren", "small, ones", ""]
    assert rows[1] == ["b.png", "", "", "", "", "", "", "it is empty"]
