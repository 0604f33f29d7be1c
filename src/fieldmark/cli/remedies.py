"""What to say of a command line that cannot be parsed: what is wrong with it, and a command to copy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from cyclopts import ArgumentCollection, CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from fieldmark.cli.registration import app, examples_of

_TAKE_SETTINGS = {("train",), ("demo",), ("study", "run"), ("study", "search")}
_KEEP_RECIPE = {("resume",), ("evaluate",), ("calibrate",), ("predict",), ("explain",), ("submit",)}
"""Commands that use a run, whose recipe decides what other tools have options for."""
_OURS = dict.fromkeys(("o", "output", "output-dir", "work-dir", "save-dir", "project"), "--out") | dict.fromkeys(
    ("c", "cfg", "config"), "--recipe"
)
_OF_COMMAND: dict[tuple[str, ...], dict[str, str]] = {("submit",): dict.fromkeys(("sample", "sample-submission", "template"), "--like")}
"""What other words there are for the options of one command."""
_SECOND: dict[tuple[str, ...], set[str]] = {
    ("submit",): {"o", "out", "output", "output-file", "csv", "save"},
    ("study", "run"): {"data", "data-dir", "data-path", "dataset", "datasets"},
    ("study", "search"): {"data", "data-dir", "data-path", "dataset"},
}
"""What these commands take by its place, after the first."""
_NAMES_A_RUN = ("name", "run-name", "exp-name", "experiment")
_COMMANDS = dict.fromkeys(("fit",), "train") | dict.fromkeys(("val", "validate", "eval", "test"), "evaluate")
_COMMANDS |= {"infer": "predict", "inference": "predict", "compare": "report", "tune": "study search", "sweep": "study search"}
"""What other tools call our commands."""
_ABOUT = {
    "resume": "`fieldmark resume RUN` goes on with a run that was stopped",
    "augment": "augmentations are settings, which `fieldmark fields augment` lists",
}
"""What there is instead of an option that has no setting or option here."""
_BARE = {"data", "data-dir", "data-path", "dataset", "run", "model", "weights", "checkpoint", "source", "sources", "input", "images"}
"""What other tools have options for and our commands take by its place."""

_MOST_WORDS = 6
"""Of a path that its blanks have torn apart."""


@dataclass(frozen=True)
class _Unknown:
    """An option that a command does not have, and what to type instead; "" if nothing is known of it, of which `about` may say more."""

    option: str
    instead: str = ""
    is_setting: bool = False
    second: bool = False
    about: str = ""

    @property
    def key(self) -> str:
        return self.instead.partition("=")[0]


def remedied(error: CycloptsError, tokens: Sequence[str]) -> tuple[list[str], str]:
    """What is wrong, and what to do about it."""
    words, _, rest = app.parse_commands(tokens)
    if not words:
        return [str(error)], _other_command(tokens) or "`fieldmark --help` lists the commands."
    command, examples = " ".join(words), examples_of(words)
    example = f"For example: {examples[0]}" if examples else f"`fieldmark {command} --help` lists its commands."
    if file := next((token for token in rest if token.startswith("-") and os.path.exists(token)), None):
        return [f"{file} looks like an option, and is a file here"], f"Name it ./{file}, so that it is taken for one."
    if "-" in rest:
        what = "- stands for standard input or output with other programs; files are named here"
        return [what], "predict without --csv answers on standard output, and with --json each answer is a line of JSON."
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


def _other_command(tokens: Sequence[str]) -> str | None:
    """A command to copy for one of another tool."""
    if not tokens or (ours := _COMMANDS.get(tokens[0])) is None:
        return None
    rest = [*tokens[1:], *(["--out", "comparison.html"] if tokens[0] == "compare" and "--out" not in tokens else [])]
    return f"Type: fieldmark {ours} {shlex.join(rest)}".rstrip()


def _said(words: tuple[str, ...], unknown: _Unknown, error: CycloptsError) -> str:
    command = " ".join(words)
    if unknown.about:
        return f"{command} has no option {unknown.option}: {unknown.about}"
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
    if any(each.instead for each in unknown):
        without = ", ".join(each.option for each in unknown if not each.instead)
        return f"Type{f', without {without}' if without else ''}: fieldmark {shlex.join(rewritten)}"
    return "A setting is given as key=value; `fieldmark fields` lists the keys." if words in _TAKE_SETTINGS else None


def _without_unknown(words: tuple[str, ...], rest: Sequence[str]) -> tuple[list[_Unknown], list[str]]:
    """The options that the command does not have, and the command line with what to type instead of them."""
    own = app[words[0]] if len(words) == 1 else app[words[0]][words[1]]
    known = own.assemble_argument_collection()
    unknown: list[_Unknown] = []
    first: list[str] = []
    second: list[str] = []
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
        follows = not equals and waiting and not _is_option(waiting[0]) and _takes_value(option, waiting[0])
        if follows:
            value = waiting[0]
        each = _instead(words, known, option, value, rest)
        unknown.append(each)
        if follows and (each.instead or not os.path.exists(value)):
            waiting.pop(0)
        typed = shlex.split(each.instead)
        if typed and typed[0] in others:  # two of their options are one of ours
            continue
        is_option = each.instead.startswith("-")
        (settings if each.is_setting else second if each.second else others if is_option else first).extend(typed)
    if not first and others and not _is_option(others[0]):
        first, others = others[:1], others[1:]
    return unknown, [*words, *first, *(second if first else []), *others, *([] if first else second), *settings]


def _instead(words: tuple[str, ...], known: ArgumentCollection, option: str, value: str, rest: Sequence[str]) -> _Unknown:
    word = option.lstrip("-")
    if value and word in _SECOND.get(words, ()):
        return _Unknown(option, shlex.quote(value), second=True)
    if value and word in (ours := _OF_COMMAND.get(words, {})):
        return _Unknown(option, f"{ours[word]} {shlex.quote(value)}")
    if value and words == ("train",) and (word in _NAMES_A_RUN or _OURS.get(word) == "--out"):
        return _Unknown(option, f"--out {shlex.quote(_new_folder(word, value, rest))}")
    if word in _OURS and value and _has(known, _OURS[word]):
        return _Unknown(option, f"{_OURS[word]} {shlex.quote(value)}")
    if word == "seed" and value and _has(known, "--seeds"):
        return _Unknown(option, f"--seeds {shlex.quote(value)}")
    if word in _BARE and value and not (words in _TAKE_SETTINGS and word in ("model", "weights", "checkpoint")):
        return _Unknown(option, shlex.quote(value))
    typed = _setting(word, value)
    return _Unknown(option, typed or "", is_setting=typed is not None, about="" if typed else _ABOUT.get(word, ""))


def _new_folder(word: str, value: str, rest: Sequence[str]) -> str:
    """The folder of a run that is named after a project and a name, or one of them; a folder that exists is that of other runs."""
    given = dict(pairwise(rest)) | dict(token.split("=", 1) for token in rest if "=" in token)
    if word in _NAMES_A_RUN:
        return os.path.join(given.get("--project", "runs"), value)
    if word == "project" and (name := next((given[f"--{each}"] for each in _NAMES_A_RUN if f"--{each}" in given), "")):
        return os.path.join(value, name)
    return os.path.join(value, "NAME") if os.path.isdir(value) else value


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
