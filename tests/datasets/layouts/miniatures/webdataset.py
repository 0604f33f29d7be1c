"""WebDataset shards as its own writer leaves them: images with numbers for labels, named by a file beside the shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from miniatures import Miniature, jpeg, put


def shard(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar file as webdataset.TarWriter writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uname, member.gname = len(data), 0o444, "bigdata", "bigdata"
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(seed: int, label: int) -> list[tuple[str, bytes]]:
    """An image with .cls, and .json that says other things."""
    key = f"sample{seed:06d}"
    about = json.dumps({"id": seed, "width": 64}).encode()
    return [(f"{key}.cls", str(label).encode()), (f"{key}.jpg", jpeg(seed)), (f"{key}.json", about)]


def write(root: Path) -> Path:
    root = root / "finches"
    for name, first, count in (("train-000000", 0, 6), ("train-000001", 6, 3), ("val-000000", 9, 3), ("test-000000", 12, 3)):
        shard(root / f"{name}.tar", [member for seed in range(first, first + count) for member in sample(seed, seed % 3)])
    put(root / "classnames.txt", "house_finch\npurple_finch\ncassins_finch\n")
    return root


MINIATURE = Miniature(
    layout="webdataset",
    write=write,
    class_names=("house finch", "purple finch", "cassins finch"),
    counts={"train": 9, "val": 3, "test": 3},
    levels={},
    boxes=False,
    groups=False,
    annotations=("finches/*.tar", "finches/classnames.txt"),
    marks=(),
    text=False,
)
