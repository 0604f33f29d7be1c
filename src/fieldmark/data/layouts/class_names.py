"""Names of classes, for people to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def readable(names: Sequence[str]) -> list[str]:
    """With spaces for underscores, as long as no two names become alike by that."""
    spaced = [" ".join(name.replace("_", " ").split()) or name for name in names]
    return spaced if len(set(spaced)) == len(set(names)) else list(names)


def numbered(labels: Iterable[int]) -> dict[int, str]:
    """For classes without names: each label, ascending, by its number, with zeros in front where others are longer."""
    known = sorted(set(labels))
    width = len(str(known[-1])) if known else 0
    return {label: f"{label:0{width}d}" for label in known}
