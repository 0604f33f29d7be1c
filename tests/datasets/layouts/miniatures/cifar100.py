"""CIFAR-100 in its folder, with three classes in two superclasses: pickles as Python 2's cPickle wrote them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miniatures import Miniature, put

FINE = ["apple", "aquarium_fish", "pear"]
COARSE = ["fish", "fruit_and_vegetables"]
COARSE_OF_FINE = [1, 0, 1]
NAMES = ("malus_pumila", "carassius_auratus", "pyrus")


def cpickle(value: object) -> bytes:
    """A pickle of protocol 2 by Python 2's cPickle, whose text are byte strings."""
    return b"\x80\x02" + _Python2().dump(value) + b"."


class _Python2:
    def __init__(self) -> None:
        self.memorised = 0

    def memo(self, code: bytes) -> bytes:
        self.memorised += 1
        return code + (b"q" + bytes([self.memorised]) if self.memorised < 256 else b"r" + struct.pack("<I", self.memorised))

    def dump(self, value: object) -> bytes:
        match value:
            case bool():
                return b"\x88" if value else b"\x89"
            case None:
                return b"N"
            case int():
                if 0 <= value < 256:
                    return b"K" + bytes([value])
                return b"M" + struct.pack("<H", value) if 0 <= value < 2**16 else b"J" + struct.pack("<i", value)
            case str() | bytes():
                raw = value.encode() if isinstance(value, str) else value
                return self.memo((b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw)
            case list():
                return self.memo(b"]") + b"(" + b"".join(map(self.dump, value)) + b"e"
            case dict():
                return self.memo(b"}") + b"(" + b"".join(self.dump(key) + self.dump(each) for key, each in value.items()) + b"u"
            case tuple():
                items = b"".join(map(self.dump, value))
                return self.memo(items + (b"\x85\x86\x87"[len(value) - 1 : len(value)] if len(value) < 4 else b"t"))
            case np.ndarray():
                made = self.memo(b"cnumpy.core.multiarray\n_reconstruct\n") + self.memo(b"cnumpy\nndarray\n")
                made = self.memo(self.memo(made + self.dump((0,)) + self.dump("b") + b"\x87") + b"R")
                dtype = self.memo(b"cnumpy\ndtype\n") + self.dump(value.dtype.str[1:]) + b"K\x00K\x01"
                dtype = self.memo(self.memo(dtype + b"\x87") + b"R")
                dtype += b"(K\x03" + self.dump(value.dtype.str[:1]) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
                dtype = self.memo(dtype + b"t") + b"b"
                state = b"(K\x01" + self.dump(value.shape) + dtype + b"\x89" + self.dump(value.tobytes())
                return made + self.memo(state + b"t") + b"b"
        raise TypeError(type(value))


def batch(fine: Sequence[int], names: Sequence[str], what: str, seed: int) -> dict[str, object]:
    """The dictionary in train or test."""
    return {
        "filenames": list(names),
        "batch_label": what,
        "fine_labels": list(fine),
        "coarse_labels": [COARSE_OF_FINE[label] for label in fine],
        "data": np.random.default_rng(seed).integers(0, 256, (len(fine), 3072), np.uint8),
    }


def write(root: Path) -> Path:
    root = root / "cifar-100-python"
    for split, what, count in (("train", "training batch 1 of 1", 9), ("test", "testing batch 1 of 1", 6)):
        fine = [number % 3 for number in range(count)]
        names = [f"{NAMES[label]}_s_{number:06d}.png" for number, label in enumerate(fine)]
        put(root / split, cpickle(batch(fine, names, what, count)))
    put(root / "meta", cpickle({"fine_label_names": FINE, "coarse_label_names": COARSE}))
    put(root / "file.txt~", "")
    return root


MINIATURE = Miniature(
    layout="cifar100",
    write=write,
    class_names=("apple", "aquarium fish", "pear"),
    counts={"train": 9, "test": 6},
    levels={"superclass": ("fruit and vegetables", "fish", "fruit and vegetables")},
    boxes=False,
    groups=False,
    annotations=("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
    marks=("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
    text=False,
)
