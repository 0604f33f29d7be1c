"""MATLAB files: numbers, text, cells and structs; damaged and hostile files."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from mat_files import cells, put_mat, structs
from test_contract import mutated

from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.matlab import load_mat

RECORDS = structs(("x", "name"), [(3, "a.jpg"), (2, "bé.jpg")])


def load(path: Path, *variables: str) -> tuple[dict[str, list], list[str]]:
    notes = Annotations(path.parent)
    return load_mat(notes, path.name, *variables), [str(problem) for problem in notes.problems]


@pytest.mark.parametrize("compressed", [False, True])
def test_variables_are_lists_of_python_values(tmp_path: Path, compressed: bool) -> None:
    file = put_mat(
        tmp_path / "a.mat",
        compressed,
        records=RECORDS,
        one=structs(("x",), [(7,)]),
        names=cells(["Kestrel", "", cells(["Merlin", 2.0])]),
        labels=np.array([[1, 300], [2, 4]], np.uint16),
        scalar=np.float64(2.5),
        numbers=np.array([-1.0, np.nan, np.inf, 2**40]),
        text="Hobby",
        empty=np.zeros((0, 0)),
    )
    found, problems = load(file, "records", "one", "names", "labels", "scalar", "numbers", "text", "empty")
    assert problems == []
    assert str(found["numbers"]) == f"[-1, nan, inf, {2**40}]"
    del found["numbers"]
    assert found == {
        "records": [{"x": 3, "name": "a.jpg"}, {"x": 2, "name": "bé.jpg"}],
        "one": [{"x": 7}],
        "names": ["Kestrel", "", ["Merlin", 2]],
        "labels": [1, 2, 300, 4],
        "scalar": [2.5],
        "text": ["Hobby"],
        "empty": [],
    }


def element(order: str, kind: int, content: bytes) -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(order: str, form: int, sizes: tuple[int, ...], name: str, *parts: bytes) -> bytes:
    head = (element(order, 6, struct.pack(f"{order}II", form, 0)), element(order, 5, struct.pack(f"{order}{len(sizes)}i", *sizes)))
    return element(order, 14, b"".join((*head, element(order, 1, name.encode()), *parts)))


def header(order: str) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_utf_16(tmp_path: Path, order: str) -> None:
    text = "Škoda".encode("utf-16-le" if order == "<" else "utf-16-be")
    small = struct.pack(f"{order}I", 2 << 16 | 3) + struct.pack(f"{order}h", -5) + bytes(2)
    file = tmp_path / "a.mat"
    file.write_bytes(header(order) + array(order, 4, (1, 5), "t", element(order, 4, text)) + array(order, 6, (1, 1), "n", small))
    assert load(file, "t", "n") == ({"t": ["Škoda"], "n": [-5]}, [])


def test_what_is_missing_or_no_matlab_file_is_noted(tmp_path: Path) -> None:
    file = put_mat(tmp_path / "a.mat", labels=np.arange(3))
    assert load(file, "labels", "names") == ({"labels": [0, 1, 2], "names": []}, ["a.mat: it holds no names"])
    assert load(tmp_path / "b.mat", "labels") == ({"labels": []}, ["b.mat: it cannot be read (No such file or directory)"])
    for content in (b"", b"fname,class\n" * 40, b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"):
        file.write_bytes(content)
        found, problems = load(file, "labels")
        assert found == {"labels": []}
        assert problems == ["a.mat: it is not a MATLAB 5 file that can be read (its header is that of another format)"]


def test_arrays_nested_too_deep_and_too_large_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    nested = b""
    for depth in range(2000, 0, -1):
        nested = array("<", 1, (1, 1), "a" if depth == 1 else "", nested)
    file.write_bytes(header("<") + nested)
    assert "nested too deep" in load(file, "a")[1][0]
    file.write_bytes(header("<") + array("<", 6, (2**31 - 1,) * 33, "a"))
    assert "too many dimensions" in load(file, "a")[1][0]
    file.write_bytes(header("<") + array("<", 1, (2**31 - 1, 2**31 - 1), "a"))
    assert "0 elements, and states" in load(file, "a")[1][0]


def test_a_small_file_that_unpacks_to_256_mib_takes_little_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj()
    zeros = bytes(2**20)
    packed = packer.compress(struct.pack("<II", 14, 2**28)) + b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    (tmp_path / "a.mat").write_bytes(header("<") + struct.pack("<II", 15, len(packed)) + packed)
    assert len(packed) < 2**19
    script = (
        "import resource, sys; from pathlib import Path; from fieldmark.datasets.layouts.annotations import Annotations\n"
        "from fieldmark.datasets.layouts.matlab import load_mat\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "notes = Annotations(Path(sys.argv[1])); load_mat(notes, 'a.mat', 'a'); print(*notes.problems)\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "a variable is larger than 16 MiB" in done.stdout


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_noted_and_never_crash(tmp_path: Path, compressed: bool) -> None:
    file = put_mat(tmp_path / "a.mat", compressed, records=RECORDS, names=cells(["a", "b"]), labels=np.arange(9))
    whole = file.read_bytes()
    randomness = random.Random(compressed)
    noted = 0
    for _ in range(2000):
        file.write_bytes(mutated(whole, randomness))
        found, problems = load(file, "records", "names", "labels")
        assert set(found) == {"records", "names", "labels"}
        noted += bool(problems)
    assert noted > 1500


def test_every_cut_is_noted(tmp_path: Path) -> None:
    file = put_mat(tmp_path / "a.mat", compressed=False, records=RECORDS)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        found, problems = load(file, "records")
        assert len(problems) == 1 and found == {"records": []}, length
