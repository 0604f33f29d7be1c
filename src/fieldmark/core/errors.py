"""The errors that a user sees: what is wrong, where it was written, what to do about it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["input", "machine"]
"""`input`: what the user gave is wrong. `machine`: a passing state, such as a full disk or data that are not mounted; it may work later."""


def escaped(text: str) -> str:
    """The text with its control characters, line ends and tabs aside, as Python writes them: a name with one does not steer a terminal."""
    return "".join(repr(each)[1:-1] if unicodedata.category(each) == "Cc" and each not in "\n\t" else each for each in text)


def reason_of(error: BaseException) -> str:
    """The first line of what another library's error says, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. As text it is the sentence that the user sees: "place: what; remedy (origin)".

    Args:
        what: what is wrong; after a place, the rest of the sentence.
        place: what `what` is said of: a recipe key, a file with a line, an option.
        remedy: what to do about it.
        origin: where the value was written: a file with a line, a preset, the command line.
        keys: the recipe keys that are involved.
        kind: what code may decide on.
    """

    what: str
    place: str = ""
    remedy: str = ""
    origin: str = ""
    keys: tuple[str, ...] = ()
    kind: Kind = "input"

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        origin = f" ({self.origin})" if self.origin else ""
        return escaped(f"{place}{self.what}{remedy}{origin}")

    def within(self, place: str) -> Problem:
        """The same problem of a part of `place`: "place: part: what"."""
        return replace(self, place=f"{place}: {self.place}" if self.place else place)

    def written(self, origin: str) -> Problem:
        """The same problem of what was written at `origin` as well."""
        return replace(self, origin=f"{self.origin}; {origin}" if self.origin else origin)


class FieldmarkError(Exception):
    """An error meant for the user; the command line prints its problems without a traceback and exits with `exit_code`.

    Several problems may be reported at once; a plain sentence is a problem without a place. `hint` says what to do about all of them.
    """

    exit_code = 1

    def __init__(self, *problems: str | Problem, hint: str | None = None):
        self.problems = tuple(Problem(each) if isinstance(each, str) else each for each in problems)
        self.hint = None if hint is None else escaped(hint)
        super().__init__("\n".join([*map(str, self.problems), *([self.hint] if self.hint else [])]))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback; IPython asks for this method."""
        return f"{type(self).__name__}: {self}".split("\n")


class InputError(FieldmarkError):
    """What the user gave cannot be used."""

    exit_code = 2


class CheckFailed(FieldmarkError):
    """The work was done but failed a check that it was asked to make (a budget, parity, a leak)."""


class TrainingFailed(FieldmarkError):
    """Training cannot go on; the last good state is kept."""


class Interrupted(FieldmarkError):
    """Stopped by Ctrl-C or SIGTERM after the state was saved."""

    exit_code = 130
