"""Layout readers: from what the user has on disk to a `Dataset`, one reader per layout."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.data.birds.folder import birds_folder
from fieldmark.data.dataset import Dataset
from fieldmark.data.layouts import class_folders


def read_dataset(data: str | Path, layout: str = "auto", console: Console | None = None) -> Dataset:
    """Read DATA with the splits that it has itself; `fieldmark.data.splits.carve` adds those that it lacks.

    The word "birds" is the built-in set; a folder of that name is given as "./birds", as a Path, or with layout "class-folders".
    Raises InputError, with all problems at once.
    """
    if layout == "auto":
        layout = "birds" if data == "birds" else "class-folders"
    if layout not in LAYOUTS:
        near = difflib.get_close_matches(layout, LAYOUTS, n=1)
        mean = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"there is no layout called {layout!r}", hint=f"{mean}The layouts are {', '.join(['auto', *LAYOUTS])}.")
    return LAYOUTS[layout](data, console or Console(quiet=True))


def _read_birds(data: str | Path, console: Console) -> Dataset:
    if data != "birds":
        raise InputError(
            f"the layout birds is the built-in set, and DATA is {str(data)!r}", hint="Give birds as DATA, or leave data.layout out."
        )
    dataset = class_folders.read(birds_folder(console=console))
    notes = ["the built-in birds, drawn by Fieldmark"]
    if Path("birds").is_dir():
        notes.append("the folder birds in the current directory was not read; give ./birds to read it")
    return replace(dataset, name="birds", layout="birds", notes=tuple(notes))


LAYOUTS: dict[str, Callable[[str | Path, Console], Dataset]] = {
    "class-folders": lambda data, _: class_folders.read(data),
    "birds": _read_birds,
}
