"""Why a run did not finish, told by its process."""

import errno
import subprocess
import sys
import tempfile

import pytest

from fieldmark.core.errors import InputError, Interrupted, Problem, TrainingFailed
from fieldmark.studies.failure import Failure
from fieldmark.studies.worker_process import WorkerProcess

FULL = Problem("no space left on the disk that holds runs", kind="machine")
WRONG = Problem("expected a number", place="optim.lr", origin="study.yaml:3", keys=("optim.lr",))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InputError(WRONG, hint="Try 0.1."), "run", "optim.lr: expected a number (study.yaml:3)\nTry 0.1."),
        (InputError(WRONG, FULL), "machine", f"{WRONG}\n{FULL}"),
        (OSError(errno.EIO, "Input/output error", "a.jpg"), "machine", "OSError: [Errno 5] Input/output error: 'a.jpg'"),
        (TrainingFailed("the loss is not finite"), "run", "the loss is not finite"),
        (Interrupted("stopped. Continue with: fieldmark resume a"), "stopped", "stopped. Continue with: fieldmark resume a"),
    ],
)
def test_a_failure_keeps_its_kind_and_its_problems_between_processes(error, kind, text, capsys):
    failure = Failure.of(error)
    assert (failure.kind, failure.text) == (kind, text)
    print("a warning of a library", file=sys.stderr)
    failure.report()
    assert Failure.reported(capsys.readouterr().err) == failure
    assert not isinstance(error, InputError) or failure.problems == error.problems


def ended(code):
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    return WorkerProcess(subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=errors), errors).end()


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed", "the process was killed by signal 9 (out of memory?)"),
        ("import os; os.kill(os.getpid(), 15)", "killed", "the process was killed by signal 15"),
        ("import os; os._exit(3)", "machine", "the process exited with status 3 and no error message"),
        ("raise SystemExit(130)", "stopped", "stopped"),
        ("raise RuntimeError('no space left')", "run", "RuntimeError: no space left"),
    ],
)
def test_a_process_that_reports_nothing_is_judged_by_how_it_ended(code, kind, text):
    failure = ended(code)
    assert (failure.kind, failure.text) == (kind, text)


def test_a_process_that_ends_well_has_no_failure():
    assert ended("print('a warning', file=__import__('sys').stderr)") is None
