"""Layout readers: from what the user has on disk to a `Dataset`, one module per layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args

from fieldmark.core.arguments import checked
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest
from fieldmark.core.recipe.data import Data, LayoutName, MissingLabels, SeveralObjects
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import hub
from fieldmark.datasets.layouts.annotations import are_shares, refuse_shares
from fieldmark.datasets.layouts.columns import parse as parse_columns
from fieldmark.datasets.layouts.layout import SETTINGS, Layout, Source
from fieldmark.datasets.layouts.location import locate
from fieldmark.datasets.layouts.recognise import recognise
from fieldmark.datasets.layouts.table_files import image_tables, tables_in

LAYOUTS: dict[str, Layout] = {name: import_module(f"{__name__}.{name.replace('-', '_')}").LAYOUT for name in get_args(LayoutName)}
"""Every layout by its name, each from the module of that name."""


@checked
def read_dataset(
    data: str | Path,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    console: Console | None = None,
    *,
    images: str | None = None,
    suffix: str | None = None,
    missing_labels: MissingLabels = "words",
    several_objects: SeveralObjects = "ask",
    class_depth: int | str | None = None,
    own: Data | None = None,
) -> Dataset:
    """Read DATA with the splits that it has itself; `fieldmark.datasets.splits.carve` adds those that it lacks.

    The word "birds" is the built-in set (a folder of that name is given as "./birds" or as a Path), and "hf:owner/name" a dataset on the
    Hugging Face hub. `layout` is one of LAYOUTS, or "auto"; `columns` say which column of a table is what. These and the keywords are the
    settings of a recipe's section `data`. Nothing is written or changed.

    `own` are the settings of a run which data of other images are read for: its columns are taken where a table has them, its other
    settings where none are given here, and the data need not be fit for training.

    Raises InputError, with all problems at once.
    """
    if layout != "auto" and layout not in LAYOUTS:
        known = ["auto", *LAYOUTS]
        raise InputError(f"there is no layout called {layout!r}{suggest(layout, known)}", hint=f"The layouts are {', '.join(known)}.")
    console = console or Console(quiet=True)
    usual = {} if own is None or own.columns is None else parse_columns(own.columns)
    notes = []
    if data == "birds" and layout in ("auto", "birds"):
        chosen, path = LAYOUTS["birds"], Path("birds")
    elif isinstance(data, str) and data.startswith("hf:") and layout in ("auto", "huggingface"):
        chosen, path = LAYOUTS["huggingface"], hub.fetch(data.removeprefix("hf:"), console)
        notes = [f"fetched from the Hugging Face hub: {data.removeprefix('hf:')}"]
    else:
        path = locate(data)
        if layout == "auto" and (columns or usual) and path.is_dir() and image_tables(path, {**usual, **(columns or {})}):
            layout = "table"
        chosen = LAYOUTS["class-folders" if layout == "auto" else layout]
        named = [] if columns else [chosen]
        candidates = list(LAYOUTS.values()) if layout == "auto" and class_depth is None else named
        if recognised := recognise(path, candidates):
            chosen, path, why = recognised
            notes = [why]
        elif columns and layout == "auto" and path.is_dir() and tables_in(path):  # which say what is wrong with them
            chosen = LAYOUTS["table"]
    source = Source(path, columns or {}, images, suffix, missing_labels, several_objects, class_depth, layout != "auto", console)
    _refuse_unused(source, chosen)
    dataset = chosen.read(source if own is None else _as_usual(source, own, usual, chosen))
    if own is None:
        _refuse_few_classes(dataset)
    if dataset.boxes is not None and "several_objects" in chosen.settings and are_shares(dataset.boxes):  # nobody asked for them
        notes.append("the boxes lie between 0 and 1, as shares of the image and not in pixels: they are left out")
        dataset = replace(dataset, boxes=None)
    if dataset.boxes is not None:
        refuse_shares(dataset.boxes, str(path), "; or leave them out with data.columns=box=" if "columns" in chosen.settings else "")
    return replace(dataset, notes=(*notes, *dataset.notes))


_KEPT = ("missing_labels", "several_objects")
"""Settings that say what labels mean, whatever data they are of."""


def _as_usual(source: Source, own: Data, usual: Mapping[str, str], layout: Layout) -> Source:
    """The source, with what a run's own settings say where none were given."""
    plain = Source(source.path)
    kept = {key: getattr(own, key) for key in _KEPT if key in layout.settings and getattr(source, key) == getattr(plain, key)}
    return replace(source, **kept, usual_columns=usual, for_training=False)


def _refuse_few_classes(dataset: Dataset) -> None:
    """Raise InputError for data that no classifier can be trained on."""
    if not (dataset.labels >= 0).any():
        raise InputError(f"{dataset.name} has no labelled images")
    if len(dataset.class_names) < 2:
        raise InputError(f"{dataset.name} has only one class, {dataset.class_names[0]!r}; a classifier needs at least two")


def _refuse_unused(source: Source, layout: Layout) -> None:
    """Raise InputError for settings that mean nothing to a layout."""
    plain = Source(source.path)
    unused = [key for key in SETTINGS if getattr(source, key) != getattr(plain, key) and key not in layout.settings]
    if unused:
        problems = [f"data.{key} has no effect on {layout.title}" for key in unused]
        raise InputError(*problems, hint="Leave it out.")
