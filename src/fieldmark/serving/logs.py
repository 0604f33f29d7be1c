"""One line of JSON for each request; neither images nor their names are in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

Log = Callable[..., None]


def json_lines(quiet: bool) -> Log:
    """What writes a line with the time and the values given to standard output, or nowhere."""

    def write(**values: Any) -> None:
        if quiet:
            return
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **values}, ensure_ascii=False)
        with suppress(OSError, ValueError):  # whoever read it has gone; the work goes on
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    return write
