"""Tables of images, CSV, TSV, JSON Lines or Parquet: a path and a label in each record, perhaps a split, a box, a group, coarser names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown
from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.image_files import is_image_name
from fieldmark.datasets.layouts import columns
from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.records import SUFFIXES, is_table, open_table
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.datasets.layouts.table_files import (
    column_of_images,
    half_a_table,
    image_tables,
    refuse_rivals,
    say_which,
    splits_of,
    tables_in,
)
from fieldmark.datasets.layouts.table_images import ImageFinder
from fieldmark.datasets.layouts.table_rows import TableRows

_NO_NAMES = {*SPLIT_NAMES, "label", "labels", "data", "metadata"}
"""What tables are called in many datasets, which are then called after the folder."""


def read(source: Source) -> Dataset:
    """Read a table file, or the one table in a folder, or a folder's tables that are named after the splits (train.csv, test.csv …) or lie
    in the folders of the splits, as image folders of Hugging Face do (train/metadata.jsonl …).

    Columns are found by their names (`columns`). Paths are relative to the table's folder; ids that are no
    paths are looked up (`table_images`). A blank split is train, or what the file is named after; a split that is none of train, val,
    test and unlabelled leaves the image out, with a note. An image without a label is unlabelled whatever its split; words such as nan
    and None say that there is none (`class_names.MISSING`). Images in a folder called test that no table lists are unlabelled too. Classes
    are sorted by name, or as numbers if all are. A coarser name is taken as a level if it is the same for all images of a class.
    Raises InputError with all problems at once.
    """
    path = source.path
    hint = f"The name of a table ends in {', '.join(SUFFIXES)}."
    if path.is_dir():
        asked = {**source.usual_columns, **source.columns}
        files = image_tables(path, asked) or image_tables(path, source.columns) or tables_in(path)
        if not files:
            raise InputError(f"{shown(path)} holds no table", hint=hint)
        splits = splits_of(path, files)
        if not (source.columns or source.images or source.suffix):
            refuse_rivals(path, files, source.columns)
        return read_tables(path, splits, source, layout=LAYOUT.name, name=path.resolve().name)
    if not is_table(path):
        raise InputError(f"{shown(path)} is not a table", hint=hint)
    name = path.resolve().parent.name if path.stem.lower() in _NO_NAMES else path.stem
    return read_tables(path.parent, {path.name: ""}, source, layout=LAYOUT.name, name=name)


def read_tables(root: Path, splits: Mapping[str, str], source: Source, *, layout: str, name: str) -> Dataset:
    """The dataset in these tables in `root`: name of the file → the split of records that say none, "" if that is not known.

    Of `source` only the settings count. Raises InputError.
    """
    rows = TableRows(Annotations(root), source.missing_labels, ImageFinder(root, source.images, source.suffix))
    for file, split in splits.items():
        table = open_table(rows.notes, file)
        rows.notes.check()
        unlabelled = split in ("test", UNLABELLED)
        asked = {**columns.present(table.header, source.usual_columns), **source.columns}
        found = columns.find(file, table.header, columns.present(table.header, asked) if unlabelled else asked)
        no_label = found.label is None and source.for_training and not unlabelled
        lacking = [what for what, lacks in (("paths", found.path is None), ("labels", no_label)) if lacks]
        if lacking:
            there = f"its columns are {columns.shown(table.header)}" if table.header else "it is empty"
            what = f"{shown(root / file)} has no column of {' and none of '.join(lacking)}; {there}"
            names = "The first line names the columns"
            if any(map(is_image_name, table.header)):
                raise InputError(what, hint=f"{names}, and here it names an image: add one such as path,label in front.")
            path, label = (None if column is None else table.header[column] for column in (found.path, found.label))
            raise InputError(what, hint=f"{names}. {say_which(table.header, path or column_of_images(root, file), label)}.")
        rows.read(table, found, split)
    rows.add_unlisted_tests()
    return rows.dataset(layout, name, source.for_training)


def _recognise(path: Path) -> Evidence | None:
    if path.is_dir():
        files = image_tables(path, {})
        return Evidence(tuple(files)) if files else half_a_table(path)
    if not is_table(path) or open_table(Annotations(path.parent), path.name).holds_images:
        return None
    return Evidence((path.name,))


LAYOUT = Layout(
    name="table",
    title="a table of images",
    recognise=_recognise,
    read=read,
    example="photos.csv",
    settings=("columns", "images", "suffix", "missing_labels"),
)
