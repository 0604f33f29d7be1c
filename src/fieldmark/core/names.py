"""Names in messages: readable whatever their bytes are, no more of them than a reader takes in, and the nearest to a misspelt one."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted: by value if all are numbers, or else by the alphabet."""
    known = list(names)
    return sorted(known, key=lambda name: (float(name), name)) if all(map(_NUMBER.fullmatch, known)) else sorted(known)


def shown(path: str | Path) -> str:
    """A path that need not be valid Unicode, for a message."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


def typed(path: str | os.PathLike[str]) -> str:
    """A path as it is typed in a shell: relative to the current folder if it is in it, and quoted if need be."""
    whole = os.path.abspath(path)
    try:
        inner = os.path.relpath(whole)
    except (OSError, ValueError):
        inner = os.pardir
    return shlex.quote(shown(whole if inner.split(os.sep)[0] == os.pardir else inner))


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many more there are."""
    listed = ", ".join(shown(name) for name in names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit:,} more"


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The name of each file or folder, with as much of the path before it as tells it from the others. The paths are all different."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    tails: list[str] = []
    for own in parts:
        others = [each for each in parts if each is not own]
        length = next(n for n in count(1) if n >= len(own) or all(each[-n:] != own[-n:] for each in others))
        tails.append(os.path.join(*own[-length:]))
    return tails


def nearest(word: str, known: Iterable[str], most: int = 1, likeness: float = 0.6) -> list[str]:
    """At most `most` of the known words, the likest first, whatever the case of their letters; `likeness` is 1 for the same word."""
    spelt: dict[str, str] = {}
    for each in known:
        spelt.setdefault(each.lower(), each)
    return [spelt[lower] for lower in difflib.get_close_matches(word.lower(), spelt, most, likeness)]


def suggest(word: str, known: Iterable[str], most: int = 2) -> str:
    """The end of a message about an unknown word: "; did you mean …?", or nothing if no known word is near."""
    near = nearest(word, known, most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
