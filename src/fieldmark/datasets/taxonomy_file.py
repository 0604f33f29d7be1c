"""A taxonomy in a file of its own: a table with a class in each record, and a level in each of its other columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import nearest, shown
from fieldmark.datasets.layouts import columns
from fieldmark.datasets.layouts.annotations import Annotations, Place
from fieldmark.datasets.layouts.records import SUFFIXES, is_table, no_table, open_table
from fieldmark.datasets.layouts.table_rows import plain_name

_CLASS_COLUMNS = ("class", "label", "name", "species")
_COMPARED = 20
"""Missing classes whose nearest name is looked for, which takes a while."""


def read_levels(file: Path, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Name of each level → the parent of every class in it, in the order of `class_names`.

    The classes are in the column called class, label, name or species, or else in the first; every other column is a level of its name.
    Classes that the dataset does not have are ignored. Raises InputError, with all problems at once.
    """
    if not is_table(file):
        raise InputError(no_table(file), hint=f"The name of a table ends in {', '.join(SUFFIXES)}.")
    notes = Annotations(file.parent)
    table = open_table(notes, file.name)
    notes.check()
    key, levels = _columns(file, table.header)

    wanted = {plain_name(name): name for name in class_names}
    parents: dict[str, tuple[Place, list[str]]] = {}
    nearby = set()
    for number, (text, *texts) in table.rows([key, *levels.values()]):
        place, name = table.place(number), plain_name(text)
        if name not in wanted:
            nearby.add(name)
            continue
        own = [plain_name(each) for each in texts]
        before_place, before = parents.setdefault(name, (place, own))
        for level, parent, earlier in zip(levels, own, before, strict=True):
            if not parent:
                notes.wrong(place, f"class {name!r} has no {level}")
            elif earlier and parent != earlier:
                notes.wrong(place, f"class {name!r} has two parents in {level}: {earlier!r} ({before_place}) and {parent!r} ({place})")
    for count, name in enumerate(name for name in wanted if name not in parents):
        near = nearest(name, nearby) if count < _COMPARED else []
        notes.wrong(Place(file.name), f"class {name!r} of the data is not in it" + (f"; {near[0]!r} is" if near else ""))
    notes.check()
    return {level: [parents[name][1][column] for name in wanted] for column, level in enumerate(levels)}


def _columns(file: Path, header: Sequence[str]) -> tuple[int, dict[str, int]]:
    """Position of the column of classes, and of each level."""
    names = [columns.normal(name) for name in header]
    keys = [position for position, name in enumerate(names) if name in _CLASS_COLUMNS]
    problems = []
    if len(keys) > 1:
        problems.append(f"{shown(str(file))}: {len(keys)} columns could be the classes: {columns.shown([header[key] for key in keys])}")
    if len(names) < 2:
        problems.append(f"{shown(str(file))} has one column only; its first line is {columns.shown(header)!r}")
    if len(set(names)) < len(names) or "" in names:
        problems.append(f"{shown(str(file))} has columns without a name of their own; its first line is {columns.shown(header)!r}")
    if problems:
        raise InputError(*problems, hint="The first line should be, for example, class,genus,family.")
    key = keys[0] if keys else 0
    return key, {name: position for position, name in enumerate(names) if position != key}
