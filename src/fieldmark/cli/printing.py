"""Where results go: messages for a person to standard error, tables and JSON that were asked for to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fieldmark.core.console import Console, table, wanted_width

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fieldmark.core.errors import Problem


def say(quiet: bool, *what: RenderableType) -> None:
    """To standard error, unless quiet."""
    Console(quiet).say(*what)


def print_json(value: Any) -> None:
    from fieldmark.core.files import json_text

    print(json_text(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], left: Sequence[str] = ()) -> None:
    """The columns named in `left` are aligned left, and so is the first; 200 characters wide where neither a terminal nor COLUMNS says
    how wide.
    """
    from rich.console import Console as Rich

    Rich(highlight=False, width=None if sys.stdout.isatty() else wanted_width() or 200).print(table(None, columns, rows, left))


def print_error(problems: Iterable[str | Problem], hint: str | None) -> None:
    for problem in problems:
        print(f"fieldmark: {problem}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)
