"""Running one command: what it raises becomes a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from cyclopts import CycloptsError

import fieldmark.cli.commands  # noqa: F401  (registers the commands)
from fieldmark.cli.printing import print_error
from fieldmark.cli.registration import app
from fieldmark.cli.remedies import remedied
from fieldmark.core.errors import FieldmarkError, InputError
from fieldmark.core.extras import needed_for


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command; exit 0, 1 (a check failed), 2 (bad input), 130 (interrupted) or, for a crash, 1 with a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    tokens = sys.argv[1:] if arguments is None else arguments
    try:
        with needed_for("this command"):
            app(tokens, exit_on_error=False, print_error=False, error_formatter=None)
        sys.stdout.flush()
        code = 0
    except CycloptsError as error:
        print_error(*remedied(error, tokens))
        code = InputError.exit_code
    except FieldmarkError as error:
        print_error(error.problems, error.hint)
        code = error.exit_code
    except KeyboardInterrupt:
        print_error(["stopped; nothing was left half done"], None)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _terminate(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
