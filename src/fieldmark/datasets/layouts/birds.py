"""The built-in birds, drawn by Fieldmark: species in splits, with the bird's box, its genus, and which individual it is."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown
from fieldmark.datasets.birds.folder import TABLE, Row, birds_folder
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source, marks
from fieldmark.datasets.layouts.records import is_table, open_table
from fieldmark.datasets.layouts.table import read_tables

_WORD = Path("birds")
_HEADER = tuple(field.name for field in fields(Row))
_COLUMNS = {
    "path": "path",
    "label": "species",
    "split": "split",
    "group": "individual",
    "parents": "genus",
    "box": "left top width height",
}
_MARKS = marks(TABLE, "train")


def read(source: Source) -> Dataset:
    """Read the set in the cache, which is drawn the first time, where the path is the word birds, else one that `fieldmark birds` drew.

    Its unseen species are left out. Raises InputError if the folder is none of these.
    """
    if source.path != _WORD:
        evidence = _recognise(source.path)
        if evidence is None or evidence.missing:
            raise InputError(
                f"the layout birds is the built-in set, and DATA is {shown(source.path)!r}",
                hint="Give birds as DATA, or leave data.layout out.",
            )
        return _read(source.path, source.path.resolve().name)
    notes = ["the built-in birds, drawn by Fieldmark"]
    if _WORD.is_dir():
        notes.append("the folder birds in the current directory was not read; give ./birds to read it")
    return replace(_read(birds_folder(console=source.console), "birds"), notes=tuple(notes))


def _read(folder: Path, name: str) -> Dataset:
    return read_tables(folder, {TABLE: ""}, Source(folder, _COLUMNS), layout=LAYOUT.name, name=name)


def _recognise(path: Path) -> Evidence | None:
    if not is_table(path / TABLE) or open_table(Annotations(path), TABLE).header != _HEADER:
        return None
    return _MARKS(path)


LAYOUT = Layout(name="birds", title="the built-in birds", recognise=_recognise, read=read, example="birds")
