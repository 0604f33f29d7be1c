"""The errors that a user sees: what was wrong, where it came from, what to do."""

from __future__ import annotations

from collections.abc import Sequence


class FieldmarkError(Exception):
    """An error meant for the user; the command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class InputError(FieldmarkError):
    """Something that the user gave cannot be used. Several problems may be reported at once."""

    exit_code = 2

    def __init__(self, *problems: str, hint: str | None = None):
        self.problems: Sequence[str] = problems
        self.hint = hint
        super().__init__("\n".join([*problems, *([hint] if hint else [])]))


class CheckFailed(FieldmarkError):
    """The work was done but failed a check that it was asked to make (a budget, parity, a leak)."""


class TrainingFailed(FieldmarkError):
    """Training cannot go on; the last good state is kept."""


class Interrupted(FieldmarkError):
    """Stopped by Ctrl-C or SIGTERM after the state was saved."""

    exit_code = 130
