"""The command line: `app` holds the commands, `main` runs one and exits."""

from fieldmark.cli.commands import app as app
from fieldmark.cli.entry import main as main
