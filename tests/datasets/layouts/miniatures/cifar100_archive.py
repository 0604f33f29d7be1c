"""CIFAR-100 as it is downloaded: cifar-100-python.tar.gz."""

import tarfile
from dataclasses import replace
from pathlib import Path

from miniatures import cifar100


def write(root: Path) -> Path:
    folder = cifar100.write(root / "unpacked")
    archive = root / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(folder, folder.name, recursive=False)
        for name in ("file.txt~", "train", "test", "meta"):
            tar.add(folder / name, f"{folder.name}/{name}")
    return archive


MINIATURE = replace(cifar100.MINIATURE, write=write, annotations=("*.tar.gz",), marks=())
