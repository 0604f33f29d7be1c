"""Oxford Flowers-102 with the labels 1 to 3: one image each in train and in val, two in test."""

from pathlib import Path

import numpy as np
from mat_files import put_mat

from miniatures import Miniature, jpeg, put

LABELS = (1, 3, 2, 3, 1, 2, 2, 3, 1, 1, 2, 3)
# Numbers of images, from 1. As published, they are not in order.
SPLITS = {"trnid": (6, 2, 1), "valid": (3, 4, 5), "tstid": (7, 12, 11, 10, 9, 8)}


def write(root: Path) -> Path:
    root = root / "flowers-102"
    put_mat(root / "imagelabels.mat", labels=np.array(LABELS, np.uint8))
    put_mat(root / "setid.mat", **{name: np.array(numbers, np.uint16) for name, numbers in SPLITS.items()})
    for number in range(1, len(LABELS) + 1):
        put(root / "jpg" / f"image_{number:05d}.jpg", jpeg(number))
    return root


MINIATURE = Miniature(
    layout="flowers",
    write=write,
    class_names=("pink primrose", "hard-leaved pocket orchid", "canterbury bells"),
    counts={"train": 3, "val": 3, "test": 6},
    levels={},
    boxes=False,
    groups=False,
    annotations=("flowers-102/*.mat",),
    marks=("flowers-102/imagelabels.mat", "flowers-102/setid.mat", "flowers-102/jpg"),
    text=False,
)
