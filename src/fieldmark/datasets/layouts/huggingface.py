"""Datasets as the Hugging Face hub and its library datasets (Lhoest et al., 2021) store them: images and labels in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown
from fieldmark.datasets.dataset import SPLITS, Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row, reason
from fieldmark.datasets.layouts.class_names import MISSING, names_of, readable
from fieldmark.datasets.layouts.huggingface_files import DICT, STATE, find_parquet, is_saved, parquet_files, saved_features, saved_files
from fieldmark.datasets.layouts.huggingface_rows import Columns, Labelled, agrees, choose, labelled, named_labels, present
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.row_images import ARROW_ERRORS, RowImages, image_columns, read_schema
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES

_MANY_FOLDERS = 50


def read(source: Source) -> Dataset:
    """Read a folder of Parquet files as downloaded from the hub, one such file, or what save_to_disk of datasets has written.

    One column holds images and one labels: numbers with names, or else names or numbers. Where there are several, `data.columns` says
    which. Another column of numbers with names, of which every class has one, becomes a level. A label that is -1, null or blank, or one
    of the words MISSING, is not known, and its row unlabelled. The paths are the file, "#" and the row from 0. Images are not read.
    Raises InputError with all problems at once.
    """
    path = source.path
    root = path if path.is_dir() else path.parent
    notes = Annotations(root)
    saved = is_saved(path)
    splits, remarks = saved_files(notes) if saved else parquet_files(path)
    beside = saved_features(notes, splits) if saved else {}
    notes.check()

    chosen: Columns | None = None
    samples: list[Labelled] = []
    without: list[Place] = []
    for file, split in sorted(splits.items(), key=lambda item: (SPLITS.index(item[1]), item[0])):
        try:
            schema = read_schema(root / file)
        except ARROW_ERRORS as error:
            notes.wrong(Place(file), f"it cannot be read ({reason(error)})", remedy="download it again")
            continue
        named = named_labels(notes, schema, file, beside.get(file, {}))
        chosen = chosen or choose(file, schema, named, {**present(schema, source.usual_columns), **source.columns})
        if agrees(notes, file, split, schema, named, chosen):
            found = labelled(notes, file, split, schema, named, chosen, MISSING if source.missing_labels == "words" else ())
            samples += found
            if split != "test":
                without += [sample.place for sample in found if sample.label is None]
    notes.check()
    if chosen is None:
        raise InputError(f"{shown(path)} holds no files of rows", hint="Was it downloaded whole?")

    if without:
        remarks = [*remarks, f"rows that have no label and are unlabelled: {len(without):,}; the first is in {without[0]}"]
    class_names, index = _classes(samples, chosen)
    rows = [Row(sample.place, sample.path, None if sample.label is None else index[sample.label], sample.split) for sample in samples]
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=class_names,
        rows=rows,
        levels=_levels(samples, chosen, index),
        name=_name(path),
        images=RowImages(root),
        notes=[*remarks, f"images are in the column {chosen.image}, labels in {chosen.label}"],
    )


def _classes(samples: Sequence[Labelled], chosen: Columns) -> tuple[list[str], dict[int | str, int]]:
    """The names of the classes, and their indices by label."""
    if chosen.names is not None:
        return readable(chosen.names), {number: number for number in range(len(chosen.names))}
    names = names_of(sample.label for sample in samples if sample.label is not None)
    return readable(list(names.values())), {label: index for index, label in enumerate(names)}


def _levels(samples: Sequence[Labelled], chosen: Columns, index: Mapping[int | str, int]) -> dict[str, list[str]]:
    """Of the other columns of numbers with names those of which every class has one, and that are coarser than the classes."""
    levels = {}
    for position, (column, names) in enumerate(chosen.others.items()):
        pairs = {(index[sample.label], sample.others[position]) for sample in samples if sample.label is not None}
        parents = {label: parent for label, parent in pairs if isinstance(parent, int) and 0 <= parent < len(names)}
        if len(pairs) == len(parents) == len(index) and 1 < len(set(parents.values())) < len(index):
            readable_names = readable(names)
            levels[column] = [readable_names[parents[label]] for label in range(len(index))]
    return levels


def _name(path: Path) -> str:
    """The hub keeps its downloads in datasets--owner--name/snapshots/…."""
    kept = [part for part in path.parts if part.startswith("datasets--")]
    return kept[-1].split("--")[-1] if kept else path.resolve().name if path.is_dir() else path.stem


def _recognise(path: Path) -> Evidence | None:
    if not path.is_dir():
        return Evidence((path.name,)) if path.name.endswith(".parquet") and _holds_images(path) else None
    if (path / DICT).is_file():
        return Evidence((DICT,))
    if (path / STATE).is_file() and (streams := sorted(path.glob("*.arrow"))):
        return Evidence((STATE, streams[0].name))
    if states := [f"{name}/{STATE}" for name in SPLIT_NAMES if (path / name / STATE).is_file()]:
        return Evidence((states[0],), (DICT,))
    first = next(find_parquet(path, _MANY_FOLDERS), None)
    return Evidence((first,)) if first is not None and _holds_images(path / first) else None


def _holds_images(file: Path) -> bool:
    try:
        return bool(image_columns(read_schema(file)))
    except ARROW_ERRORS:
        return False


LAYOUT = Layout(
    name="huggingface",
    title="a Hugging Face dataset",
    recognise=_recognise,
    read=read,
    example="hf:owner/name",
    images=RowImages,
    settings=("columns", "missing_labels"),
)
