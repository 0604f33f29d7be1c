"""The columns of a Hugging Face dataset: which holds the images, which the labels, and what its rows say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.datasets.layouts.annotations import Annotations, Place, reason
from fieldmark.datasets.layouts.class_names import MISSING, is_name
from fieldmark.datasets.layouts.row_images import ARROW_ERRORS, features, image_columns, row_counts, row_path, stream_batches

_PREFERRED = ("label", "labels", "fine_label")
_FIRST_ROWS = 16
_KEYS = {"image": "image", "path": "image", "label": "label"}
"""What data.columns may say; tables call the column of images "path"."""


@dataclass(frozen=True)
class Columns:
    """Which columns are what.

    `names` are those of the classes, None if the labels are names themselves (`in_words`) or plain numbers; `others` are further columns
    of numbers with names.
    """

    image: str
    label: str
    names: tuple[str, ...] | None
    in_words: bool
    others: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Labelled:
    """`label` is None if it is not known; `others` are the values in the columns of Columns.others."""

    place: Place
    path: str
    split: str
    label: int | str | None
    others: tuple[int | str | None, ...]


def named_labels(notes: Annotations, schema: pa.Schema, file: str, beside: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Columns of whole numbers that stand for names, with these. What is said `beside` the file counts before what is said in it."""
    told: dict[str, Any] = {**features(schema), **beside}
    found = {}
    for field in schema:
        feature = told.get(field.name)
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and pa.types.is_integer(field.type):
            names = feature.get("names")
            if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
                found[field.name] = tuple(names)
            elif names is not None:
                notes.wrong(Place(file), f"the names of the column {field.name} should be a list of texts")
    return found


def present(schema: pa.Schema, asked: Mapping[str, str]) -> dict[str, str]:
    """Of what was asked for, what a file with these columns has."""
    return {key: name for key, name in asked.items() if key in _KEYS and name in schema.names}


def choose(file: str, schema: pa.Schema, named: Mapping[str, tuple[str, ...]], asked: Mapping[str, str]) -> Columns:
    """Raises InputError if it is not plain which columns are meant."""
    if unknown := [key for key in asked if key not in _KEYS]:
        raise InputError(
            f"data.columns: {', '.join(unknown)} means nothing in a dataset of the hub", hint=f"The keys are {', '.join(_KEYS)}."
        )
    wanted = {_KEYS[key]: name for key, name in asked.items()}
    plain = [field.name for field in schema if pa.types.is_integer(field.type) or _is_text(field.type)]
    image = _pick(file, schema, "image", image_columns(schema), wanted.get("image"))
    label = _pick(file, schema, "label", [*named, *plain] if "label" in wanted else list(named) or plain, wanted.get("label"))
    others = {name: names for name, names in named.items() if name != label}
    return Columns(image, label, named.get(label), _is_text(schema.field(label).type), others)


def _pick(file: str, schema: pa.Schema, what: str, candidates: Sequence[str], wanted: str | None) -> str:
    if wanted is not None and wanted in candidates:
        return wanted
    listed = f"its columns are {', '.join(f'{field.name} ({str(field.type)[:60]})' for field in list(schema)[:30])}"
    if wanted is not None:
        mean = suggest(wanted, [*candidates, *schema.names])
        raise InputError(f"{file} has no column {wanted!r} that holds {what}s{mean}; {listed}", hint="data.columns names it.")
    if len(candidates) == 1:
        return candidates[0]
    preferred = [name for name in _PREFERRED if name in candidates] if what == "label" else []
    if preferred:
        return preferred[0]
    if not candidates:
        kinds = "structures with bytes" if what == "image" else "whole numbers or texts"
        raise InputError(
            f"{file} has no column of {what}s, which are {kinds}; {listed}", hint="Is it a dataset of images with one label each?"
        )
    raise InputError(
        f"{file} has {len(candidates)} columns of {what}s, {', '.join(candidates[:30])}; {listed}",
        hint=f"Say which: data.columns='{what}={candidates[-1]}', for example.",
    )


