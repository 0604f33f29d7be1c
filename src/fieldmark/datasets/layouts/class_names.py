"""Names of classes, for people to read."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from fieldmark.core.names import in_order

_LONGEST = 200
MISSING = frozenset(("nan", "NaN", "NAN", "-nan", "None", "NONE", "null", "Null", "NULL", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "-"))
"""What Python, R, pandas, spreadsheets and databases write where there is no value. "none" and "Na" are not among them: they are words."""

Key = TypeVar("Key", bound=Hashable)


def readable(names: Sequence[str]) -> list[str]:
    """With spaces for underscores, as long as no two names become alike by that."""
    spaced = [" ".join(name.replace("_", " ").split()) or name for name in names]
    return spaced if len(set(spaced)) == len(set(names)) else list(names)


def unique_names(names: Mapping[Key, str]) -> dict[Key, str]:
    """The names by their keys. One that several keys share is followed by the key, as in "Junco (817)"."""
    times = Counter(names.values())
    return {key: name if times[name] == 1 else f"{name} ({key})" for key, name in names.items()}


def names_of(labels: Iterable[int | str]) -> dict[int | str, str]:
    """Labels that are names by themselves, or numbers without names: each one's name, in the order of the classes.

    That is the order of core.names.in_order.
    """
    by_name = {str(label): label for label in labels}
    return {by_name[name]: name for name in in_order(by_name)}


def is_name(text: str) -> bool:
    """Whether it can be the name of a class: not blank, no control characters, and not longer than a name is."""
    return bool(text.strip()) and len(text) <= _LONGEST and not any(unicodedata.category(each) in ("Cc", "Cs") for each in text)
