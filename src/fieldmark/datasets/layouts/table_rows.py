"""The images of a table, collected column by column."""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import in_order, shown, some
from fieldmark.core.recipe.data import MissingLabels
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset, Level
from fieldmark.datasets.images import Files
from fieldmark.datasets.layouts.annotations import FARTHEST, Annotations, LeadsOut, NotAPath, Place, inner_path
from fieldmark.datasets.layouts.class_names import MISSING
from fieldmark.datasets.layouts.columns import Columns, normal
from fieldmark.datasets.layouts.records import Table, open_table
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.datasets.layouts.table_images import ImageFinder

SPLIT_WORDS = {**SPLIT_NAMES, "dev": "val", "unlabelled": UNLABELLED, "unlabeled": UNLABELLED}
_CODES = (*SPLITS, UNLABELLED)
_METADATA = "metadata"
"""What a table of the Hugging Face libraries is called. Its images are of the splits that their folders are named after."""
_NO_BOX = (math.nan,) * 4
_LEFT_OUT = -1
_NEW = -2
_WHOLE = re.compile(r"(-?[0-9]{1,18})(\.0+)?")
_PLAIN = re.compile(r"[^\\:\0\r\n./][^\\:\0\r\n]*")


@dataclass
class _Level:
    """A column of coarser names: of each class the name and where it was first read, and another and where, if there was one."""

    asked: bool
    parents: dict[int, tuple[str, Place]] = field(default_factory=dict)
    others: dict[int, tuple[str, Place]] = field(default_factory=dict)


