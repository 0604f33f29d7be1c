"""Why a run did not finish: data that cross from its process to the study, so that no one has to read the words."""

from __future__ import annotations

import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fieldmark.core.errors import FieldmarkError, Interrupted, Problem

_MARK = "\0"
"""Ends whatever else a process has written to standard error; the failure follows as JSON."""

FailureKind = Literal["run", "machine", "killed", "stopped"]


class Failure(BaseModel):
    """Why a run did not finish.

    kind: `run`, its recipe or data are to blame; `machine`, the machine is, and the same may work later; `killed`, by a signal;
        `stopped`, because someone asked for it, with the state saved
    """

    model_config = ConfigDict(frozen=True)

    kind: FailureKind
    problems: tuple[Problem, ...]
    hint: str | None = None

    @property
    def text(self) -> str:
        return "\n".join([*map(str, self.problems), *([self.hint] if self.hint else [])])

    @classmethod
    def of(cls, error: FieldmarkError | OSError) -> Failure:
        if isinstance(error, OSError):
            return cls.saying(f"{type(error).__name__}: {error}", "machine")
        kind: FailureKind = "stopped" if isinstance(error, Interrupted) else "run"
        if any(problem.kind == "machine" for problem in error.problems):
            kind = "machine"
        return cls(kind=kind, problems=error.problems, hint=error.hint)

    @classmethod
    def saying(cls, what: str, kind: FailureKind) -> Failure:
        return cls(kind=kind, problems=(Problem(what),))

    def report(self) -> None:
        """Write it to standard error, for the process that reads it there."""
        print(_MARK + self.model_dump_json(), file=sys.stderr)

    @classmethod
    def reported(cls, errors: str) -> Failure | None:
        """The failure in what a process wrote to standard error; None if it reported none."""
        _, mark, text = errors.rpartition(_MARK)
        return cls.model_validate_json(text) if mark else None
