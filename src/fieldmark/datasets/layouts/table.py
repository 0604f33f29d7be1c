"""Tables of images, CSV, TSV or Parquet: a path and a label in each record, perhaps with a split, a box, a group and coarser names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.layouts import columns
from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.records import SUFFIXES, Table, is_table, open_table
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.datasets.layouts.table_rows import SPLIT_WORDS, TableRows
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_MANY_TABLES = 50
_FIRST_RECORDS = 20


def read(source: Source) -> Dataset:
    """Read a table file, or the one table in a folder, or a folder's tables that are named after the splits (train.csv, test.csv …).

    Columns are found by their names (`columns`). Paths are relative to the table's folder and lead nowhere out of it. A blank split is
    train, or what the file is named after; a split that is none of train, val, test and unlabelled leaves the image out, with a note.
    An image without a label is unlabelled whatever its split; words such as nan and None say that there is none (`MISSING`). Classes are
    sorted by name, or as numbers if all are. A coarser name is taken as a level if it is the same for all images of a class.
    Raises InputError with all problems at once.
    """
    path = source.path
    hint = f"The name of a table ends in {', '.join(SUFFIXES)}."
    if path.is_dir():
        files = _image_tables(path, source.columns) or _tables(path)
        if not files:
            raise InputError(f"{shown(path)} holds no table", hint=hint)
        splits = _splits_of(path, files)
        _refuse_rivals(path, files)
        return read_tables(path, splits, source, layout=LAYOUT.name, name=path.resolve().name)
    if not is_table(path):
        raise InputError(f"{shown(path)} is not a table", hint=hint)
    return read_tables(path.parent, {path.name: ""}, source, layout=LAYOUT.name, name=path.stem)


def read_tables(root: Path, splits: Mapping[str, str], source: Source, *, layout: str, name: str) -> Dataset:
    """The dataset in these tables in `root`: name of the file → the split of records that say none, "" if that is not known.

    Of `source` only the settings count. Raises InputError.
    """
    asked = source.columns
    rows = TableRows(Annotations(root), source.missing_labels)
    for file, split in splits.items():
        table = open_table(rows.notes, file)
        rows.notes.check()
        unlabelled = split in ("test", UNLABELLED)
        found = columns.find(file, table.header, columns.present(table.header, asked) if unlabelled else asked)
        lacking = [what for what, column in (("paths", found.path), ("labels", 0 if unlabelled else found.label)) if column is None]
        if lacking:
            there = f"its columns are {columns.shown(table.header)}" if table.header else "it is empty"
            raise InputError(
                f"{shown(root / file)} has no column of {' and none of '.join(lacking)}; {there}",
                hint="The first line names the columns. Say which are which: data.columns='path=image,label=species', for example.",
            )
        rows.read(table, found, split)
    return rows.dataset(layout, name)


def _tables(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and is_table(Path(entry.path)))
    except OSError:
        return []


def _image_tables(folder: Path, asked: Mapping[str, str]) -> list[str]:
    """The tables that by their headers have paths and labels, and, where all of these are named after splits, a test of paths alone.

    Those that hold the images themselves are left to another layout.
    """
    tables = _tables(folder)
    if len(tables) > _MANY_TABLES:
        return []
    opened = [open_table(Annotations(folder), file) for file in tables]
    headers = {table.file: table.header for table in opened if not table.holds_images}
    labelled = [file for file in headers if columns.has(headers[file], asked, "path", "label")]
    if not labelled or not all(map(_own_split, labelled)):
        return labelled
    return [
        file
        for file in headers
        if file in labelled or (_own_split(file) in ("test", UNLABELLED) and columns.has(headers[file], asked, "path"))
    ]


def _half_a_table(folder: Path) -> Evidence | None:
    """Evidence of a table that lists images but has no column that is known, or of one that cannot be read and has no folders beside."""
    files = _tables(folder)
    if len(files) > _MANY_TABLES:
        return None
    damaged = None
    for file in files:
        notes = Annotations(folder)
        table = open_table(notes, file)
        if not table.holds_images and not any(columns.has(table.header, {}, key) for key in ("path", "label")):
            names = [name for name in table.header if name]
            images = _column_of_images(table) if len(names) > 1 else None
            if images is not None:
                other = next((name for name in names if name != images), images)
                return Evidence(
                    (file,),
                    (f"columns of known names: it has {columns.shown(names)}",),
                    f"Give {shown(file)} itself and say which are which: data.columns='path={images},label={other}', for example; or "
                    "read the folder as class folders with data.layout=class-folders.",
                )
            if notes.problems and not table.header and not folders(folder):
                damaged = damaged or Evidence((file,), (f"contents that can be read ({notes.problems[0]})",))
    return damaged


def _column_of_images(table: Table) -> str | None:
    """The name of the first column whose first records are all names of image files."""
    positions = [position for position, name in enumerate(table.header) if name]
    records = [texts for _, texts in islice(table.rows(positions), _FIRST_RECORDS)]
    for position, texts in zip(positions, zip(*records, strict=True), strict=False):
        if all(os.path.splitext(text.strip())[1].lower() in IMAGE_EXTENSIONS for text in texts):
            return table.header[position]
    return None


def _own_split(file: str) -> str:
    """The split that a table is named after, "" for none."""
    return SPLIT_WORDS.get(Path(file).stem.lower(), "")


def _splits_of(folder: Path, files: Sequence[str]) -> dict[str, str]:
    if len(files) == 1:
        return {files[0]: ""}
    splits = {file: _own_split(file) for file in files}
    if "" in splits.values() or len(set(splits.values())) < len(files):
        raise InputError(
            f"{shown(folder)} holds {len(files)} tables: {some(list(files), 10)}",
            hint="Give one of them as DATA, or name them train, val and test, one of each. data.layout=class-folders reads class folders.",
        )
    return splits


def _refuse_rivals(folder: Path, files: Sequence[str]) -> None:
    rivals = list(islice(_class_folders(folder), 2))
    if len(rivals) == 2:
        raise InputError(
            f"{shown(folder)} can be read in more than one way: by {some(list(files))}, or as class folders ({some(rivals)} …)",
            hint=f"Give the table itself as DATA, {shown(folder / files[0])}, or say data.layout=class-folders.",
        )


def _class_folders(root: Path) -> Iterator[str]:
    """Folders that could be classes: they hold images, and lie in `root` or in its train, val or test."""
    for folder in folders(root):
        if folder.name.lower() in SPLIT_NAMES:
            yield from (f"{folder.name}/{inner.name}" for inner in folders(folder) if _holds_images(inner))
        elif _holds_images(folder):
            yield folder.name


def _holds_images(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(os.path.splitext(entry.name)[1].lower() in IMAGE_EXTENSIONS for entry in entries)
    except OSError:
        return False


def _recognise(path: Path) -> Evidence | None:
    if path.is_dir():
        files = _image_tables(path, {})
        return Evidence(tuple(files)) if files else _half_a_table(path)
    if not is_table(path) or open_table(Annotations(path.parent), path.name).holds_images:
        return None
    return Evidence((path.name,))


LAYOUT = Layout(
    name="table",
    title="a table of images",
    recognise=_recognise,
    read=read,
    example="photos.csv",
    settings=("columns", "missing_labels"),
)
