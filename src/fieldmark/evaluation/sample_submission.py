"""A sample submission, as competitions publish it: its ids say the order of the answers, its header their columns and their form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fieldmark.core.errors import InputError
from fieldmark.core.names import nearest, shown, some
from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.records import is_table, no_table, open_table

NAMES: dict[str, Callable[[str], str]] = {
    "stem": lambda path: PurePosixPath(path).stem,
    "name": lambda path: PurePosixPath(path).name,
    "path": str,
}
"""What an image may be called in a submission, by its path."""
_FRACTION = re.compile(r"[01]?\.[0-9]+|1e-[0-9]+")


@dataclass(frozen=True)
class Sample:
    """The columns of a sample submission as texts; that of the ids is `ids`."""

    file: Path
    header: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    ids: int

    def images(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """Each id with the path of its image, in the order of the sample. Raises InputError for ids of none."""
        ids = self.columns[self.ids]
        known = _by_name(paths, ids)
        problems = []
        if missing := [each for each in ids if each not in known]:
            has, are = ("1 id", "is") if len(missing) == 1 else (f"{len(missing):,} ids", "are")
            problems.append(f"{shown(self.file)} has {has} that {are} no unlabelled image of the data: {some(missing)}")
        if several := [each for each in ids if len(known.get(each, ())) > 1]:
            has = "an id" if len(several) == 1 else f"{len(several):,} ids"
            example = some(known[several[0]])
            problems.append(f"{shown(self.file)} has {has} that could be any of several images: {several[0]} is that of {example}")
        if problems:
            raise InputError(
                *problems, hint="--data names the folder that holds them, if they are not in the run's own data or in several."
            )
        return [(each, known[each][0]) for each in ids]

    def forms(self, class_names: Sequence[str]) -> dict[str, str | int]:
        """What is asked for in each column but that of the ids: "class", or the number of the class whose probability stands there.

        Columns are matched to classes by name, as in `_classes_of`. Raises InputError if it is not plain what a column asks for.
        """
        others = [column for column in range(len(self.header)) if column != self.ids]
        if len(others) == 1:
            return {self.header[others[0]]: self._form_of_one(others[0], class_names)}
        found = _classes_of([self.header[column] for column in others], class_names)
        unknown = [title for title, number in found.items() if number is None]
        if unknown or len(found) < len(class_names):
            absent = sorted(set(range(len(class_names))) - set(found.values()))
            what = [f"it has a column {title!r}, and there is no such class{_like(title, class_names)}" for title in unknown]
            what += [f"it has no column for the classes {some([class_names[number] for number in absent])}"] if absent else []
            raise InputError(
                *(f"{shown(self.file)}: {each}" for each in what[:10]),
                hint="--columns says what stands in the columns, such as --columns 'Id=stem,Category=class'.",
            )
        return {title: number for title, number in found.items() if number is not None}

    def _form_of_one(self, column: int, class_names: Sequence[str]) -> str | int:
        title, values = self.header[column], {value.strip() for value in self.columns[column]} - {""}
        if not values or values & set(class_names) or not any(map(_is_number, values)):
            return "class"
        if title in class_names:
            return class_names.index(title)
        if any(map(_FRACTION.fullmatch, values)) and list(class_names) == ["0", "1"]:
            return 1
        raise InputError(
            f"{shown(self.file)}: its column {title!r} holds {some(sorted(values), 3)}, which are no names of classes",
            hint=f"Say what it asks for: --columns {title}=index (the number of the class from 0), {title}=number (from 1), "
            f"{title}=probability or {title}=class.",
        )


def read_sample(file: Path, paths: Sequence[str]) -> Sample:
    """The sample in a table. The ids are in the column that names most of the images at `paths`. Raises InputError."""
    if not is_table(file):
        raise InputError(f"--like: {no_table(file)}", hint="It is a CSV with the ids of the images.")
    notes = Annotations(file.parent)
    table = open_table(notes, file.name)
    rows = [texts for _, texts in table.rows(range(len(table.header)))] if len(table.header) > 1 else []
    notes.check()
    if not rows:
        raise InputError(f"--like: {shown(file)} has no records of two or more columns")
    columns = tuple(zip(*rows, strict=True))
    hits = [len(_by_name(paths, column).keys() & set(column)) for column in columns]
    return Sample(file, table.header, columns, hits.index(max(hits)))


def _by_name(paths: Sequence[str], ids: Iterable[str]) -> dict[str, list[str]]:
    """The images by what they are called: in the way in which most of these ids are that of one image, or of any."""
    wanted = set(ids)

    def fitting(named: dict[str, list[str]]) -> tuple[int, int]:
        there = wanted & named.keys()
        return sum(len(named[each]) == 1 for each in there), len(there)

    best: dict[str, list[str]] = {}
    for called in NAMES.values():
        named: dict[str, list[str]] = {}
        for path in paths:
            named.setdefault(called(path), []).append(path)
        best = max(best, named, key=fitting)
    return best


def _classes_of(titles: Sequence[str], class_names: Sequence[str]) -> dict[str, int | None]:
    """The class that each title names. All may have the same beginning before the name, as in class_1, class_2."""
    plain = {_plain(name): number for number, name in enumerate(class_names)}
    found = {title: plain.get(_plain(title)) for title in titles}
    if None in found.values():
        first = titles[0]
        beginnings = [first[:end] for end in range(1, len(first)) if all(title.startswith(first[:end]) for title in titles)]
        for beginning in reversed(beginnings):
            without = {title: plain.get(_plain(title.removeprefix(beginning))) for title in titles}
            if None not in without.values():
                return without
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _like(title: str, class_names: Sequence[str]) -> str:
    near = nearest(title, class_names)
    return f" (there is {near[0]!r})" if near else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
