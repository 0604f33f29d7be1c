from __future__ import annotations

import pytest

from fieldmark import api
from fieldmark.cli import main
from fieldmark.core.errors import CheckFailed, InputError, Interrupted, TrainingFailed


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
    def fail(name: str | None) -> None:
        raise error

    monkeypatch.setattr(api, "list_recipes", fail)
    with pytest.raises(SystemExit) as stop:
        main(["recipes"])
    assert stop.value.code == code
    captured = capsys.readouterr()
    assert captured.err.startswith("fieldmark: ") and "Traceback" not in captured.err and captured.out == ""


def test_a_crash_is_never_exit_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "list_recipes", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["recipes"])
