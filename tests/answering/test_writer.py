import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldmark.answering.answer import Answer
from fieldmark.answering.writer import answer_writer
from fieldmark.core.errors import InputError

NAMES, SHARES = ("wren", "finch", "robin"), np.array([0.5, 0.375, 0.125], np.float32)


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("-"), Path("/dev/null")):
        with pytest.raises(InputError, match=r"--csv names a file, which is written whole or not at all; .* is not one\nWithout --csv"):
            answer_writer(path, 1, ()).__enter__()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, used, other = (tmp_path / name for name in (f".t.csv.{ended.pid}.tmp", f".t.csv.{os.getppid()}.tmp", f".u.csv.{ended.pid}.tmp"))
    for file in (left, used, other):
        file.touch()
    with answer_writer(tmp_path / "t.csv", 1, ()):
        pass
    assert (left.exists(), used.exists(), other.exists()) == (False, True, True)


def test_a_table_has_a_column_for_the_set_and_one_for_each_level(tmp_path: Path) -> None:
    with answer_writer(tmp_path / "t.csv", 1, ("genus", "note")) as add:
        add(Answer("a.png", NAMES[:1], SHARES[:1], "", False, NAMES[:2], {"genus": "wren", "note": "small, ones"}))
        add(Answer("b.png", (), SHARES[:0], "it is empty"))
    header, *rows = csv.reader((tmp_path / "t.csv").open(newline="", encoding="utf-8"))
    assert header == ["path", "unknown", "class_1", "probability_1", "among", "coarser_genus", "coarser_note", "note"]
    assert rows[0] == ["a.png", "no", "wren", "0.500000", "wren; finch", "wren", "small, ones", ""]
    assert rows[1] == ["b.png", "", "", "", "", "", "", "it is empty"]
