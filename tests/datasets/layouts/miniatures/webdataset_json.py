"""WebDataset shards in folders named after splits, with labels in JSON, and a test without labels."""

import json
from dataclasses import replace
from pathlib import Path

from miniatures import jpeg, webdataset

_NAMES = ("American goldfinch", "Lesser goldfinch")


def write(root: Path) -> Path:
    root = root / "goldfinches"
    for split, first, count in (("train", 0, 4), ("test", 4, 2)):
        members = []
        for seed in range(first, first + count):
            label = {"label": seed % 2, "label_name": _NAMES[seed % 2]} if split == "train" else {"source": "feeder"}
            members += [(f"./birds/{seed:04d}.jpg", jpeg(seed)), (f"./birds/{seed:04d}.json", json.dumps(label).encode())]
        webdataset.shard(root / split / "0.tar", members)
    return root


MINIATURE = replace(
    webdataset.MINIATURE,
    write=write,
    class_names=_NAMES,
    counts={"train": 4, "unlabelled": 2},
    annotations=("goldfinches/*/*.tar",),
)
