"""Variables of MATLAB 5 files (.mat): what annotations are made of, which is numbers, text, cells and structs.

`scipy.io.loadmat` is not used, because damaged files end its whole process with a segmentation fault.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from fieldmark.datasets.layouts.annotations import Annotations, Place

_HEADER = 128
_LARGEST = 16 * 2**20
"""Bytes of one variable, unpacked: twice what any published annotations need."""
_DEEPEST = 8
_MOST_DIMENSIONS = 32

_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {
    "<": {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"},
    ">": {1: "latin-1", 2: "latin-1", 4: "utf-16-be", 16: "utf-8", 17: "utf-16-be", 18: "utf-32-be"},
}


def load_mat(notes: Annotations, file: str, *variables: str) -> dict[str, list[Any]]:
    """Each variable as the list of its elements, column by column as MATLAB counts them.

    An element is a number (an int if it is whole), text, a dict (of a struct), or a list if it is an array itself. A variable that
    cannot be read is noted and empty.
    """
    stored: dict[str, list[Any]] = {}
    data = notes.bytes(file)
    if data is not None:
        try:
            stored = _variables(data, variables)
            if missing := [name for name in variables if name not in stored]:
                notes.wrong(Place(file), f"it holds no {', '.join(missing)}")
        except (ValueError, struct.error, zlib.error) as error:
            notes.wrong(Place(file), f"it is not a MATLAB 5 file that can be read ({error})")
    return {name: stored.get(name, []) for name in variables}


def _variables(data: bytes, wanted: tuple[str, ...]) -> dict[str, list[Any]]:
    mark = data[_HEADER - 4 : _HEADER]
    if mark not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise ValueError("its header is that of another format")
    order = "<" if mark.endswith(b"IM") else ">"
    stored = {}
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(content, _LARGEST + 1)
            if not unpacker.eof and len(unpacked) <= _LARGEST:
                raise ValueError("a compressed variable is cut off")
            content = memoryview(unpacked)
            if len(content) <= _LARGEST:
                kind, content = next(_elements(content, order), (0, content))
        if len(content) > _LARGEST:
            raise ValueError(f"a variable is larger than {_LARGEST // 2**20} MiB")
        if kind == _MATRIX and (name := _name(content, order)) in wanted:
            value = _value(content, order, 0)
            stored[name] = value if isinstance(value, list) else [value]
    return stored


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and contents of each element; what is shorter than five bytes lies within its own tag."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end = start + size
        if end > len(data) or (start == at + 4 and size > 4):
            raise ValueError("an element is cut off")
        yield kind, data[start:end]
        at = end if kind == _COMPRESSED else at + 8 if start == at + 4 else -(-end // 8) * 8


def _name(matrix: memoryview, order: str) -> str:
    (_, _flags), (_, _sizes), (_, name) = islice(_elements(matrix, order), 3)
    return bytes(name).decode("ascii")


def _value(matrix: memoryview, order: str, depth: int) -> Any:
    if not matrix:
        return []
    if depth > _DEEPEST:
        raise ValueError("its arrays are nested too deep")
    elements = _elements(matrix, order)
    (_, flags), (_, sizes), _name = islice(elements, 3)
    form = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    if len(sizes) > 4 * _MOST_DIMENSIONS:
        raise ValueError("an array has too many dimensions")
    count = math.prod(struct.unpack(f"{order}{len(sizes) // 4}i", sizes))
    if form in _NUMERIC:
        numbers = _numbers(*next(elements, (2, memoryview(b""))), order)
        _same(len(numbers), count)
        return numbers[0] if count == 1 else numbers
    if form == _CHAR:
        kind, text = next(elements, (16, memoryview(b"")))
        encoding = _ENCODINGS[order].get(kind)
        if encoding is None:
            raise ValueError(f"text is stored as elements of type {kind}")
        return bytes(text).decode(encoding)
    if form == _STRUCT:
        (_, width), (_, joined) = islice(elements, 2)
        (step,) = struct.unpack(f"{order}I", width)
        names = [bytes(joined[start : start + step]).partition(b"\0")[0].decode("ascii") for start in range(0, len(joined), step)]
        values = _inner(elements, order, depth)
        _same(len(values), count * len(names))
        return [dict(zip(names, values[start : start + len(names)], strict=True)) for start in range(0, len(values), len(names))]
    if form == _CELL:
        values = _inner(elements, order, depth)
        _same(len(values), count)
        return values
    raise ValueError(f"it holds an array of class {form}, which is none of numbers, text, cells and structs")


def _inner(elements: Iterator[tuple[int, memoryview]], order: str, depth: int) -> list[Any]:
    values = []
    for kind, content in elements:
        if kind != _MATRIX:
            raise ValueError("there is no array where one should be")
        values.append(_value(content, order, depth + 1))
    return values


def _numbers(kind: int, content: memoryview, order: str) -> list[int | float]:
    if kind not in _NUMBERS:
        raise ValueError(f"numbers are stored as elements of type {kind}")
    numbers = np.frombuffer(content, f"{order}{_NUMBERS[kind]}").tolist()
    return [int(number) if isinstance(number, float) and number.is_integer() else number for number in numbers]


def _same(found: int, stated: int) -> None:
    if found != stated:
        raise ValueError(f"an array has {found:,} elements, and states {stated:,}")
