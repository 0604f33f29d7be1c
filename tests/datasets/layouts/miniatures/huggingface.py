"""A dataset of the Hugging Face hub as it is downloaded: Parquet files as datasets' push_to_hub writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from miniatures import Miniature, jpeg, put

FINE = ("maple", "oak_tree", "pike", "trout")
COARSE = ("fish", "trees")
COARSE_OF_FINE = (1, 1, 0, 0)


def table(seeds: Sequence[int], hidden: bool = False) -> pa.Table:
    """The columns img, fine_label and coarse_label, with the names of the labels in the schema; -1 for those that are hidden."""
    features = {
        "img": {"_type": "Image"},
        "fine_label": {"names": list(FINE), "_type": "ClassLabel"},
        "coarse_label": {"names": list(COARSE), "_type": "ClassLabel"},
    }
    fine = [seed % 4 for seed in seeds]
    columns = {
        "img": pa.array(
            [{"bytes": jpeg(seed), "path": f"{seed}.jpg"} for seed in seeds], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        ),
        "fine_label": pa.array([-1] * len(fine) if hidden else fine, pa.int64()),
        "coarse_label": pa.array([-1] * len(fine) if hidden else [COARSE_OF_FINE[label] for label in fine], pa.int64()),
    }
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def parquet(file: Path, rows: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file, row_group_size=3)


def write(root: Path) -> Path:
    root = root / "trees-and-fish"
    parquet(root / "data" / "train-00000-of-00002.parquet", table(range(8)))
    parquet(root / "data" / "train-00001-of-00002.parquet", table(range(8, 12)))
    parquet(root / "data" / "validation-00000-of-00001.parquet", table(range(12, 16)))
    parquet(root / "data" / "test-00000-of-00001.parquet", table(range(16, 18), hidden=True))
    put(root / "README.md", "---\nconfigs:\n- config_name: default\n---\n")
    return root


MINIATURE = Miniature(
    layout="huggingface",
    write=write,
    class_names=("maple", "oak tree", "pike", "trout"),
    counts={"train": 12, "val": 4, "unlabelled": 2},
    levels={"coarse_label": ("trees", "trees", "fish", "fish")},
    boxes=False,
    groups=False,
    annotations=("trees-and-fish/data/*.parquet",),
    marks=("trees-and-fish/data/train-00001-of-00002.parquet",),
    text=False,
)
