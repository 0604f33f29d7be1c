"""The Sphinx directive `command-help`: what `fieldmark COMMAND --help` prints, for every command."""

import io
from collections.abc import Iterator

from cyclopts import App
from docutils import nodes
from rich.console import Console
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fieldmark.cli import app as fieldmark

WIDTH = 88
"""Characters per line: what a page shows without scrolling."""


def commands(app: App, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something, in alphabetical order."""
    for name in sorted(name for name in app if not name.startswith("-")):
        words = (*parents, name)
        yield from (commands(app[name], words) if any(not each.startswith("-") for each in app[name]) else [words])


def help_of(words: tuple[str, ...]) -> str:
    """What --help prints for a command, in characters that every font has."""
    text = io.StringIO()
    fieldmark.help_print(list(words), console=Console(file=text, width=WIDTH, no_color=True, legacy_windows=False))
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())


class CommandHelp(SphinxDirective):
    """A section with the help of each command."""

    def run(self) -> list[nodes.Node]:
        """The parsed Markdown."""
        parts = (f"## {' '.join(words)}\n\n```text\n{help_of(words)}\n```\n" for words in commands(fieldmark))
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
