"""Images in the rows of Parquet files and of Arrow streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fieldmark.datasets.layouts.annotations import reason
from fieldmark.datasets.layouts.part_images import PartImages, escaped
from fieldmark.runtime.decode import FILE_LIMIT, UnreadableImage

ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError)
"""What pyarrow raises on damaged files."""
_CACHE_BYTES = 512 * 2**20


def read_schema(file: Path) -> pa.Schema:
    """The columns of a file that ends in .parquet, or else of an Arrow stream. Raises one of ARROW_ERRORS."""
    if file.suffix == ".parquet":
        schema = pq.read_schema(file)
    else:
        with pa.memory_map(str(file)) as source:
            schema = pa.ipc.open_stream(source).schema
    names = [str(field) and field.name for field in schema]  # raises if a name is damaged
    if len(set(names)) < len(names):
        raise ValueError("two of its columns have the same name")
    return schema


def features(schema: pa.Schema) -> dict[str, dict]:
    """What the Hugging Face libraries say of each column, as in {"_type": "ClassLabel", "names": [...]}; empty if they say nothing."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in said.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def image_columns(schema: pa.Schema) -> list[str]:
    """Columns of struct<bytes: binary, …>, and of binary that are said to be images."""
    said = features(schema)
    return [
        field.name
        for field in schema
        if _holds_bytes(field.type) or (_is_binary(field.type) and said.get(field.name, {}).get("_type") == "Image")
    ]


def row_counts(file: Path, metadata: pq.FileMetaData) -> list[int]:
    """Rows in each row group. Raises ValueError if there are more than a file of its size can hold images."""
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if any(count < 0 for count in counts) or sum(counts) != metadata.num_rows or sum(counts) > file.stat().st_size:
        raise ValueError(f"it says that it has {metadata.num_rows:,} rows")
    return counts


def stream_batches(file: Path, schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """These columns, one or more, of an Arrow stream. They are mapped into memory, not read. Raises one of ARROW_ERRORS."""
    fields = [schema.get_field_index(name) for name in columns]
    with pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_stream(source, options=pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)):
            batch.validate(full=True)
            yield batch


def row_path(file: str, row: int, rows: int, column: str = "") -> str:
    """The name of an image: the file, "#" and the row from 0, in as many digits as the last one has, so that names sort as rows do.

    `column` is said if the file has more than one of images.
    """
    place = f"{row:0{len(str(rows - 1))}d}"
    return f"{file}#{escaped(column)}/{place}" if column else f"{file}#{place}"


class RowImages(PartImages["_Parquet | _Stream"]):
    """Images by the names that `row_path` gives them, in the Parquet files and Arrow streams of a folder."""

    def __init__(self, root: Path):
        super().__init__(root)
        self._groups = _Cache(_CACHE_BYTES)

    def read(self, path: str) -> bytes:
        column, _, row = path.rpartition("#")[2].rpartition("/")
        try:
            data = self._file(path).image(column, int(row))
        except ARROW_ERRORS as error:
            raise UnreadableImage(path, f"its row cannot be read ({reason(error)})") from error
        if data is None:
            raise UnreadableImage(path, "its row does not hold the image; datasets can embed images that are given by paths")
        if len(data) > FILE_LIMIT:
            raise UnreadableImage(path, f"it is larger than {FILE_LIMIT // 2**30} GiB")
        return data

    def _open(self, file: str) -> _Parquet | _Stream:
        full = self._root / file
        return _Parquet(full, self._groups) if file.endswith(".parquet") else _Stream(full)


class _Parquet:
    """Row groups are read whole, since the pages in them have no index."""

    def __init__(self, file: Path, groups: _Cache):
        self._file = file
        self._groups = groups
        self._metadata = pq.read_metadata(file)
        self._schema = read_schema(file)
        self._columns = image_columns(self._schema)
        self._starts = np.cumsum([0, *row_counts(file, self._metadata)])

    def image(self, column: str, row: int) -> bytes | None:
        name = _chosen(self._columns, column)
        group, inside = _position(self._starts, row)
        return _bytes(self._groups.get((str(self._file), name, group), lambda: self._group(name, group))[inside])

    def _group(self, name: str, group: int) -> pa.ChunkedArray:
        # What the metadata say of single columns is not asked for: pyarrow ends the process if that is damaged.
        size = self._metadata.row_group(group).total_byte_size
        if size > FILE_LIMIT:
            raise ValueError(f"row group {group} has {size / 2**30:.1f} GiB; write the file with smaller row groups")
        wanted = f"{name}.bytes" if pa.types.is_struct(self._schema.field(name).type) else name
        with pq.ParquetFile(self._file, metadata=self._metadata) as parquet:
            column = parquet.read_row_group(group, columns=[wanted], use_threads=False).column(0)
        column.validate()
        return column


class _Stream:
    """The file is mapped into memory, of which only the images that are asked for are read."""

    def __init__(self, file: Path):
        schema = read_schema(file)
        self._columns = image_columns(schema)
        self._batches = list(stream_batches(file, schema, self._columns))
        self._starts = np.cumsum([0, *map(len, self._batches)])

    def image(self, column: str, row: int) -> bytes | None:
        batch, inside = _position(self._starts, row)
        return _bytes(self._batches[batch].column(_chosen(self._columns, column))[inside])


class _Cache:
    """What was loaded last, up to `limit` bytes, and always the newest. One thread loads at a time."""

    def __init__(self, limit: int):
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: dict[Any, pa.ChunkedArray] = {}  # the one used last at the end

    def get(self, key: Any, load: Callable[[], pa.ChunkedArray]) -> pa.ChunkedArray:
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                found = load()
                while self._kept and found.nbytes + sum(each.nbytes for each in self._kept.values()) > self._limit:
                    del self._kept[next(iter(self._kept))]
            self._kept[key] = found
            return found


def _position(starts: np.ndarray, row: int) -> tuple[int, int]:
    """The part that a row is in, and the row's place there."""
    if not 0 <= row < starts[-1]:
        raise IndexError(f"there are {starts[-1]:,} rows")
    part = int(np.searchsorted(starts, row, side="right")) - 1
    return part, row - int(starts[part])


def _chosen(columns: Sequence[str], column: str) -> str:
    """The column that a path says, or the only one."""
    chosen = [name for name in columns if column in ("", escaped(name))]
    if len(chosen) != 1:
        raise LookupError("it has no such column of images")
    return chosen[0]


def _bytes(cell: Any) -> bytes | None:
    if isinstance(cell, pa.StructScalar):
        return cell["bytes"].as_py() if cell.is_valid else None
    return cell.as_py()


def _holds_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
