"""Reading annotation files: everything that is wrong is noted with its file and line, and all of it is reported at once."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import shown
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset, Level
from fieldmark.datasets.images import Files, Images

_SHOWN = 20
_FILE_LIMIT = 2 * 2**30
_NAN_BOX = (math.nan,) * 4
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:/")
FARTHEST = 1e7
"""The largest edge of a box, in pixels."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """Where something was read: a file relative to the root, and a line from 1 (or a record, if the file has no lines)."""

    file: str
    line: int | None = None
    unit: str = "line"

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}, {self.unit} {self.line:,}"


@dataclass(frozen=True)
class Line:
    place: Place
    text: str


@dataclass(frozen=True)
class Row:
    """One image. `label` is None if it is not known; the box is (left, top, right, bottom), as in Dataset."""

    place: Place
    path: str
    label: int | None
    split: str
    box: Box | None = None


class Annotations:
    """The annotation files below `root`, and what is wrong with them.

    Methods that meet something wrong note it and return None, or skip the line; `dataset` raises what was noted.
    """

    def __init__(self, root: Path):
        self.root = root
        self.problems: list[Problem] = []
        self._uncounted = 0

    def wrong(self, place: Place, what: str, remedy: str = "") -> None:
        if len(self.problems) < _SHOWN:
            self.problems.append(Problem(what, place=str(place), remedy=remedy))
        else:
            self._uncounted += 1

    def check(self) -> None:
        """Raises InputError if anything was noted."""
        if self.problems:
            more = [f"… and {self._uncounted:,} more"] if self._uncounted else []
            hint = f"These files are in {shown(self.root.absolute())}. Fix or re-download them; nothing was changed."
            raise InputError(*self.problems, *more, hint=hint)

    def bytes(self, file: str) -> bytes | None:
        path = self.root / file
        try:
            if path.stat().st_size > _FILE_LIMIT:
                self.wrong(Place(file), f"it is larger than {_FILE_LIMIT // 2**30} GiB")
                return None
            return path.read_bytes()
        except OSError as error:
            self.wrong(Place(file), f"it cannot be read ({error.strerror})")
            return None

    def text(self, file: str) -> str | None:
        """The contents of a UTF-8 text file."""
        data = self.bytes(file)
        if data is None:
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.wrong(Place(file, data.count(b"\n", 0, error.start) + 1), "it is not UTF-8 text")
            return None

    def json_object(self, file: str) -> dict[str, Any] | None:
        """The object in a JSON file."""
        text = self.text(file)
        if text is None:
            return None
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            self.wrong(Place(file, error.lineno), f"it is not JSON ({error.msg}, column {error.colno:,})")
        except RecursionError:
            self.wrong(Place(file), "it is nested too deeply")
        except ValueError as error:
            self.wrong(Place(file), f"it holds a number that cannot be read ({error})")
        else:
            if isinstance(content, dict) and content:
                return content
            self.wrong(Place(file), "it should hold an object with names and values")
        return None

    def lines(self, file: str) -> Iterator[Line]:
        """The lines of a UTF-8 text file that are not blank, without their ends."""
        data = self.bytes(file)
        for number, raw in enumerate((data or b"").splitlines(), 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                self.wrong(Place(file, number), "it is not UTF-8 text")
                continue
            if "\0" in text:
                self.wrong(Place(file, number), "it holds a zero byte")
            elif text.strip():
                yield Line(Place(file, number), text)

    def fields(self, file: str, *names: str, rest: bool = False) -> Iterator[tuple[Place, list[str]]]:
        """The whitespace-separated fields of each line, one for each of `names`. With `rest` the last one may hold spaces."""
        for line in self.lines(file):
            parts = line.text.split(maxsplit=len(names) - 1 if rest else -1)
            if len(parts) == len(names):
                yield line.place, [part.strip() for part in parts]
            else:
                self.wrong(line.place, f"{len(parts)} fields instead of {len(names)}: {', '.join(names)}")

    def keyed(self, file: str, *names: str, rest: bool = False) -> dict[str, tuple[Place, list[str]]]:
        """`fields` by the first of them, which may occur only once: key → (place, the other fields)."""
        table: dict[str, tuple[Place, list[str]]] = {}
        for place, (key, *others) in self.fields(file, *names, rest=rest):
            if key in table:
                self.wrong(place, f"{names[0]} {_quoted(key)} is also in line {table[key][0].line:,}")
            else:
                table[key] = place, others
        return table

    def integer(self, place: Place, text: str, what: str, low: int, high: int) -> int | None:
        """A whole number from low to high."""
        try:
            value = int(text) if len(text) < 20 else None
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            self.wrong(place, f"{what} is {_quoted(text)}, and should be a whole number from {low:,} to {high:,}")
            return None
        return value

    def box(self, place: Place, values: Sequence[str | float], remedy: str = "") -> Box | None:
        """Left, top, right and bottom edge."""
        numbers = self._four(place, values, remedy)
        if numbers is None:
            return None
        left, top, right, bottom = numbers
        if not all(map(math.isfinite, numbers)) or not (left < right and top < bottom) or max(right, bottom) > FARTHEST:
            self.wrong(place, f"the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) is empty", remedy)
            return None
        return numbers

    def corner_box(self, place: Place, values: Sequence[str | float]) -> Box | None:
        """From left, top, width and height."""
        numbers = self._four(place, values)
        if numbers is None:
            return None
        left, top, width, height = numbers
        return self.box(place, (left, top, left + width, top + height))

    def pixel_box(self, place: Place, values: Sequence[str | float]) -> Box | None:
        """From the first and last column and row of pixels that belong to the object: left, top, right, bottom, counted from 1.

        Some annotators count from 0: a first column or row 0 is the image's first as well.
        """
        numbers = self._four(place, values)
        if numbers is None:
            return None
        left, top, right, bottom = numbers
        return self.box(place, (max(left - 1, 0), max(top - 1, 0), right, bottom))

    def _four(self, place: Place, values: Sequence[str | float], remedy: str = "") -> Box | None:
        try:
            first, second, third, fourth = map(float, values)
        except (ValueError, TypeError, OverflowError):
            self.wrong(place, f"the box {_quoted(' '.join(map(str, values)))} should be four numbers", remedy)
            return None
        return first, second, third, fourth

    def inner_path(self, place: Place, text: str, folder: str = "") -> str | None:
        """`inner_path` of what was read at `place`."""
        try:
            return inner_path(text, folder)
        except NotAPath as error:
            self.wrong(place, str(error))
            return None

    def dataset(
        self,
        *,
        layout: str,
        class_names: Sequence[str],
        rows: Iterable[Row],
        levels: Mapping[str, Sequence[str]] | None = None,
        name: str | None = None,
        images: Images | None = None,
        banner: int = 0,
        notes: Sequence[str] = (),
    ) -> Dataset:
        """Put the rows together, in the order of their paths. `levels` has, by the name of each level, the parent of every class.

        Classes without rows are kept. Raises InputError naming everything that is wrong.
        """
        ordered = sorted(rows, key=lambda row: row.path)
        for before, row in pairwise(ordered):
            if before.path == row.path:
                self.wrong(row.place, f"the image {_quoted(row.path)} is listed twice (also in {before.place})")
        root = shown(self.root)
        for class_name, times in Counter(class_names).items():
            if times > 1:
                self.wrong(Place(root), f"{times} classes have the same name {_quoted(class_name)}")
            if not is_text(class_name):
                self.wrong(Place(root), f"the class name {_quoted(class_name)} holds characters that are not text")
        for row in ordered:
            assert row.split in (*SPLITS, UNLABELLED) and (row.label is None) == (row.split == UNLABELLED)
        self.check()
        return Dataset(
            name=name or self.root.resolve().name,
            root=self.root,
            layout=layout,
            class_names=tuple(class_names),
            paths=tuple(row.path for row in ordered),
            labels=np.array([-1 if row.label is None else row.label for row in ordered], np.int32),
            splits=np.array([row.split for row in ordered], np.str_),
            images=images or Files(self.root),
            boxes=np.array([row.box or _NAN_BOX for row in ordered], np.float32) if any(row.box for row in ordered) else None,
            levels=tuple(Level.of(level, parents) for level, parents in (levels or {}).items()),
            banner=banner,
            notes=tuple(notes),
        )


class NotAPath(ValueError):
    """A text that cannot be a path; the message says which, and why not."""


class LeadsOut(NotAPath):
    """A path out of the folder that it should be in."""


def inner_path(text: str, folder: str = "") -> str:
    """A path below a root, relative to it, that is given relative to its `folder`. Raises NotAPath, and LeadsOut if it leads out of it."""
    path = text.replace("\\", "/")
    if not path or path != path.strip("\n\r") or not is_text(path) or len(path) > 4096:
        raise NotAPath(f"{_quoted(text)} is not a path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or ".." in parts or _DRIVE.match(path):
        raise LeadsOut(f"the path {_quoted(text)} leads out of the data's folder, which is refused")
    return str(PurePosixPath(folder, *parts))


def are_shares(boxes: np.ndarray) -> bool:
    """Whether all boxes (n, 4) lie between 0 and 1, as boxes that are shares of the image do, not pixels."""
    return bool(0 < np.nanmax(boxes, initial=0) <= 1)


def refuse_shares(boxes: np.ndarray, where: str, otherwise: str = "") -> None:
    """Raise InputError if `are_shares`; `otherwise` says what else can be done than to change them."""
    if are_shares(boxes):
        raise InputError(
            f"the boxes of {where} lie between 0 and 1: they look like shares of the image",
            hint=f"Give them in pixels: multiply by the width and the height of each image{otherwise}.",
        )


def enclosing(boxes: Sequence[Box]) -> Box | None:
    """The smallest box around all of these; None around none."""
    if not boxes:
        return None
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def is_text(text: str) -> bool:
    """False if it has zero bytes or halves of characters, which files and their names cannot hold."""
    return _NO_TEXT.search(text) is None


def reason(error: BaseException) -> str:
    """What an error of another library says, in one line for a message."""
    return repr((str(error).strip() or type(error).__name__).splitlines()[0])[1:-1][:200]


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
