from __future__ import annotations

import errno

import pytest

from fieldmark import api
from fieldmark.cli import main
from fieldmark.core.errors import CheckFailed, InputError, Interrupted, TrainingFailed


def code_after(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of a command that fails with this error."""

    def fail(name: str | None) -> None:
        raise error

    monkeypatch.setattr(api, "list_recipes", fail)
    with pytest.raises(SystemExit) as stop:
        main(["recipes"])
    return stop.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no such thing"), 2),
        (CheckFailed("over the budget"), 1),
        (TrainingFailed("the loss is not finite"), 1),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_kind_of_error_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_after(error, monkeypatch) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("fieldmark: ") and "Traceback" not in captured.err and captured.out == ""


@pytest.mark.parametrize(
    ("words", "option"),
    [("version", "--version"), ("help", "--help"), ("help train", "train --help"), ("help study run", "study run --help")],
)
def test_help_and_version_are_words_as_well_as_options(words: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for typed in (words, option):
        with pytest.raises(SystemExit) as stop:
            main(typed.split())
        assert stop.value.code == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def test_a_crash_is_never_exit_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "list_recipes", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["recipes"])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "Input/output error", "/mnt/photos/1.jpg"), "fieldmark: /mnt/photos/1.jpg: Input/output error\n"),
        (PermissionError(errno.EACCES, "Permission denied", b"/run"), "fieldmark: /run: Permission denied\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "fieldmark: No space left on device\nFree some space, or choose another place.\n",
        ),
    ],
)
def test_what_the_machine_refuses_is_a_line(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (code_after(error, monkeypatch), capsys.readouterr().err) == (2, said)


def test_an_empty_argument_is_an_unset_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "runs/one", ""])
    assert stop.value.code == 2 and "an argument is empty: fieldmark predict runs/one ''" in capsys.readouterr().err
