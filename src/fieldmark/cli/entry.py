"""Running one command: what it raises becomes a message and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
from typing import Any, NoReturn

from cyclopts import CycloptsError

import fieldmark.cli.commands  # noqa: F401  (registers the commands)
from fieldmark.cli.printing import print_error
from fieldmark.cli.registration import app
from fieldmark.cli.remedies import exchanged, remedied, unquoted
from fieldmark.cli.streams import NobodyReads, drop_output, prepare_streams
from fieldmark.core.errors import FieldmarkError, InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.names import shown

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command; exit 0, 1 (a check failed), 2 (bad input), 130 (interrupted) or, for a crash, 1 with a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    prepare_streams()
    tokens = _with_options(sys.argv[1:] if arguments is None else arguments)
    try:
        _refuse_empty(tokens)
        with needed_for("this command"):
            app(tokens, exit_on_error=False, print_error=False, error_formatter=None)
        sys.stdout.flush()
        code = 0
    except CycloptsError as error:
        said, hint = remedied(error, tokens)
        print_error(said, unquoted(tokens) or hint)
        code = InputError.exit_code
    except FieldmarkError as error:
        typed = (unquoted(tokens) or exchanged(tokens)) if isinstance(error, InputError) else None
        print_error(error.problems, typed or error.hint)
        code = error.exit_code
    except KeyboardInterrupt:
        print_error(["stopped; nothing was left half done"], None)
        code = 130
    except (NobodyReads, BrokenPipeError):
        drop_output()
        code = 0
    except UnicodeEncodeError as error:
        print_error(
            [f"a name has letters that the encoding of this machine, {error.encoding}, lacks: {error.object!a}"], "Set PYTHONUTF8=1."
        )
        code = InputError.exit_code
    except OSError as error:
        if error.errno is None:
            raise
        print_error([_of_machine(error)], "Free some space, or choose another place." if error.errno in _NO_SPACE else None)
        code = InputError.exit_code
    try:
        sys.stdout.flush()
    except (FieldmarkError, NobodyReads):
        drop_output()
    sys.exit(code)


def _with_options(tokens: list[str]) -> list[str]:
    """`help COMMAND` and `version`, as other tools have them, as our options."""
    if tokens[:1] == ["help"]:
        return [*tokens[1:], "--help"]
    return ["--version"] if tokens == ["version"] else tokens


def _refuse_empty(tokens: list[str]) -> None:
    """Raise InputError for an argument without a character, which means the current folder where a path is expected."""
    if "" in tokens:
        raise InputError(f"an argument is empty: fieldmark {shlex.join(tokens)}", hint="Was a variable meant that is not set?")


def _of_machine(error: OSError) -> str:
    """What the machine refused, and where."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{shown(os.fsdecode(error.filename))}: {reason}"


def _terminate(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
