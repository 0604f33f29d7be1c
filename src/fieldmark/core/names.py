"""Names in messages: readable whatever their bytes are, and no more of them than a reader takes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def shown(path: str | Path) -> str:
    """A path that need not be valid Unicode, for a message."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many more there are."""
    listed = ", ".join(shown(name) for name in names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit:,} more"
