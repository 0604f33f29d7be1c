"""CIFAR-10 in its folder, with three classes: pickles as Python 2's cPickle wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miniatures import Miniature, put
from miniatures.cifar100 import cpickle

NAMES = ["airplane", "automobile", "bird"]
FILES = {**{f"data_batch_{number}": f"training batch {number} of 5" for number in range(1, 6)}, "test_batch": "testing batch 1 of 1"}


def write(root: Path) -> Path:
    root = root / "cifar-10-batches-py"
    for seed, (file, what) in enumerate(FILES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (3, 3072), np.uint8)
        names = [f"{NAMES[label]}_s_{label:06d}.png" for label in range(3)]
        put(root / file, cpickle({"batch_label": what, "labels": [0, 1, 2], "data": pixels, "filenames": names}))
    put(root / "batches.meta", cpickle({"num_cases_per_batch": 3, "label_names": NAMES, "num_vis": 3072}))
    put(root / "readme.html", "")
    return root


MINIATURE = Miniature(
    layout="cifar10",
    write=write,
    class_names=("airplane", "automobile", "bird"),
    counts={"train": 15, "test": 3},
    levels={},
    boxes=False,
    groups=False,
    annotations=("cifar-10-batches-py/*_batch*", "cifar-10-batches-py/batches.meta"),
    marks=tuple(f"cifar-10-batches-py/{file}" for file in (*FILES, "batches.meta")),
    text=False,
)
