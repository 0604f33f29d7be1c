"""A dataset as datasets' save_to_disk writes it: streams of Arrow in a folder for each split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from miniatures import huggingface, put


def save(folder: Path, tables: Sequence[pa.Table], split: str | None = None) -> None:
    """One split."""
    files = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for file, table in zip(files, tables, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    features = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    put(folder / "dataset_info.json", json.dumps(info, indent=2))
    state = {
        "_data_files": [{"filename": file} for file in files],
        "_fingerprint": "36a2fc47f3c0b444",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    put(folder / "state.json", json.dumps(state, indent=2))


def write(root: Path) -> Path:
    root = root / "saved"
    save(root / "train", [huggingface.table(range(8)), huggingface.table(range(8, 12))])
    save(root / "validation", [huggingface.table(range(12, 16))])
    save(root / "test", [huggingface.table(range(16, 18), hidden=True)])
    put(root / "dataset_dict.json", json.dumps({"splits": ["train", "validation", "test"]}))
    return root


MINIATURE = replace(
    huggingface.MINIATURE,
    write=write,
    annotations=("saved/*.json", "saved/*/*.json", "saved/*/*.arrow"),
    marks=("saved/dataset_dict.json", "saved/train/state.json", "saved/train/data-00001-of-00002.arrow"),
)
