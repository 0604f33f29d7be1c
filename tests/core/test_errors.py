import contextlib
import io

import pytest

from fieldmark.core.errors import CheckFailed, InputError, Interrupted, Problem, TrainingFailed


def test_a_problem_reads_as_place_what_remedy_and_origin():
    problem = Problem("expected a number, got x", place="optim.lr", remedy="leave it out", origin="a.yaml, line 3")
    assert str(problem) == "optim.lr: expected a number, got x; leave it out (a.yaml, line 3)"
    assert str(Problem("it is empty")) == "it is empty"


def test_a_problem_of_a_part_keeps_its_place_and_where_it_was_written():
    problem = Problem("it is empty", place="members", origin="a.yaml, line 3", keys=("optim.lr",))
    outer = problem.within("ensembles").written("b.yaml, line 1")
    assert str(outer) == "ensembles: members: it is empty (a.yaml, line 3; b.yaml, line 1)"
    assert outer.keys == ("optim.lr",) and outer.what == "it is empty"
    assert str(Problem("it is empty").within("data").written("here")) == "data: it is empty (here)"


def test_a_control_character_in_a_name_does_not_reach_the_terminal():
    error = InputError(Problem("it is empty", place="a\x1b[31m\r.png"), hint="Give another than a\x1b.png.\nOr none.")
    assert str(error) == "a\\x1b[31m\\r.png: it is empty\nGive another than a\\x1b.png.\nOr none."


@pytest.mark.parametrize("kind", [InputError, CheckFailed, TrainingFailed, Interrupted])
def test_sentences_become_problems_and_the_hint_comes_last(kind):
    error = kind("one is wrong", Problem("so is this", place="two", kind="machine"), hint="Fix both.")
    assert [problem.kind for problem in error.problems] == ["input", "machine"]
    assert str(error) == "one is wrong\ntwo: so is this\nFix both."
    assert kind("stopped").hint is None and str(kind("stopped")) == "stopped"


def test_a_notebook_shows_what_is_wrong_and_no_traceback(tmp_path):
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance(history_manager=None)
    shell.run_cell("import fieldmark")
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
        shell.run_cell("fieldmark.Run.load('nowhere')")
    assert printed.getvalue().strip() == "InputError: there is no run folder nowhere"


def test_what_a_notebook_shows_has_a_line_for_each_problem():
    error = InputError("one", "two", hint="Do this.")
    assert error._render_traceback_() == ["InputError: one", "two", "Do this."]
