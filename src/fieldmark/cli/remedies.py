"""What to say of a command line that cannot be parsed: what is wrong with it, and a command to copy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from cyclopts import ArgumentCollection, CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from fieldmark.cli.registration import app, examples_of

_TAKE_SETTINGS = {("train",), ("demo",), ("study", "run"), ("study", "search")}
_KEEP_RECIPE = {("resume",), ("evaluate",), ("calibrate",), ("predict",), ("explain",), ("submit",)}
"""Commands that use a run, whose recipe decides what other tools have options for."""
_OURS = dict.fromkeys(("o", "output", "output-dir", "work-dir", "save-dir", "project"), "--out") | dict.fromkeys(
    ("c", "cfg", "config"), "--recipe"
)
_BARE = {"data", "data-dir", "data-path", "dataset", "run", "model", "weights", "checkpoint", "source", "sources", "input", "images"}
"""What other tools have options for and our commands take by its place."""

_MOST_WORDS = 6
"""Of a path that its blanks have torn apart."""


@dataclass(frozen=True)
class _Unknown:
    """An option that a command does not have, and what to type instead; "" if nothing is known of it."""

    option: str
    instead: str = ""
    is_setting: bool = False

    @property
    def key(self) -> str:
        return self.instead.partition("=")[0]


def remedied(error: CycloptsError, tokens: Sequence[str]) -> tuple[list[str], str]:
    """What is wrong, and what to do about it."""
    words, _, rest = app.parse_commands(tokens)
    if not words:
        return [str(error)], "`fieldmark --help` lists the commands."
    command, examples = " ".join(words), examples_of(words)
    example = f"For example: {examples[0]}" if examples else f"`fieldmark {command} --help` lists its commands."
    if isinstance(error, UnknownOptionError | MissingArgumentError):
        unknown, rewritten = _without_unknown(words, rest)
        if unknown:
            said = [_said(words, each, error) for each in unknown]
            return said, _hint(words, unknown, rewritten) or example
    if isinstance(error, MissingArgumentError) and error.argument is not None and not error.argument.tokens:
        return [f"{command}: {error.argument.name} is missing"], example
    if isinstance(error, UnusedCliTokensError):
        return [f"{command} does not take {shlex.join(error.unused_tokens or ())}"], example
    return [str(error)], f"`fieldmark {command} --help` explains the command."


def unquoted(tokens: Sequence[str]) -> str | None:
    """The command with quotes around the path that its blanks have torn apart; None if there is no such path."""
    for start, count in product(range(len(tokens)), range(2, _MOST_WORDS + 1)):
        end = start + count
        path = " ".join(tokens[start:end])
        if end <= len(tokens) and not all(map(os.path.exists, tokens[start:end])) and os.path.exists(path):
            return f"A path with blanks needs quotes: fieldmark {shlex.join([*tokens[:start], path, *tokens[end:]])}"
    return None


def exchanged(tokens: Sequence[str]) -> str | None:
    """The command with the run in front, where another argument is a run and the first is none; None if that is not so."""
    words, _, rest = app.parse_commands(tokens)
    if words not in _KEEP_RECIPE or not rest or _is_option(rest[0]) or _is_run(rest[0]):
        return None
    run = next((token for token in rest if _is_run(token)), None)
    if run is None:
        return None
    others = [rest[0] if token == run else token for token in rest[1:]]
    return f"The run comes first: fieldmark {shlex.join([*words, run, *others])}"


def _is_run(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "manifest.json"))


def _said(words: tuple[str, ...], unknown: _Unknown, error: CycloptsError) -> str:
    command = " ".join(words)
    if not unknown.instead:
        # what cyclopts says of it may name an option that is spelt alike
        named = isinstance(error, UnknownOptionError) and unknown.option in str(error)
        return f"{command}: {error!s}" if named else f"{command} has no option {unknown.option}"
    if unknown.is_setting and words in _KEEP_RECIPE:
        return f"{command} has no option {unknown.option}: {unknown.key} is part of the run's recipe"
    return f"{command} has no option {unknown.option}; type {unknown.instead}"


def _hint(words: tuple[str, ...], unknown: Sequence[_Unknown], rewritten: Sequence[str]) -> str | None:
    """A command to copy, or how settings are given; None if there is neither."""
    settings = [each for each in unknown if each.is_setting]
    if words in _KEEP_RECIPE and settings:
        if any(each.key == "train.device" for each in settings):
            return "A GPU is used if the run was trained on one; CUDA_VISIBLE_DEVICES= before the command hides it."
        return f"A new run can have another: fieldmark train DATA --recipe RUN/recipe.yaml {' '.join(each.instead for each in settings)}"
    if all(each.instead for each in unknown):
        return f"Type: fieldmark {shlex.join(rewritten)}"
    return "A setting is given as key=value; `fieldmark fields` lists the keys." if words in _TAKE_SETTINGS else None


def _without_unknown(words: tuple[str, ...], rest: Sequence[str]) -> tuple[list[_Unknown], list[str]]:
    """The options that the command does not have, and the command line with what to type instead of them."""
    own = app[words[0]] if len(words) == 1 else app[words[0]][words[1]]
    known = own.assemble_argument_collection()
    unknown: list[_Unknown] = []
    places: list[str] = []
    others: list[str] = []
    settings: list[str] = []
    waiting = list(rest)
    while waiting:
        token = waiting.pop(0)
        option, equals, value = token.partition("=")
        if token == "--":
            others += [token, *waiting]
            break
        if not _is_option(token) or _has(known, option):
            others.append(token)
            continue
        if not equals and waiting and not _is_option(waiting[0]) and _takes_value(option, waiting[0]):
            value = waiting.pop(0)
        each = _instead(words, known, option, value)
        unknown.append(each)
        (settings if each.is_setting else others if each.instead.startswith("-") else places).extend(shlex.split(each.instead))
    return unknown, [*words, *places, *others, *settings]


def _instead(words: tuple[str, ...], known: ArgumentCollection, option: str, value: str) -> _Unknown:
    word = option.lstrip("-")
    if word in _OURS and value and _has(known, _OURS[word]):
        return _Unknown(option, f"{_OURS[word]} {shlex.quote(value)}")
    if word in _BARE and value and not (words in _TAKE_SETTINGS and word in ("model", "weights", "checkpoint")):
        return _Unknown(option, shlex.quote(value))
    typed = _setting(word, value)
    return _Unknown(option, typed or "", is_setting=typed is not None)


def _setting(word: str, value: str) -> str | None:
    """The recipe key, with its value, that an option stands for: in another tool's words, or in ours but written as an option."""
    from fieldmark.core.recipe.fields import fields
    from fieldmark.core.recipe.other_tools import typed_here

    ours = word.replace("-", "_")
    keys = {field.key: field for field in fields() if not field.in_list}
    exact = [key for key in keys if ours in (key, key.replace(".", "_"))]
    if not exact and (typed := typed_here(word, value)) is not None:
        return typed
    same_ending = exact or [key for key in keys if key.rpartition(".")[2] == ours]
    if len(same_ending) != 1:
        return None
    return f"{same_ending[0]}={value or ('true' if keys[same_ending[0]].type == 'true | false' else '...')}"


def _takes_value(option: str, value: str) -> bool:
    from fieldmark.core.recipe.other_tools import takes_value

    return takes_value(option, value)


def _is_option(token: str) -> bool:
    return len(token) > 1 and token[0] == "-" and not token[1].isdigit()


def _has(known: ArgumentCollection, option: str) -> bool:
    try:
        known.match(option)
    except ValueError:
        return False
    return True