class TableRows:
    """A million images take a few hundred megabytes: texts that are repeated are kept as numbers, and numbers in arrays."""

    def __init__(self, notes: Annotations, missing_labels: MissingLabels, finder: ImageFinder):
        self.notes = notes
        self._finder = finder
        self._missing = MISSING if missing_labels == "words" else frozenset[str]()
        self._remarks: list[str] = []
        self._tables: list[tuple[int, Table]] = []  # first row, table
        self._rows: dict[str, int] = {}  # path -> row, in the order read
        self._numbers = array("q")  # of lines or records
        self._labels, self._splits, self._groups, self._boxes = array("i"), array("b"), array("i"), array("d")
        self._classes: dict[str, int] = {}
        self._label_codes = {"": -1}  # as written
        self._group_codes = {"": -1}
        self._levels: dict[str, _Level] = {}
        self._has_test = False
        self._without_boxes = ""
        self._left_out: Counter[str] = Counter()
        self._unread_labels = 0
        self._no_label: Counter[str] = Counter()  # what stands there instead
        self._first_without: Place | None = None
        self._refused: dict[str, Problem] = {}  # kind of path -> the first problem
        self._refusals: Counter[str] = Counter()

    def read(self, table: Table, found: Columns, own_split: str) -> None:
        """Add the records of a table. `own_split` is that of records that say none, "" if it is not known."""
        self._tables.append((len(self._rows), table))
        self._remarks.append(f"the columns of {shown(table.file)}: {found}")
        parent_columns = {normal(found.header[column]): column for column in found.parents}
        levels = [self._levels.setdefault(name, _Level("parents" in found.asked)) for name in parent_columns]
        self._without_boxes = "" if "box" in found.asked else "data.columns=box= reads the table without boxes"
        box_columns = found.box or (None,) * 4
        first_row = len(self._rows)
        train, test, unlabelled = (_CODES.index(split) for split in ("train", "test", UNLABELLED))
        codes = {"": _CODES.index(own_split) if own_split else train}

        folder = str(PurePosixPath(table.file).parent).removeprefix(".")
        paths = self._finder.find(table.file, own_split, lambda: self._named(table.file, found, own_split))
        wanted = (found.path, found.label, found.split, found.group, *box_columns, *parent_columns.values())
        by_folder = found.split is None and PurePosixPath(table.file).stem.lower() == _METADATA
        for number, (path, label, word, group, left, top, right, bottom, *parents) in table.rows(wanted):
            if by_folder and (first := path.strip().partition("/")[0].lower()) in SPLIT_NAMES:
                word = first
            split = codes.get(word)
            if split is None:
                split = codes[word] = _split_code(word, codes[""])
            if split == _LEFT_OUT:
                self._left_out[word] += 1
                continue
            if split == unlabelled:
                code = -1
                self._unread_labels += label != ""
            else:
                code = self._label_codes.get(label, _NEW)
                if code == _NEW:
                    code = self._label(table.place(number), label)
                if code < 0:
                    if split != test or label.strip():
                        self._no_label[label.strip()] += 1
                        self._first_without = self._first_without or table.place(number)
                    split = unlabelled

            where = paths.get(path)
            if where is None:
                where = path.strip()
                if not _is_plain(where):
                    inner = self._inner_path(table.place(number), where, folder)
                    if inner is None:
                        continue
                    where = inner
                elif folder:
                    where = f"{folder}/{where}"
            path = self._finder.as_on_disk(where)
            if path in self._rows:
                before = self._place(self._rows[path])
                self.notes.wrong(table.place(number), f"the image {path[:200]!r} is listed twice (also in {before})")
                continue
            if table.decimal_commas:
                left, top, right, bottom = (side.replace(",", ".") for side in (left, top, right, bottom))
            try:
                box = float(left or math.nan), float(top or math.nan), float(right or math.nan), float(bottom or math.nan)
            except ValueError:
                if any(_present(side.strip()) for side in (left, top, right, bottom)):
                    self.notes.box(table.place(number), (left, top, right, bottom), self._without_boxes)
                    continue
                box = _NO_BOX

            if code >= 0:
                for level, parent in zip(levels, parents, strict=True):
                    known = level.parents.get(code)
                    if parent and (known is None or known[0] != parent):
                        _add_parent(level, code, parent, table.place(number))
            self._rows[path] = len(self._rows)
            self._numbers.append(number)
            self._labels.append(code)
            self._splits.append(split)
            self._groups.append(self._group_codes.setdefault(_present(group.strip()), len(self._group_codes) - 1))
            self._boxes.extend(box)
        self._has_test |= any(split in (test, unlabelled) for split in codes.values())
        if found.sized:
            edges = np.frombuffer(self._boxes).reshape(-1, 4)[first_row:]
            edges[:, 2:] += edges[:, :2]

    def add_unlisted_tests(self) -> None:
        """Add the images of folders called test that no table speaks of, unlabelled, unless a table has a test."""
        if self._has_test:
            return
        for folder, images in self._finder.unlisted_tests(self._rows, self._classes):
            for path in images:
                self._rows[path] = len(self._rows)
            count = len(images)
            self._numbers.extend([0] * count)
            self._labels.extend([-1] * count)
            self._splits.extend([_CODES.index(UNLABELLED)] * count)
            self._groups.extend([-1] * count)
            self._boxes.extend(_NO_BOX * count)
            listed = "image" if count == 1 else f"{count:,} images"
            self._remarks.append(f"no table lists the {listed} in {shown(folder)}/, so {'it is' if count == 1 else 'they are'} unlabelled")

    def dataset(self, layout: str, name: str, for_training: bool = True) -> Dataset:
        """All of them in the order of their paths, with the classes and levels that they name. Raises InputError for all that is wrong."""
        self._count_refusals()
        if self._refused:  # of images that are left out, nothing else would be true
            self.notes.check()
        boxes = np.frombuffer(self._boxes).reshape(-1, 4)
        self._check_boxes(boxes)
        self._read_whole_numbers()
        class_names = in_order(self._classes)
        levels = self._agreeing_levels(class_names)
        self.notes.check()
        if for_training and not class_names:
            raise self._no_labels()

        paths = sorted(self._rows)
        order = np.fromiter(map(self._rows.__getitem__, paths), np.int64, len(paths))
        rank = {each: label for label, each in enumerate(class_names)}
        label_of = np.array([*map(rank.__getitem__, self._classes), -1], np.int32)  # its last, -1, stands for no label
        labels = label_of[np.frombuffer(self._labels, np.int32)][order]
        codes = np.frombuffer(self._splits, np.int8)[order]
        splits = np.array(_CODES if (labels < 0).any() else SPLITS)[codes]
        remarks = [*self._remarks, *self._finder.remarks, *self._finder.respelt_remark(), *self._left_out_remark()]
        if self._no_label:
            remarks.append(self._no_label_remark())
        if self._unread_labels:
            remarks.append(f"labels in the split {UNLABELLED} are not read: {self._unread_labels:,}")
        return Dataset(
            name=name,
            root=self._finder.base,
            layout=layout,
            class_names=tuple(class_names),
            paths=tuple(paths),
            labels=labels,
            splits=splits,
            images=Files(self._finder.base),
            boxes=None if np.isnan(boxes).all() else boxes.astype(np.float32)[order],
            groups=np.frombuffer(self._groups, np.int32)[order] if len(self._group_codes) > 1 else None,
            levels=tuple(Level.of(level, parents) for level, parents in levels.items()),
            notes=tuple(remarks),
        )

    def _read_whole_numbers(self) -> None:
        """Call classes 1, 2 and 3 so where all are whole numbers and some have a decimal point, as pandas writes a column with blanks."""
        whole = {name: match for name in self._classes if (match := _WHOLE.fullmatch(name))}
        written = [name for name, match in whole.items() if match[2]]
        if not written or len(whole) < len(self._classes):
            return
        codes: dict[str, int] = {}
        moved = [codes.setdefault(str(int(match[1])), len(codes)) for match in whole.values()]
        self._labels = array("i", (code if code < 0 else moved[code] for code in self._labels))
        for level in self._levels.values():
            parents, others = level.parents, level.others
            level.parents, level.others = {}, {moved[code]: other for code, other in others.items()}
            for code, (parent, place) in parents.items():
                _add_parent(level, moved[code], parent, place)
        self._classes = codes
        self._remarks.append(f"the labels are whole numbers: {shown(written[0])} is read as {whole[written[0]][1]}")

    def _named(self, file: str, found: Columns, own_split: str) -> Iterator[tuple[str, str]]:
        """What a table calls its images, and their splits."""
        for _, (path, word) in open_table(Annotations(self.notes.root), file).rows((found.path, found.split)):
            code = _split_code(word, -2)
            if code != _LEFT_OUT:
                yield path, _CODES[code] if code >= 0 else own_split

    def _label(self, place: Place, text: str) -> int:
        """The number of a label not met before in this spelling, -1 for one that says that there is none."""
        name = plain_name(text)
        if name in self._missing:
            name = ""
        if any(unicodedata.category(character) == "Cc" for character in name):
            self.notes.wrong(place, f"the label {text[:100]!r} holds control characters")
        code = self._classes.setdefault(name, len(self._classes)) if name else -1
        self._label_codes[text] = code
        return code

    def _inner_path(self, place: Place, text: str, folder: str) -> str | None:
        if "://" in text:
            self._refuse("web", place, f"{text[:200]!r} is a web address, and images should be files: download them first")
            return None
        path = text.replace("\\", "/")
        for root in (self.notes.root.absolute(), self.notes.root.resolve()):
            path = path.removeprefix(f"{root.as_posix().rstrip('/')}/")
        try:
            return inner_path(path, folder if path == text.replace("\\", "/") else "")
        except LeadsOut as error:
            self._refuse("out", place, f"{error}: put the table into a folder above the images")
        except NotAPath as error:
            self._refuse("none", place, str(error))
        return None

    def _refuse(self, kind: str, place: Place, what: str) -> None:
        """Note the first path of a kind, and count the others: in many tables all are alike."""
        self._refusals[kind] += 1
        if kind not in self._refused:
            self._refused[kind] = Problem(what, place=str(place))
            self.notes.wrong(place, what)

    def _count_refusals(self) -> None:
        problems = self.notes.problems
        for kind, problem in self._refused.items():
            if (more := self._refusals[kind] - 1) and problem in problems:
                problems[problems.index(problem)] = replace(problem, what=f"{problem.what} (and {more:,} more like it)")

    def _place(self, row: int) -> Place:
        table = next(table for first, table in reversed(self._tables) if first <= row)
        return table.place(self._numbers[row])

    def _check_boxes(self, boxes: np.ndarray) -> None:
        left, top, right, bottom = boxes.T
        whole = np.isfinite(boxes).all(axis=1) & (left < right) & (top < bottom) & (np.maximum(right, bottom) <= FARTHEST)
        for row in np.flatnonzero(~whole & ~np.isnan(boxes).all(axis=1)).tolist():
            self.notes.box(self._place(row), boxes[row].tolist(), self._without_boxes)

    def _agreeing_levels(self, class_names: Sequence[str]) -> dict[str, list[str]]:
        """The parents of the classes in the levels that are the same for all images of a class.

        The other levels are remarked upon, and wrong if they were asked for.
        """
        agreeing = {}
        for name, level in self._levels.items():
            parents = {each: level.parents.get(self._classes[each]) for each in class_names}
            file = Place(self._tables[0][1].file)
            wrong = [(file, f"class {each!r} has no {name}") for each, parent in parents.items() if parent is None]
            wrong += [
                (place, f"class {each!r} has two parents in {name}: {parent[0]!r} ({parent[1]}) and {other!r} ({place})")
                for each, parent in parents.items()
                if parent is not None and self._classes[each] in level.others
                for other, place in [level.others[self._classes[each]]]
            ]
            if not wrong:
                agreeing[name] = [parent[0] for parent in parents.values() if parent is not None]
            elif level.asked:
                for place, what in wrong:
                    self.notes.wrong(place, what)
            else:
                self._remarks.append(f"{name} is not taken as a level: {wrong[0][1]}")
        return agreeing

    def _no_labels(self) -> InputError:
        tables = shown(self.notes.root / self._tables[0][1].file) + " and those beside it" * (len(self._tables) > 1)
        hint = f"The words for splits are {', '.join(SPLIT_WORDS)}." if self._left_out else None
        return InputError(f"{tables}: no labelled images", *self._left_out_remark(), hint=hint)

    def _no_label_remark(self) -> str:
        words = some([f"{word} ({times:,})" for word, times in self._no_label.most_common() if word])
        remark = f"rows that have no label and are unlabelled: {self._no_label.total():,}"
        if words:
            blank = f", blank ({self._no_label['']:,})" if self._no_label[""] else ""
            remark += f", with {words}{blank}; data.missing_labels=blank takes such words as classes"
        return f"{remark}; the first is in {self._first_without}"

    def _left_out_remark(self) -> list[str]:
        if not self._left_out:
            return []
        words = some([f"{word[:50]} ({times:,})" for word, times in self._left_out.most_common(6)])
        return [f"images whose split is none of {', '.join(_CODES)} are left out: {words}"]


def _split_code(word: str, blank: int) -> int:
    plain = _present(word.strip()).lower()
    if not plain:
        return blank
    return _CODES.index(SPLIT_WORDS[plain]) if plain in SPLIT_WORDS else _LEFT_OUT


def _present(text: str) -> str:
    """The same, or "" for what says that there is nothing."""
    return "" if text in MISSING else text


def _is_plain(path: str) -> bool:
    """Whether a path can stay as it is; if in doubt it is not."""
    return len(path) < 1000 and bool(_PLAIN.fullmatch(path)) and not ("//" in path or "/." in path or path[-1] == "/")


def _add_parent(level: _Level, code: int, text: str, place: Place) -> None:
    if name := _present(plain_name(text)):
        before, _ = level.parents.setdefault(code, (name, place))
        if before != name:
            level.others.setdefault(code, (name, place))


def plain_name(text: str) -> str:
    """A name in one spelling of its accents and spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())