def agrees(notes: Annotations, file: str, split: str, schema: pa.Schema, named: Mapping[str, tuple[str, ...]], chosen: Columns) -> bool:
    """Whether a file has the columns that were chosen; what it lacks is noted. Test may lack labels."""
    problem = None
    if chosen.image not in image_columns(schema):
        problem = f"it has no column of images called {chosen.image}"
    elif chosen.label not in schema.names:
        problem = None if split == "test" else f"it has no column {chosen.label}"
    elif named.get(chosen.label) != chosen.names or _is_text(schema.field(chosen.label).type) != chosen.in_words:
        problem = f"the classes in its column {chosen.label} are not those of the other files"
    elif not (chosen.in_words or pa.types.is_integer(schema.field(chosen.label).type)):
        problem = f"its column {chosen.label} does not hold labels"
    if problem:
        notes.wrong(Place(file), problem)
    return problem is None


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(inner) or pa.types.is_large_string(inner)


def labelled(
    notes: Annotations,
    file: str,
    split: str,
    schema: pa.Schema,
    named: Mapping[str, tuple[str, ...]],
    chosen: Columns,
    missing: Collection[str] = MISSING,
) -> list[Labelled]:
    """The rows of a file that `agrees`. Labels that there cannot be are noted; null, -1, blanks and the words `missing` are none at all."""
    wanted = [name for name in schema.names if name == chosen.label or (name in chosen.others and name in named)]
    path = notes.root / file
    try:
        if path.suffix == ".parquet":
            count, values = _read_parquet(path, schema, wanted)
        else:
            count, values = _read_stream(path, schema, wanted, chosen.image)
    except ARROW_ERRORS as error:
        notes.wrong(Place(file), f"it cannot be read ({reason(error)})", remedy="download it again")
        return []
    if _lacks_images(path, schema, chosen.image):
        notes.wrong(Place(file), f"its column {chosen.image} holds paths and no images; save it again with the images embedded")
        return []
    several = chosen.image if len(image_columns(schema)) > 1 else ""
    unknown = [None] * count
    others = list(zip(*(values.get(name, unknown) for name in chosen.others), strict=True)) or [()] * count
    rows = []
    for row, label in enumerate(values.get(chosen.label, unknown)):
        place = Place(file, row + 1, "record")
        if isinstance(label, str):
            label = label.strip()
        if label in (None, -1, "") or label in missing:
            label = None
        elif problem := _problem(label, chosen):
            notes.wrong(place, problem)
        rows.append(Labelled(place, row_path(file, row, count, several), split if label is not None else UNLABELLED, label, others[row]))
    return rows


def _problem(label: int | str | None, chosen: Columns) -> str | None:
    if isinstance(label, str):
        return None if is_name(label) else f"its {chosen.label} is {label[:100]!r}, and should be the name of a class"
    high = 10**9 if chosen.names is None else len(chosen.names)
    return None if label is not None and 0 <= label < high else f"its {chosen.label} is {label}, and should be from 0 to {high - 1:,}"


def _read_parquet(file: Path, schema: pa.Schema, wanted: list[str]) -> tuple[int, dict[str, list]]:
    """How many rows there are, and the values in the wanted columns."""
    texts = [name for name in wanted if _is_text(schema.field(name).type)]  # kept as dictionaries: a text in many rows takes little room
    with pq.ParquetFile(file, read_dictionary=texts) as parquet:
        count = sum(row_counts(file, parquet.metadata))
        table = parquet.read(columns=wanted, use_threads=False)
    table.validate(full=True)
    return count, {name: _values(table.column(name).chunks) for name in wanted}


def _read_stream(file: Path, schema: pa.Schema, wanted: list[str], image: str) -> tuple[int, dict[str, list]]:
    batches = list(stream_batches(file, schema, wanted or [image]))
    return sum(map(len, batches)), {name: _values([batch.column(name) for batch in batches]) for name in wanted}


def _lacks_images(file: Path, schema: pa.Schema, image: str) -> bool:
    """Whether the first rows have no images, but their paths at most. Damaged ones are left to be found out with all others."""
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file, buffer_size=2**16) as parquet:
                column = next(parquet.iter_batches(_FIRST_ROWS, row_groups=[0], columns=[image], use_threads=False)).column(0)
        else:
            column = next(stream_batches(file, schema, [image])).column(0)[:_FIRST_ROWS]
        stored = column.field("bytes") if isinstance(column, pa.StructArray) else column
        return 0 < len(stored) == stored.null_count
    except (*ARROW_ERRORS, StopIteration):
        return False


def _values(chunks: Sequence[pa.Array]) -> list[int | str | None]:
    values: list[int | str | None] = []
    for chunk in chunks:
        if pa.types.is_dictionary(chunk.type):
            words = chunk.dictionary.to_pylist()
            values += [None if index is None else words[index] for index in chunk.indices.to_pylist()]
        else:
            values += chunk.to_pylist()
    return values
