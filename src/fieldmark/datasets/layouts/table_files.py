"""Which files of a folder are tables of images, and of which split each is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.datasets.image_files import is_image_name
from fieldmark.datasets.layouts import columns
from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.layout import Evidence
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.records import Table, is_table, open_table
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES, split_of
from fieldmark.datasets.layouts.table_images import ImageFinder
from fieldmark.datasets.layouts.table_rows import SPLIT_WORDS

_MANY_TABLES = 50
_FIRST_RECORDS = 20
_UNLABELLED = ("test", UNLABELLED)


def tables_in(folder: Path) -> list[str]:
    """The names of a folder's tables, but for those of a sample submission, whose labels are made up."""
    return [name for name in _all_tables(folder) if "submission" not in name.lower()]


def sample_submissions(folder: Path) -> list[Path]:
    """The tables of a folder that a competition publishes to show what is to be handed in."""
    return [folder / name for name in _all_tables(folder) if "submission" in name.lower() and "sample" in name.lower()]


def _all_tables(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and is_table(Path(entry.path)))
    except OSError:
        return []


def image_tables(folder: Path, asked: Mapping[str, str]) -> list[str]:
    """The tables that by their headers have paths and labels, and those called test that have paths alone.

    Where there is none, they are those whose columns may be paths and labels, and whose first records name images that are there; or
    else the only such table in each of the folders of the splits, as in train/metadata.csv.
    Tables that hold the images themselves are left to another layout. `asked` is `data.columns`.
    """
    tables = tables_in(folder)
    if len(tables) > _MANY_TABLES:
        return []
    opened = [open_table(Annotations(folder), file) for file in tables]
    headers = {table.file: table.header for table in opened if not table.holds_images}
    labelled = [file for file in headers if columns.has(headers[file], asked, "path", "label")]
    labelled = labelled or [file for file in headers if _names_images(folder, file, asked)]
    if not labelled:
        return _tables_of_splits(folder, asked)
    if len(labelled) > 1 and not all(map(own_split, labelled)):
        return labelled
    tests = [file for file in headers if own_split(file) in _UNLABELLED and columns.may_have(headers[file], asked, "path")]
    return sorted({*labelled, *tests})


def _tables_of_splits(folder: Path, asked: Mapping[str, str]) -> list[str]:
    found = {}
    for inner in folders(folder):
        if inner.name.lower() in SPLIT_NAMES:
            tables = image_tables(inner, asked)
            if not tables and SPLIT_NAMES[inner.name.lower()] == "test":
                headers = {file: open_table(Annotations(inner), file).header for file in tables_in(inner)}
                tables = [file for file, header in headers.items() if columns.may_have(header, asked, "path")]
            found[inner.name] = tables
    whole = {name: tables[0] for name, tables in found.items() if len(tables) == 1 and "/" not in tables[0]}
    has_train = any(SPLIT_NAMES[name.lower()] == "train" for name in whole)
    return [f"{name}/{file}" for name, file in whole.items()] if has_train else []


def own_split(file: str) -> str:
    """The split that a table is named after, "" for none."""
    said = SPLIT_WORDS.get(Path(file).stem.lower()) or split_of(str(Path(file).with_suffix(""))) or ""
    return said if said in SPLIT_WORDS.values() else ""


