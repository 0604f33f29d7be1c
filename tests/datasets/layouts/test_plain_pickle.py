from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniatures.cifar100 import cpickle

from fieldmark.datasets.layouts.plain_pickle import NotPlainData, load

PROTOCOLS = range(6)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = st.none() | st.integers() | st.text() | st.binary()
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=30,
)


def error_of(data: bytes) -> str:
    with pytest.raises(NotPlainData) as caught:
        load(data)
    return str(caught.value)


def test_plain_data_come_back_as_they_were() -> None:
    @given(plain, st.sampled_from(PROTOCOLS))
    def check(value: object, protocol: int) -> None:
        read = load(pickle.dumps(value, protocol))
        assert read == value and repr(read) == repr(value)

    check()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i8", ">f4", "f8", "?"])
def test_arrays_come_back_as_they_were(protocol: int, dtype: str) -> None:
    array = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
    stored = [array, np.asfortranarray(array), array[:, ::2], array[:0], {"again": array}]
    for before, read in zip(stored, load(pickle.dumps(stored, protocol)), strict=True):
        before, read = (each["again"] if isinstance(each, dict) else each for each in (before, read))
        assert read.dtype == before.dtype and read.shape == before.shape and (read == before).all()


def test_a_pickle_of_python_2_as_cpickle_wrote_it() -> None:
    pixels = bytes(range(256)) * 2
    stream = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05U\x01bq\x06\x87q\x07R"
        b"q\x08(K\x01K\x02M\x00\x01\x86q\x09cnumpy\ndtype\nq\nU\x02u1q\x0bK\x00K\x01\x87q\x0cRq\r(K\x03U\x01|q\x0eNNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tq\x0fb\x89T"
        + struct.pack("<i", len(pixels))
        + pixels
        + b"q\x10tq\x11bU\x06labelsq\x12]q\x13(K\x00K\x01eu."
    )
    stored = load(stream)
    assert list(stored) == [b"data", b"labels"] and stored[b"labels"] == [0, 1]
    assert stored[b"data"].dtype == np.uint8 and stored[b"data"].shape == (2, 256) and stored[b"data"].tobytes() == pixels
    assert stored[b"data"].tobytes() == pickle.loads(stream, encoding="bytes")[b"data"].tobytes()


def test_the_miniature_writes_what_python_itself_reads() -> None:
    data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    stored = {"names": ["a.png", "x" * 300], "labels": [0, 256, 70_000], "data": data, "none": (None, True)}
    for read in (load(cpickle(stored)), pickle.loads(cpickle(stored), encoding="bytes")):
        assert read[b"names"] == [b"a.png", b"x" * 300] and read[b"labels"] == [0, 256, 70_000] and read[b"none"] == (None, True)
        assert (read[b"data"] == data).all()


class _Planted:
    def __init__(self, function: object, *arguments: object):
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr])
def test_planted_calls_do_nothing_and_are_named(tmp_path: Path, protocol: int, function: object) -> None:
    marker = tmp_path / "marker"
    argument = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    message = error_of(pickle.dumps({"data": _Planted(function, argument)}, protocol))
    assert message.endswith(f"{function.__name__}, which is not data") and message.startswith("calls ")  # type: ignore[attr-defined]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "calls os.system, which is not data"),
        (b"(S'true'\nios\nsystem\n.", "calls os.system, which is not data"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "calls os.system, which is not data"),
        (b"\x80\x02cnumpy\nndarray\n.", "holds a name, a type or an unfinished array"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "holds NEWOBJ, which is not data"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNK\x00K\x00K\x00tb.", "not plain numbers"),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x07unicode\x86R.", "calls _codecs.encode in a way that does not give data"),
        (b"Pelsewhere\n.", "holds PERSID, which is not data"),
        (b"\x80\x02\x82\x01.", "holds EXT1, which is not data"),
        (b"\x80\x05\x97.", "holds NEXT_BUFFER, which is not data"),
        (b"}(](K\x01eK\x02u.", "keys are not text, bytes or numbers"),
        (b"\x80\x02]", "is damaged"),
        (b"((.", "ends in the middle"),
        (b"h\x07.", "is damaged"),
        (b"K\x01K\x02.", "is damaged"),
        (b"K\x01K\x02a.", "appends to what is no list"),
        (b"\x80\x09N.", "protocol 9"),
        (b"", "is damaged"),
        (b"not a pickle", "is damaged"),
    ],
)
def test_what_is_refused(stream: bytes, reason: str) -> None:
    assert reason in error_of(stream)


def test_an_array_must_fill_its_shape() -> None:
    whole = cpickle(np.zeros((2, 3), np.uint8))
    assert "of shape (2, 4) in 6 bytes" in error_of(whole.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"))
    assert "shape is not a few whole numbers" in error_of(whole.replace(b"K\x02K\x03\x86", b"K\x02J\xff\xff\xff\xff\x86"))


def test_small_bombs_stay_small() -> None:
    doubled = b"]q\x000" + b"(h\x00h\x00tq\x000" * 60 + b"h\x00."
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x03"
    call = b"c_codecs\nencode\nh\x03h\x05\x86R"
    encoded = b"\x80\x02]q\x01(" + text + b"X\x06\x00\x00\x00latin1q\x05" + call * 1_000 + b"e."
    deep = b"]" * 20_000 + b"a" * 19_999 + b"."
    tracemalloc.start()
    for stream in (doubled, encoded, deep):
        load(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000
