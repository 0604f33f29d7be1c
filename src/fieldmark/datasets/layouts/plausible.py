"""Whether folders are classes: clues that they are something else, such as variants of the same images, parts of an archive, or results.

Everything that lies in folders can be read as class folders, so they are believed only if nothing speaks against it. Each clue is a
function that returns what it saw, or nothing. It must stay silent about ordinary classes, whatever they are called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

from fieldmark.core.names import shown, some
from fieldmark.datasets.layouts.class_levels import MASK_FOLDERS
from fieldmark.datasets.layouts.folder_splits import images_inside
from fieldmark.datasets.layouts.folder_survey import Survey, join, last
from fieldmark.datasets.layouts.label_files import label_files
from fieldmark.datasets.layouts.question import Choice, command, level_choices, question


@dataclass(frozen=True)
class Candidates:
    """Folders that could be classes: those with images directly inside `base`, which is the root, or the folder of train."""

    survey: Survey
    base: str
    folders: tuple[str, ...]

    def names(self) -> list[str]:
        return [last(folder) for folder in self.folders]

    def inside(self, folder: str) -> list[str]:
        """The folders with images in one of them, or in its folder "images" if it has no other but masks; none beside images."""
        inner = images_inside(self.survey, folder)
        return [] if self.survey.images_in(inner) else self.survey.with_images(inner)

    def alone(self, folder: str) -> Choice:
        """To train on what is in one of the folders."""
        inside = [last(path) for path in self.inside(folder)]
        return Choice(command(join(self.survey.root, folder)), f"{len(inside):,} classes, in {last(folder)} alone: {some(inside, 4)}")

    def each_alone(self) -> tuple[Choice, ...]:
        return tuple(self.alone(folder) for folder in self.folders[:_FEW_VERSIONS] if self._holds_classes(folder))

    def _holds_classes(self, folder: str) -> bool:
        inside = self.inside(folder)
        return len(inside) > 1 and any(self.survey.images_in(path) for path in inside)


@dataclass(frozen=True)
class Finding:
    """What speaks against classes, and what to do instead, besides choosing a level."""

    what: str
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Clue:
    """One way to see that folders are no classes. `of_levels` is one that says only that the classes may be at another level."""

    name: str
    look: Callable[[Candidates], Finding | None]
    of_levels: bool = False


def check(candidates: Candidates, chosen: bool) -> None:
    """Raise InputError with all that was found and the choices there are. `chosen`: the user says that these are class folders."""
    if len(candidates.folders) < 2:
        return
    found = [finding for clue in CLUES if (clue.of_levels or not chosen) and (finding := clue.look(candidates)) is not None]
    if not found:
        return
    survey = candidates.survey
    choices = [choice for finding in found for choice in finding.choices]
    named = {choice.command for choice in choices}
    choices += [choice for choice in level_choices(survey, candidates.base) if choice.command not in named]
    labels = label_files(survey)
    choices += [label.choice for label in labels if label.choice is not None]
    where = shown(join(survey.root, candidates.base))
    reasons = [finding.what for finding in found] + [label.what for label in labels]
    raise question(f"it is not clear which folders of {where} are its classes:", reasons, choices)


def _nested(candidates: Candidates) -> Finding | None:
    """Makes that hold models, initials that hold scenes, genera that hold species."""
    names = {folder: [last(path) for path in candidates.inside(folder)] for folder in candidates.folders}
    nested = [folder for folder in names if len(names[folder]) > 1]
    whole = not any(candidates.survey.images_in(folder) for folder in candidates.folders)
    if not whole:  # folders that are called after a number or date are parts of a class
        nested = [folder for folder in nested if sum(not _DATE_OR_NUMBER.fullmatch(name) for name in names[folder]) > 1]
    if not nested or _alike_inside(candidates) is not None:
        return None
    which = "every folder holds" if whole else f"{len(nested):,} of {len(names):,} folders {'hold' if len(nested) > 1 else 'holds'}"
    return Finding(f"{which} only folders: {last(nested[0])} holds {some(names[nested[0]], 3)}")


_DATE_OR_NUMBER = re.compile(r"[\d\W_]+")


def _variants(candidates: Candidates) -> Finding | None:
    """Colour, grey and segmented versions of the same classes."""
    inner = _alike_inside(candidates)
    if inner is None:
        return None
    return Finding(f"all of {some(candidates.names())} hold the same folders: {some(sorted(inner), 4)}", candidates.each_alone())


def _alike_inside(candidates: Candidates) -> set[str] | None:
    """The names of the folders that all candidates hold, if these are several, and most of what is in them."""
    inside = [{last(path) for path in candidates.inside(folder)} for folder in candidates.folders]
    common, every = set.intersection(*inside), set.union(*inside)
    return common if len(common) > 1 and 2 * len(common) > len(every) else None


def _copy_of_the_whole(candidates: Candidates) -> Finding | None:
    """A folder that holds all its neighbours again, as archives that were packed twice do."""
    names = set(candidates.names())
    for folder in candidates.folders:
        inside = {last(path) for path in candidates.inside(folder)}
        if len(inside) > 1 and len(names) > 2 and names - inside <= {last(folder)}:
            others = names - {last(folder)}
            what = f"{last(folder)} holds a folder for each of those beside it: {some(sorted(others), 4)}"
            return Finding(what, (candidates.alone(folder),))
    return None


_VERSIONS = frozenset(
    {
        *("color", "colour", "coloured", "colored", "gray", "grey", "grayscale", "greyscale", "segmented", "rgb", "depth"),
        *("infrared", "ir", "thermal", "original", "originals", "augmented", "raw", "cropped", "resized"),
    }
)
_RESOLUTION = re.compile(r"\d+ ?(x ?\d+|px)")


def _versions(candidates: Candidates) -> Finding | None:
    """Folders that are all called after what was done to the images, such as color and grayscale, or after a size in pixels."""
    names = [re.split(r"[ _-]?(?:images?|imgs?|pictures|photos)\b", name.lower())[0] for name in candidates.names()]
    if not all(name in _VERSIONS or _RESOLUTION.fullmatch(name) for name in names):
        return None
    return Finding(f"{some(candidates.names())} are versions of images, by their names", candidates.each_alone())


_RESULTS = frozenset(
    {"results", "runs", "outputs", "checkpoints", "predictions", "logs", "wandb", "mlruns", "lightning_logs", "tensorboard"}
)
_LEFT_OVER = frozenset(
    {"tmp", "temp", "backup", "new folder", "untitled folder", "unlabelled", "unlabeled", "node_modules", "site-packages", "venv"}
)


def _other_things(candidates: Candidates) -> Finding | None:
    """Folders whose names say what they are, and that is no class."""
    kinds = {
        "images": frozenset({"images", "image", "imgs", "img", "jpegimages", "jpg", "jpeg", "jpgs", "png", "pngs"}),
        "masks or annotations": MASK_FOLDERS - {"mask", "annotation", "label", "labels", "seg", "segs", "gt"},
        "results": _RESULTS,
        "other things": _LEFT_OVER,
    }
    found = []
    for kind, names in kinds.items():
        if named := [name for name in candidates.names() if name.lower() in names]:
            found.append(f"{some(named)} by name {'holds' if len(named) == 1 else 'hold'} {kind}")
    if not found:
        return None
    return Finding(f"{'; '.join(found)}, and no class of its own; if so, move it out of {shown(candidates.survey.root)}")


_CAMERA_FOLDER = re.compile(r"(19|20)\d\d[-_. ]?\d\d[-_. ]?\d\d.*|\d{3}[A-Z_][A-Z0-9_]{4}")


def _camera_folders(candidates: Candidates) -> Finding | None:
    """Folders that are called after the day, or as a camera calls them (100CANON)."""
    if not all(_CAMERA_FOLDER.fullmatch(name) for name in candidates.names()):
        return None
    return Finding(f"{some(candidates.names(), 3)} are called after the day or as a camera calls its folders")


_COPY = re.compile(r"copy of (.+)|(.+?) (?:- )?copy(?: ?\(?\d+\)?)?|(.+?) ?\(\d+\)", re.IGNORECASE)


def _copies(candidates: Candidates) -> Finding | None:
    """Folders that a file manager made: "cats - Copy" beside "cats"."""
    names = set(candidates.names())
    found = {name: next(filter(None, match.groups())) for name in sorted(names) if (match := _COPY.fullmatch(name))}
    copies = [name for name, original in found.items() if original in names]
    if not copies:
        return None
    return Finding(f"{some(copies)} by name {'is a copy' if len(copies) == 1 else 'are copies'} of {found[copies[0]]}; merge or remove it")


def _loose(candidates: Candidates) -> Finding | None:
    """Images beside the folders, no fewer than in them."""
    loose, inside = len(candidates.survey.images_in(candidates.base)), sum(map(candidates.survey.count, candidates.folders))
    if loose < inside:
        return None
    return Finding(f"{loose:,} images lie beside the folders, in no class, and {inside:,} in them")


_PART = re.compile(r"(.*?)[ _-]*(\d+)")
_PART_WORDS = frozenset(
    {
        *("part", "parts", "batch", "batches", "chunk", "chunks", "fold", "folds", "shard", "shards", "images", "image", "imgs"),
        *("archive", "volume", "vol", "split", "set"),
    }
)


def _numbered_parts(candidates: Candidates) -> Finding | None:
    """Parts of an archive, folds of a validation: folders that differ in a number after such a word."""
    found = [_PART.fullmatch(name) for name in candidates.names()]
    matched = [match for match in found if match]
    if len(matched) < len(found):
        return None
    heads = {match[1].lower() for match in matched}
    words = re.findall(r"[^\W\d_]+", heads.pop()) if len(heads) == 1 else []
    if not words or words[-1] not in _PART_WORDS:
        return None
    return Finding(f"{some(candidates.names(), 3)} are numbered parts, as archives are split into, or folds")


def _same_files(candidates: Candidates) -> Finding | None:
    """Versions of the same images: folders whose files have the same names, other than names that are found anywhere."""
    survey = candidates.survey
    if len(candidates.folders) > _FEW_VERSIONS:
        return None
    stems = {folder: {os.path.splitext(last(path))[0] for path in survey.images_in(folder)} for folder in candidates.folders}
    alike = [pair for pair in combinations(stems, 2) if _same(stems[pair[0]], stems[pair[1]])]
    if len(alike) < len(candidates.folders) - 1:
        return None
    one, other = alike[0]
    first = min(stems[one] & stems[other])
    return Finding(f"{last(one)} and {last(other)} hold files of the same names, such as {first}", candidates.each_alone())


_FEW_FILES = 8
_LONG_NUMBER = 8
_FEW_VERSIONS = 6
_ALIKE = 0.9


def _same(one: set[str], other: set[str]) -> bool:
    common = one & other
    return len(common) >= max(_FEW_FILES, _ALIKE * max(len(one), len(other))) and not _numbered(common)


def _numbered(stems: set[str]) -> bool:
    """Whether names differ only in short numbers, as any loop or camera names files."""
    return max(len(digits) for stem in stems for digits in ["", *re.findall(r"\d+", stem)]) < _LONG_NUMBER and (
        len({re.sub(r"\d+", "0", stem) for stem in stems}) < len(stems) / 2
    )


CLUES = (
    Clue("nested", _nested, of_levels=True),
    Clue("variants", _variants, of_levels=True),
    Clue("copy-of-the-whole", _copy_of_the_whole),
    Clue("versions", _versions),
    Clue("other-things", _other_things),
    Clue("camera-folders", _camera_folders),
    Clue("copies", _copies),
    Clue("loose", _loose),
    Clue("numbered-parts", _numbered_parts),
    Clue("same-files", _same_files),
)
