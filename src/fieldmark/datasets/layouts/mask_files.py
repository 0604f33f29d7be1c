"""Masks that lie next to the images they belong to and are called after them, as 1_mask.png is after 1.png."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.layouts.class_levels import MASK_FOLDERS
from fieldmark.datasets.layouts.folder_survey import Survey
from fieldmark.datasets.layouts.question import Choice, command, question

_CALLED_AFTER = re.compile(rf"(?P<image>.*[^/])[ _-](?:{'|'.join(sorted(MASK_FOLDERS))})(?:[ _-]?\d+)?", re.IGNORECASE)
_FEWEST = 2


def masks_of(paths: Sequence[str]) -> dict[str, str]:
    """The paths that are called like masks of another one in the same folder, and that one."""
    stems = {os.path.splitext(path)[0]: path for path in paths}
    found = {path: _CALLED_AFTER.fullmatch(stem) for stem, path in stems.items()}
    return {path: stems[match["image"]] for path, match in found.items() if match and match["image"] in stems}


def mask_files(classes: Mapping[str, Iterable[Sequence[str]]]) -> tuple[set[str], bool]:
    """The masks among the images of all classes, and whether they surely are: most images of a class have one.

    classes: by the class's name, the paths in each of its folders.
    """
    masks: set[str] = set()
    sure = False
    for folders in classes.values():
        paths = [path for folder in folders for path in folder]
        found = masks_of(paths)
        masks |= set(found)
        with_masks = set(found.values()) - set(found)
        sure |= len(with_masks) >= _FEWEST and 2 * len(with_masks) > len(paths) - len(found)
    return masks, sure


def ask(survey: Survey, masks: set[str], class_names: Sequence[str], class_depth: int | str | None) -> InputError:
    """What to do about files that may be masks or images."""
    settings = ["data.layout=class-folders"] + ([f"data.class_depth={class_depth}"] if class_depth is not None else [])
    files = "1 file is" if len(masks) == 1 else f"{len(masks):,} files are"
    reason = f"{files} called like masks of images beside them, but most images of a class have none: {some(sorted(masks), 3)}"
    read = f"{len(class_names):,} classes: {some(class_names, 4)}, with these files as images; if they are masks, move them away"
    what = f"it is not clear whether all files of {shown(survey.root)} are images of their classes:"
    return question(what, [reason], [Choice(command(survey.root, *settings), read)])
