"""The command line: `app` holds the commands, `main` runs one and exits."""

from fieldmark.cli.entry import main as main
from fieldmark.cli.registration import app as app
