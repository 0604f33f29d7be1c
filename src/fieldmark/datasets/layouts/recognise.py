"""Which layout a file or folder has, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.images import Files
from fieldmark.datasets.layouts.folder_survey import Survey
from fieldmark.datasets.layouts.label_files import label_files
from fieldmark.datasets.layouts.layout import Evidence, Layout
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.question import Choice, command, level_choices, question

_DEPTH = 2
"""How many folders deep a published archive may lie in the folder that it was unpacked in."""
_MANY_FOLDERS = 20


def recognise(path: Path, layouts: Sequence[Layout]) -> tuple[Layout, Path, str] | None:
    """The layout, the folder (or file) that has it, and a sentence that says why; None if no layout leaves a mark.

    A folder that holds one recognised dataset and no other stands for that dataset. Of two layouts of which one has all the marks of the
    other and more, it is that one. Raises InputError if several remain, or if a layout's marks are there only in part.
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
    inner = _inner(path, layouts, _DEPTH)
    if len(inner) == 1:
        folder, layout, evidence = inner[0]
        if layout.name == "table":
            _ask_if_images_beside(folder, evidence)
        beside = [each.name for each in folders(folder.parent) if each != folder]
        rest = f"; passed over beside it: {some(beside)}" if beside else ""
        return layout, folder, f"recognised as {layout.title} by {_listed(evidence.found)} in {shown(folder.name)}{rest}"
    _refuse_half(path, layouts, _DEPTH)
    if inner:
        raise InputError(
            f"{shown(path)} holds {len(inner)} datasets: {some([f'{folder.name} ({layout.title})' for folder, layout, _ in inner], 20)}",
            hint=f"Give one of them: {shown(inner[0][0])}, for example.",
        )
    _refuse_part(path, layouts)
    return None


def _complete(path: Path, layouts: Sequence[Layout]) -> list[tuple[Layout, Evidence]]:
    found = [(layout, evidence) for layout in layouts if (evidence := _evidence(layout, path)) is not None and not evidence.missing]
    return [(layout, evidence) for layout, evidence in found if not any(set(evidence.found) < set(other.found) for _, other in found)]


def _evidence(layout: Layout, path: Path) -> Evidence | None:
    """None also if the folder cannot be looked into, which whoever reads it will say."""
    try:
        return layout.recognise(path)
    except OSError:
        return None


def _ask_if_images_beside(folder: Path, evidence: Evidence) -> None:
    """Raise InputError where a table lies in one of several folders that may be classes: it may say nothing of the others."""
    survey = Survey(folder.parent)
    beside = [path for path in survey.with_images("") if path != folder.name]
    if beside:
        reason = f"{_listed(evidence.found)} in {shown(folder.name)} may list images, and {some(beside)} beside it hold images as well"
        alone = [Choice(command(folder), f"the table in {shown(folder.name)} alone")] if survey.count(folder.name) else []
        tables = [label.choice for label in label_files(survey) if label.choice is not None]
        raise question(f"{shown(folder.parent)} can be read in more than one way:", [reason], [*alone, *tables, *level_choices(survey)])


def _inner(path: Path, layouts: Sequence[Layout], depth: int) -> list[tuple[Path, Layout, Evidence]]:
    """The datasets, of one layout each, among the folders of a folder, or of its only folder."""
    inside = folders(path)
    if depth == 0 or len(inside) > _MANY_FOLDERS:  # class folders, most likely
        return []
    whole = [(folder, *found[0]) for folder in inside if len(found := _complete(folder, layouts)) == 1]
    return whole or (_inner(inside[0], layouts, depth - 1) if len(inside) == 1 else [])


def _refuse_half(path: Path, layouts: Sequence[Layout], depth: int) -> None:
    """Raise InputError if at least half of the marks of a layout are there, some files among them, but not all."""
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
    inside = folders(path)
    if depth > 0 and len(inside) == 1:
        _refuse_half(inside[0], layouts, depth - 1)


def _refuse_part(path: Path, layouts: Sequence[Layout]) -> None:
    """Raise InputError for a folder of a published dataset whose annotations lie beside the folder."""
    published = [layout for layout in layouts if layout.images is Files and layout.name != "table"]
    for layout, evidence in _complete(path.parent, published):
        raise InputError(
            f"{shown(path)} is a part of {layout.title}, whose {_listed(evidence.found[:3])} lie in the folder above",
            hint=f"Give {shown(path.parent)}. data.layout=class-folders reads this folder by itself.",
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
