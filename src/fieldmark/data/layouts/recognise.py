"""Which layout a file or folder has, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.data.layouts.layout import Evidence, Layout
from fieldmark.data.layouts.location import is_hidden, shown, some
from fieldmark.data.pictures import Files

_DEPTH = 2
"""How many folders deep a published archive may lie in the folder that it was unpacked in."""
_MANY_FOLDERS = 20


def recognise(path: Path, layouts: Sequence[Layout]) -> tuple[Layout, Path, str] | None:
    """The layout, the folder (or file) that has it, and a sentence that says why; None where no layout leaves a mark.

    A folder that holds one recognised dataset and no other stands for that dataset. Of two layouts of which one has all the marks of the
    other and more, it is that one. Raises InputError where several remain, or where a layout's marks are there only in part.
    """
    candidates = _complete(path, layouts)
    if len(candidates) > 1:
        listed = [f"{layout.title} ({layout.name}): {', '.join(evidence.found)}" for layout, evidence in candidates]
        raise InputError(
            f"{shown(path)} can be read in more than one way:",
            *(f"  {line}" for line in listed),
            hint=f"Say which: data.layout={candidates[0][0].name}, for example.",
        )
    if candidates:
        layout, evidence = candidates[0]
        return layout, path, f"recognised as {layout.title} by {_listed(evidence.found)}"
    if inner := _inner(path, layouts, _DEPTH):
        return inner
    _refuse_half(path, layouts, _DEPTH)
    _refuse_several(path, layouts)
    _refuse_part(path, layouts)
    return None


def _complete(path: Path, layouts: Sequence[Layout]) -> list[tuple[Layout, Evidence]]:
    found = [(layout, evidence) for layout in layouts if (evidence := _evidence(layout, path)) is not None and not evidence.missing]
    return [(layout, evidence) for layout, evidence in found if not any(set(evidence.found) < set(other.found) for _, other in found)]


def _evidence(layout: Layout, path: Path) -> Evidence | None:
    """None also where the folder cannot be looked into, which whoever reads it will say."""
    try:
        return layout.recognise(path)
    except OSError:
        return None


def _inner(path: Path, layouts: Sequence[Layout], depth: int) -> tuple[Layout, Path, str] | None:
    """The one dataset in the folders of a folder."""
    folders = _folders(path)
    if depth == 0 or len(folders) > _MANY_FOLDERS:  # class folders, most likely
        return None
    whole = _datasets(folders, layouts)
    if len(whole) == 1:
        folder, (layout, evidence) = whole[0]
        beside = [each.name for each in folders if each != folder]
        rest = f"; passed over beside it: {some(beside)}" if beside else ""
        return layout, folder, f"recognised as {layout.title} by {_listed(evidence.found)} in {shown(folder.name)}{rest}"
    if not whole and len(folders) == 1:
        return _inner(folders[0], layouts, depth - 1)
    return None


def _datasets(folders: Sequence[Path], layouts: Sequence[Layout]) -> list[tuple[Path, tuple[Layout, Evidence]]]:
    """Those of the folders that have one layout."""
    return [(folder, found[0]) for folder in folders if len(found := _complete(folder, layouts)) == 1]


def _folders(path: Path) -> list[Path]:
    """Sorted by name; none where it is not a folder or cannot be looked into."""
    try:
        return [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not is_hidden(entry.name)]
    except OSError:
        return []


def _refuse_half(path: Path, layouts: Sequence[Layout], depth: int) -> None:
    """Raise InputError where at least half of the marks of a layout are there, some files among them, but not all."""
    halves = []
    for layout in layouts:
        evidence = _evidence(layout, path)
        if evidence is None or not evidence.missing:
            continue
        files = [mark for mark in evidence.found if "." in mark]
        if files and len(evidence.found) >= len(evidence.missing):
            halves.append((len(evidence.missing) - len(evidence.found), layout, evidence))
    if halves:
        _, layout, evidence = min(halves, key=lambda half: half[0])
        raise InputError(
            f"{shown(path)} looks like {layout.title}, with {_listed(evidence.found)}, but lacks {_listed(evidence.missing)}",
            hint=evidence.hint,
        )
    folders = _folders(path)
    if depth > 0 and len(folders) == 1:
        _refuse_half(folders[0], layouts, depth - 1)


def _refuse_several(path: Path, layouts: Sequence[Layout]) -> None:
    """Raise InputError where two or more of the folders are datasets."""
    folders = _folders(path)
    whole = _datasets(folders, layouts) if len(folders) <= _MANY_FOLDERS else []
    if len(whole) > 1:
        raise InputError(
            f"{shown(path)} holds {len(whole)} datasets: {some([f'{folder.name} ({found[0].title})' for folder, found in whole], 20)}",
            hint=f"Give one of them: {shown(whole[0][0])}, for example.",
        )


def _refuse_part(path: Path, layouts: Sequence[Layout]) -> None:
    """Raise InputError for a folder of a published dataset whose annotations lie beside the folder."""
    published = [layout for layout in layouts if layout.pictures is Files and not layout.takes_columns]
    for layout, evidence in _complete(path.parent, published):
        raise InputError(
            f"{shown(path)} is a part of {layout.title}, whose {_listed(evidence.found[:3])} lie in the folder above",
            hint=f"Give {shown(path.parent)}. data.layout=class-folders reads this folder by itself.",
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
