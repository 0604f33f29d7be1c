"""A question to the user: what was found, and the commands that answer it."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import some, typed
from fieldmark.datasets.layouts.class_levels import class_folders_at, merged, paths_of, said_of_merged, splits_by_name
from fieldmark.datasets.layouts.folder_survey import Survey

_DEEPEST = 5


@dataclass(frozen=True)
class Choice:
    """A command, and what it does."""

    command: str
    meaning: str

    def __str__(self) -> str:
        return f"  {self.command}\n      {self.meaning}"


_ASKED_BY: ContextVar[str] = ContextVar("asked_by", default="fieldmark train")


@contextmanager
def asked_by(*words: str) -> Iterator[None]:
    """In the `with` block, questions are answered by this command, which DATA follows; otherwise by `fieldmark train`."""
    token = _ASKED_BY.set(shlex.join(["fieldmark", *words]))
    try:
        yield
    finally:
        _ASKED_BY.reset(token)


def command(data: str | Path, *settings: str) -> str:
    """The command that reads a folder or file, to be copied: the one that was typed, with other DATA and settings."""
    return " ".join([_ASKED_BY.get(), typed(data), *settings])


def question(what: str, reasons: Sequence[str], choices: Sequence[Choice]) -> InputError:
    """The error that asks it."""
    choices = list(dict.fromkeys(choices))
    hint = "Say which is meant with one of these commands:" if len(choices) > 1 else "This reads it:"
    return InputError(what, *(f"  {reason}" for reason in reasons), hint="\n".join([hint, *map(str, choices)]) if choices else None)


def level_choices(survey: Survey, base: str = "") -> list[Choice]:
    """A choice for each folder level below `base` that can name the classes, and for several together if one does not tell them apart."""
    above = base.count("/") + 1 if base else 0
    depths = {path.count("/") + 1 for path in survey.below("") if path and survey.images_in(path)}
    levels: list[tuple[int, int | None]] = []
    for level in range(above + 1, min(max(depths, default=0), above + _DEEPEST) + 1):
        levels.append((level, level))
        first = _telling_apart(survey, level, above)
        levels += [(first, level)] if first < level else []
    if len(depths) > 1 and max(depths) > (first := max(min(depths), above + 1)):  # as in Places365
        levels.append((first, None))
    return [choice for first, final in levels if (choice := _choice(survey, first, final)) is not None]


def _telling_apart(survey: Survey, level: int, above: int) -> int:
    """The first of the fewest levels up to this one whose joined names are different for all of its folders."""
    folders = class_folders_at(survey, level, level)
    apart = len({each.levels for each in folders})
    first = level
    while (
        first > above + 1
        and len({each.name for each in class_folders_at(survey, first, level) if each.path.count("/") + 1 >= level}) < apart
    ):
        first -= 1
    return first


def _choice(survey: Survey, first: int, final: int | None) -> Choice | None:
    """None for what nobody means.

    That is fewer than two classes, not all in train, half of the images left out, classes called train and test, or a level of one name.
    """
    folders = class_folders_at(survey, first, final)
    names = sorted({each.name for each in folders if each.split in ("", "train")})
    used, every = sum(len(paths_of(survey, each)) for each in folders), survey.count("") - len(survey.images_in(""))
    if len(names) < 2 or 2 * used < every or not {each.name for each in folders} <= set(names):
        return None
    at_levels: dict[int, set[str]] = defaultdict(set)
    for level, name in (pair for each in folders for pair in each.levels):
        at_levels[level].add(name)
    if final is not None and first < final and 1 in (len(at_levels[first]), len(at_levels[final])):
        return None
    if any(level >= first and len(splits_by_name(sorted(at_levels[level]))) == len(at_levels[level]) for level in at_levels):
        return None
    depth = str(first) if first == final else f"{first}-{final or ''}"
    left = f"; leaves out {every - used:,} of {every:,} images" if used < every else ""
    alike = merged(survey, folders, first)
    one = f"; {said_of_merged(alike)}" if alike else ""
    return Choice(command(survey.root, f"data.class_depth={depth}"), f"{len(names):,} classes: {some(names, 4)}{one}{left}")
