"""Plain data out of a pickle, without executing it.

A pickle is a program for a small stack machine, which may import and call anything. Here the program is only followed: of all the names
that it may ask for, only those are known by which Python and NumPy spell bytes and arrays, and nothing is ever imported or called.
"""

from __future__ import annotations

import math
import pickletools
from enum import Enum
from typing import Any

import numpy as np

_MAX_DIMENSIONS = 32
_DTYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_KEYS = (str, bytes, int, float, type(None))


class NotPlainData(ValueError):
    """The pickle is damaged, or holds something else than plain data; the message says what, as the rest of "it …"."""


class _Name(Enum):
    RECONSTRUCT = "numpy.core.multiarray._reconstruct"
    FROMBUFFER = "numpy.core.numeric._frombuffer"
    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    ENCODE = "_codecs.encode"
    BYTES = "builtins.bytes"


_NAMES = {name.value: name for name in _Name} | {
    "numpy._core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy._core.numeric._frombuffer": _Name.FROMBUFFER,
    "__builtin__.bytes": _Name.BYTES,
}


class _Unbuilt:
    """An array or a dtype that the pickle has made and gives its state later; memorised before that, it is recalled with it."""

    def __init__(self, kind: _Name, code: str = ""):
        self.kind = kind
        self.code = code
        self.built: np.ndarray | np.dtype | None = None


def load(data: bytes) -> Any:
    """The value in a pickle of any protocol: dict, list, tuple, str, bytes, int, float, bool, None and arrays of plain numbers.

    The strings of Python 2 are bytes. Keys of dicts are text, bytes or single numbers. Lists and dicts may hold themselves. Arrays cannot
    be written to.

    Raises NotPlainData.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except NotPlainData:
        raise
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise NotPlainData(f"is damaged ({_short(error) or type(error).__name__})") from error
    _require_plain(value)
    return value


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        """The stacks below each mark."""
        self.memo: dict[int, Any] = {}
        self.encoded: dict[int, tuple[str, bytes]] = {}
        """Each text is encoded once however often the pickle asks, so that memory stays in proportion to the file."""

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                value = self.memo[argument]
                stack.append(value.built if isinstance(value, _Unbuilt) and value.built is not None else value)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1"))
            case "BININT" | "BININT1" | "BININT2" | "INT" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "BYTEARRAY8":
                stack.append(bytes(argument))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "LIST":
                items = self.to_mark()
                self.stack.append(items)
            case "TUPLE":
                items = self.to_mark()
                self.stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                items = [stack.pop() for _ in range(count)]
                stack.append(tuple(reversed(items)))
            case "DICT":
                items = self.to_mark()
                self.stack.append({})
                self.set_items(items)
            case "APPEND":
                item = stack.pop()
                self.extend([item])
            case "APPENDS":
                self.extend(self.to_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self.set_items([key, value])
            case "SETITEMS":
                self.set_items(self.to_mark())
            case "GLOBAL":
                stack.append(_named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_named(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "what has no name"))
            case "INST":
                _named(argument.replace(" ", ".", 1))
                raise NotPlainData("holds an object, which is not data")
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.call(function, arguments))
            case "BUILD":
                state, made = stack.pop(), stack.pop()
                stack.append(_build(made, state))
            case "POP":
                stack.pop() if stack else self.to_mark()
            case "POP_MARK":
                self.to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO":
                if argument > 5:
                    raise NotPlainData(f"is a pickle of protocol {argument}, which is not known")
            case "STOP":
                if self.below:
                    raise NotPlainData("is damaged (it ends in the middle)")
            case "FRAME":
                pass
            case _:
                raise NotPlainData(f"holds {opcode}, which is not data")

    def to_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise NotPlainData("is damaged (it appends to what is no list)")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise NotPlainData("is damaged (it sets items of what is no dict)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise NotPlainData("has a dict whose keys are not text, bytes or numbers")
            target[key] = value

    def call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, _Name) and isinstance(arguments, tuple):
            match function, arguments:
                case _Name.RECONSTRUCT, (_Name.NDARRAY, _, _):
                    return _Unbuilt(_Name.NDARRAY)
                case _Name.DTYPE, (str() | bytes() as code, *_):
                    return _Unbuilt(_Name.DTYPE, code if isinstance(code, str) else code.decode("latin-1"))
                case _Name.FROMBUFFER, (bytes() as raw, np.dtype() as dtype, tuple() as shape, str() as order):
                    return _array(raw, dtype, shape, order == "F")
                case _Name.ENCODE, (str() as text, str() as encoding) if encoding == "latin1":
                    return self.encoded.setdefault(id(text), (text, text.encode("latin-1")))[1]
                case _Name.BYTES, ():
                    return b""
        what = function.value if isinstance(function, _Name) else f"a {type(function).__name__}"
        raise NotPlainData(f"calls {what} in a way that does not give data")


def _named(name: str) -> _Name:
    if name not in _NAMES:
        raise NotPlainData(f"calls {_short(name)}, which is not data")
    return _NAMES[name]


def _build(made: Any, state: Any) -> np.ndarray | np.dtype:
    if not isinstance(made, _Unbuilt) or made.built is not None or not isinstance(state, tuple):
        raise NotPlainData("gives a state to what has none")
    match made.kind, state:
        case _Name.DTYPE, (int(), str() | bytes() as order, None, None, None, int(), int(), *_):
            order = order if isinstance(order, str) else order.decode("latin-1")
            if made.code not in _DTYPES or order not in ("<", ">", "=", "|"):
                raise NotPlainData(f"holds an array of {_short(order + made.code)}, which are not plain numbers")
            made.built = np.dtype(order + made.code)
        case _Name.NDARRAY, (int(), tuple() as shape, np.dtype() as dtype, bool() | int() as fortran, bytes() as raw):
            made.built = _array(raw, dtype, shape, bool(fortran))
        case _:
            raise NotPlainData("holds an array whose state is not shape, type and bytes")
    return made.built


def _array(raw: bytes, dtype: np.dtype, shape: tuple, fortran: bool) -> np.ndarray:
    if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise NotPlainData("holds an array whose shape is not a few whole numbers")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise NotPlainData(f"holds an array of shape {shape} in {len(raw):,} bytes")
    return np.ndarray(shape, dtype, raw, order="F" if fortran else "C")


def _require_plain(value: Any) -> None:
    """Raise NotPlainData for names, dtypes and unfinished arrays that are left in the data."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (_Name, _Unbuilt, np.dtype)):
            raise NotPlainData("holds a name, a type or an unfinished array where data should be")
        if isinstance(value, (list, tuple, dict)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _short(what: object) -> str:
    return repr(str(what))[1:-1][:100]