def splits_of(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """The tables, which `image_tables` found, with their splits; "" where it is not known. Raises InputError if two are of one split."""
    if len(files) == 1:
        return {files[0]: ""}
    splits = {file: own_split(file) for file in files}
    if len(set(splits.values())) < len(files) or ("" in splits.values() and not set(splits.values()) <= {"", *_UNLABELLED}):
        raise InputError(
            f"{shown(folder)} holds {len(files)} tables: {some(list(files), 10)}",
            hint="Give one of them as DATA, or name them train, val and test, one of each. data.layout=class-folders reads class folders.",
        )
    return splits


def refuse_rivals(folder: Path, files: Sequence[str], asked: Mapping[str, str]) -> None:
    """Raise InputError if the folder holds class folders as well as these tables, unless the images in them are named without a folder."""
    rivals = class_folders(folder)
    if len(rivals) < 2:
        return
    named = [ImageFinder(folder).looked_up(_first_paths(folder, file, asked), own_split(file)) for file in files]
    if all(each.isdisjoint(rivals) for each in named):
        raise InputError(
            f"{shown(folder)} can be read in more than one way: by {some(list(files))}, or as class folders ({some(rivals)} …)",
            hint=f"Give the table itself as DATA, {shown(folder / files[0])}, or say data.layout=class-folders.",
        )


def half_a_table(folder: Path) -> Evidence | None:
    """Evidence of a table that lists images but has no column that is known, or of one that cannot be read and has no folders beside."""
    files = tables_in(folder)
    if len(files) > _MANY_TABLES:
        return None
    damaged = None
    for file in files:
        notes = Annotations(folder)
        table = open_table(notes, file)
        if not table.holds_images and not any(columns.has(table.header, {}, key) for key in ("path", "label")):
            names = [name for name in table.header if name]
            images = _column_of_images(table)
            if images is not None:
                return Evidence(
                    (file,),
                    (f"columns of known names: it has {columns.shown(names)}",),
                    f"{say_which(names, images)}; or read the folder as class folders with data.layout=class-folders.",
                )
            if notes.problems and not table.header and not folders(folder):
                damaged = damaged or Evidence((file,), (f"contents that can be read ({notes.problems[0]})",))
    return damaged


def say_which(header: Sequence[str], path: str | None = None, label: str | None = None) -> str:
    """How the columns of paths and labels are named, by an example of this header's own, the first that are left where none is known."""
    names = [name for name in header if name]
    path = path or next((name for name in names if name != label), "image")
    label = label or next((name for name in names if name != path), "species")
    return f"Say which are which: data.columns='path={path},label={label}', for example"


def column_of_images(root: Path, file: str) -> str | None:
    """The name of the first column of a table whose first records are all names of image files."""
    return _column_of_images(open_table(Annotations(root), file))


def class_folders(root: Path) -> list[str]:
    """The first two folders that could be classes: they hold images, and lie in `root` or in its train, val or test."""
    return list(islice(_class_folders(root), 2))


def _class_folders(root: Path) -> Iterator[str]:
    for folder in folders(root):
        if folder.name.lower() in SPLIT_NAMES:
            yield from (f"{folder.name}/{inner.name}" for inner in folders(folder) if _holds_images(inner))
        elif split_of(folder.name) is None and _holds_images(folder):
            yield folder.name


def _names_images(folder: Path, file: str, asked: Mapping[str, str]) -> bool:
    """Whether columns that may be paths and labels are these, because the first paths are those of one image each."""
    return ImageFinder(folder).resolves(_first_paths(folder, file, asked), own_split(file))


def _first_paths(folder: Path, file: str, asked: Mapping[str, str]) -> list[str]:
    """What the first records of a table name, if it may have paths and labels."""
    table = open_table(Annotations(folder), file)
    if not columns.may_have(table.header, asked, "path", "label"):
        return []
    found = columns.find(file, table.header, columns.present(table.header, asked))
    return [path for _, (path, _) in islice(table.rows((found.path, found.label)), _FIRST_RECORDS)]


def _column_of_images(table: Table) -> str | None:
    """The name of the first column whose first records are all names of image files."""
    positions = [position for position, name in enumerate(table.header) if name]
    if len(positions) < 2:
        return None
    records = [texts for _, texts in islice(table.rows(positions), _FIRST_RECORDS)]
    for position, texts in zip(positions, zip(*records, strict=True), strict=False):
        if all(is_image_name(text.strip()) for text in texts):
            return table.header[position]
    return None


def _holds_images(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(is_image_name(entry.name) for entry in entries)
    except OSError:
        return False
