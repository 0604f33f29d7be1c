"""The records of a table file with named columns: CSV, TSV, JSON Lines or Parquet, read one after another and never held as a whole."""

from __future__ import annotations

import csv
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fieldmark.core.names import shown
from fieldmark.datasets.layouts.annotations import Annotations, Place, is_text, reason

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = ",;\t"
_SEP = re.compile(r"sep=([,;|\t])\s*")
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")  # its byte order marks, escaped
_NOT_UTF_8 = "it is not UTF-8 text; save it as 'CSV UTF-8'"
_LINE_LIMIT = 1_000_000
_TEXT_LIMIT = 131_072  # as in Python's csv
_RECORD_LIMIT = 100_000_000
_BATCH = 16_384
_FIRST_RECORDS = 100


def is_table(path: Path) -> bool:
    """Whether it is a file that by its name is a table."""
    return path.suffix.lower() in SUFFIXES and os.path.isfile(path)


def no_table(path: Path) -> str:
    """What is wrong with a path that is no table."""
    return f"{shown(str(path))} is not a table" if os.path.lexists(path) else f"there is no file {shown(str(path))}"


class Table(ABC):
    """A table file below the root of `notes`, which takes what is wrong with it.

    Args:
        header: the names of its columns, none if they cannot be read; "" for a column of lists, structures or images.
        holds_images: whether images are in the table themselves.
        decimal_commas: whether a comma in a number is a decimal one.
    """

    unit = "line"

    def __init__(self, notes: Annotations, file: str):
        self.notes = notes
        self.file = file
        self.header: tuple[str, ...] = ()
        self.holds_images = False
        self.decimal_commas = False

    def place(self, number: int) -> Place:
        return Place(self.file, number, self.unit)

    @abstractmethod
    def rows(self, columns: Sequence[int | None]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The texts of each record in these columns, two or more, with the number of its line or record; None is a column of blanks.

        Blank records are skipped, and those that are wrong are noted and skipped. May be called once.
        """


def open_table(notes: Annotations, file: str) -> Table:
    """The table, its header read."""
    return {".parquet": _Parquet, ".jsonl": _JsonLines}.get(Path(file).suffix.lower(), _Csv)(notes, file)


class _Csv(Table):
    """UTF-8 text. A TSV is separated by tabs, a CSV by whichever of comma, semicolon and tab gives its header the most columns.

    A first line "sep=;", which Excel knows, names another one.
    """

    def __init__(self, notes: Annotations, file: str):
        super().__init__(notes, file)
        self._noted: set[str] = set()
        self._records = self._read()
        _, header = next(self._records, (0, []))
        self.header = tuple(name.strip() for name in header)

    def rows(self, columns: Sequence[int | None]) -> Iterator[tuple[int, tuple[str, ...]]]:
        width = len(self.header)
        pick = itemgetter(*(width if column is None else column for column in columns))
        for number, record in self._records:
            if len(record) != width:
                self.notes.wrong(self.place(number), f"it has {len(record):,} fields, and the header has {width:,}")
                continue
            record.append("")
            yield number, pick(record)

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        """Records that are not blank, with the line in which each begins."""
        try:
            # Bytes that are not UTF-8 become surrogates, so that their line can be named.
            with open(self.notes.root / self.file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
                lines = self._lines(stream)
                first = next(lines, "")
                if sep := _SEP.fullmatch(first):
                    delimiter, first = sep[1], "\n"  # blank, so that it counts as a line
                else:
                    delimiter = "\t" if self.file.lower().endswith(".tsv") else _delimiter(first)
                self.decimal_commas = delimiter != ","
                reader = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True, strict=True)
                while True:
                    start = reader.line_num + 1
                    try:
                        for record in reader:
                            if any(record):
                                yield start, record
                            start = reader.line_num + 1
                        return
                    except csv.Error as error:
                        self.notes.wrong(self.place(start), f"it cannot be read as CSV ({error}); is a quote left open?")
        except OSError as error:
            self.notes.wrong(Place(self.file), f"it cannot be read ({error.strerror})")

    def _lines(self, stream: TextIO) -> Iterator[str]:
        """Every line with its end, blank if it holds a zero byte, as in Windows-1252 if it is not UTF-8."""
        for number in count(1):
            line = stream.readline(_LINE_LIMIT)
            if not line:
                return
            if len(line) == _LINE_LIMIT:
                self.notes.wrong(self.place(number), f"it is longer than {_LINE_LIMIT:,} characters; the lines after it were not read")
                return
            if number == 1 and line.startswith(_UTF_16):
                self._wrong_once(number, _NOT_UTF_8)
                return
            if "\0" in line:
                self._wrong_once(number, "it holds a zero byte")
                line = "\n"
            elif not line.isascii() and not is_text(line):
                self._wrong_once(number, _NOT_UTF_8)
                line = line.encode(errors="surrogateescape").decode("cp1252", errors="replace")
            yield line

    def _wrong_once(self, number: int, what: str) -> None:
        """Note what is likely to be wrong with many lines."""
        if what not in self._noted:
            self._noted.add(what)
            self.notes.wrong(self.place(number), what)


class _JsonLines(Table):
    """An object in each line. The columns are the keys of the first records; what holds lists or objects there is none."""

    def __init__(self, notes: Annotations, file: str):
        super().__init__(notes, file)
        kinds: dict[str, bool] = {}
        for _, record in islice(self._read(Annotations(notes.root)), _FIRST_RECORDS):
            for name, value in record.items():
                kinds[name] = kinds.get(name, True) and not isinstance(value, list | dict)
        self._keys = list(kinds)
        self.header = tuple(name.strip() if is_plain else "" for name, is_plain in kinds.items())
        if not kinds:
            next(self._read(notes), None)

    def rows(self, columns: Sequence[int | None]) -> Iterator[tuple[int, tuple[str, ...]]]:
        keys = [None if column is None else self._keys[column] for column in columns]
        for number, record in self._read(self.notes):
            yield number, tuple("" if key is None else _json_text(record.get(key)) for key in keys)

    def _read(self, notes: Annotations) -> Iterator[tuple[int, dict[str, Any]]]:
        """The objects, with their lines; others are noted."""
        try:
            with open(notes.root / self.file, "rb") as stream:
                for number in count(1):
                    line = stream.readline(_LINE_LIMIT)
                    if not line:
                        return
                    if len(line) == _LINE_LIMIT:
                        notes.wrong(self.place(number), f"it is longer than {_LINE_LIMIT:,} bytes; the lines after it were not read")
                        return
                    if not line.strip():
                        continue
                    try:
                        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                    except UnicodeDecodeError:
                        notes.wrong(self.place(number), "it is not UTF-8 text")
                    except (ValueError, RecursionError) as error:
                        notes.wrong(self.place(number), f"it is not JSON ({reason(error)})")
                    else:
                        if isinstance(record, dict):
                            yield number, record
                        else:
                            notes.wrong(self.place(number), "it should hold an object with names and values")
        except OSError as error:
            notes.wrong(Place(self.file), f"it cannot be read ({error.strerror})")


def _json_text(value: Any) -> str:
    """A value of JSON as a table has it: "" for null and for what is no text and no number."""
    if isinstance(value, str):
        return value if is_text(value) else ""
    return "" if value is None or isinstance(value, list | dict) else str(value)


class _Parquet(Table):
    unit = "record"

    def __init__(self, notes: Annotations, file: str):
        super().__init__(notes, file)
        import pyarrow.parquet as pq
        from pyarrow import types

        from fieldmark.datasets.layouts.row_images import image_columns

        try:
            with pq.ParquetFile(notes.root / file) as parquet:
                schema = parquet.schema_arrow
                self._texts = [field.name for field in schema if types.is_string(field.type)]
                images = image_columns(schema)
                self.header = tuple("" if types.is_nested(field.type) or field.name in images else field.name for field in schema)
                self.holds_images = bool(images)
        except Exception as error:  # a damaged file raises almost anything
            self._unreadable(error)

    def rows(self, columns: Sequence[int | None]) -> Iterator[tuple[int, tuple[str, ...]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [None if column is None else self.header[column] for column in columns]
        wanted = sorted({name for name in names if name is not None})
        repeated = [name for name in wanted if name in self._texts]  # kept as dictionaries: a long text in many records takes little room
        start = 1
        try:
            with pq.ParquetFile(self.notes.root / self.file, read_dictionary=repeated) as parquet:
                for batch in parquet.iter_batches(_BATCH, columns=wanted, use_threads=False):
                    if start + len(batch) > _RECORD_LIMIT:
                        self.notes.wrong(self.place(start), f"a table may have {_RECORD_LIMIT:,} records at most")
                        return
                    texts: dict[str | None, list[str]] = {name: _texts(batch.column(name)) for name in wanted}
                    texts[None] = [""] * len(batch)
                    yield from zip(count(start), zip(*(texts[name] for name in names), strict=True), strict=False)
                    start += len(batch)
                    pa.default_memory_pool().release_unused()
        except Exception as error:
            self._unreadable(error)

    def _unreadable(self, error: Exception) -> None:
        self.notes.wrong(Place(self.file), f"it is not a Parquet file that can be read ({reason(error)})")


def _texts(column: Any) -> list[str]:
    """The values of an Arrow array as text, "" for null. Raises if they cannot be text, or are damaged."""
    import pyarrow as pa

    if not isinstance(column, pa.DictionaryArray):
        column.validate(full=True)
        texts: list[str] = column.cast(pa.string()).fill_null("").to_pylist()
        if max(map(len, texts), default=0) > _TEXT_LIMIT:
            raise ValueError(f"a text is longer than {_TEXT_LIMIT:,} characters")
        return texts
    used, positions = np.unique(column.indices.cast(pa.int64()).fill_null(-1).to_numpy(), return_inverse=True)
    values = _texts(column.dictionary.take(pa.array(used[used >= 0])))
    values += [""] * (len(used) - len(values))  # null is position 0, and so one before the first value
    shift = len(used) - int((used >= 0).sum())
    return [values[position - shift] for position in positions.tolist()]


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=lambda delimiter: _fields(header, delimiter))


def _fields(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), ()))
    except csv.Error:
        return 0
