"""Which folders hold the images of one class, given the level at which folders name classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fieldmark.core.names import shown, some
from fieldmark.datasets.dataset import Level
from fieldmark.datasets.layouts.folder_survey import Survey, last
from fieldmark.datasets.layouts.split_names import split_word

IMAGE_FOLDERS = frozenset(
    {
        *("images", "image", "imgs", "img", "pictures", "pics", "photos", "photographs", "jpegimages", "jpg", "jpeg", "jpgs"),
        *("png", "pngs", "rgb", "data", "dataset", "raw"),
    }
)
"""Names of folders that say only that images are in them, in lower case."""
MASK_FOLDERS = frozenset(
    {
        *("mask", "masks", "annotation", "annotations", "label", "labels", "segmentation", "segmentations", "seg", "segs"),
        *("groundtruth", "ground_truth", "gt", "heatmaps", "bboxes"),
    }
)
"""Names of folders whose images are not photographs of a class but say where something is in one, in lower case."""

_NAMED = 3


@dataclass(frozen=True)
class ClassFolder:
    """A folder of images of one class.

    Args:
        path: relative to the root.
        split: the split that a folder on the way to it, or it itself, is named after; "" for none.
        name: what its class is called.
        levels: by level, from 1, the names of those folders on the way that are no splits, with the class's own as far as it has several.
        alone: whether folders inside it are classes of their own.
    """

    path: str
    split: str
    name: str
    levels: tuple[tuple[int, str], ...] = ()
    alone: bool = False


def class_folders_at(survey: Survey, first: int, final: int | None) -> list[ClassFolder]:
    """The class folders of which the folders at levels `first` to `final` name the class; None is the innermost.

    Folders above and below that level are splits if their names say so. Those above that lie beside splits are passed over.
    """
    return list(_class_folders(survey, first, final, ClassFolder("", "", ""), (), survey.above_root()))


def _class_folders(
    survey: Survey, first: int, final: int | None, here: ClassFolder, names: tuple[str, ...], met: set[tuple[int, int]]
) -> Iterator[ClassFolder]:
    """`here` is how far it has come; `names` are those of its class so far, and `met` the real folders that were looked through."""
    depth = here.path.count("/") + 1 if here.path else 0
    identity = survey.identity(here.path)
    if identity is None or identity in met:
        return
    if depth == final:
        yield from divided(survey, here, deep=True)
        return
    met.add(identity)
    if names and survey.images_in(here.path):
        yield replace(here, alone=True)
    inside = survey.inside(here.path)
    splits = {} if here.split or depth + 1 >= first else splits_by_name(inside)
    for path in inside:
        if splits and path not in splits:
            continue
        own = (*names, last(path)) if depth + 1 >= first else ()
        levels = here.levels if splits else (*here.levels, (depth + 1, last(path)))
        step = ClassFolder(path, splits.get(path, here.split), "/".join(own), levels)
        yield from _class_folders(survey, first, final, step, own, met)


def paths_of(survey: Survey, folder: ClassFolder) -> list[str]:
    """The images of a class folder."""
    folders = [folder.path] if folder.alone else survey.below(folder.path)
    return [path for each in folders for path in survey.images_in(each)]


def divided(survey: Survey, folder: ClassFolder, deep: bool = False) -> list[ClassFolder]:
    """The class folder as it is, or the folders in it that are splits, or that hold its images and leave out their masks.

    Splits count only if images lie directly in them, or if they may lie deeper.
    """
    inside = survey.with_images(folder.path)
    if survey.images_in(folder.path) or not inside:
        return [folder]
    splits = splits_by_name(inside)
    if not folder.split and "train" in splits.values() and len(splits) == len(inside) and (deep or all(map(survey.images_in, inside))):
        return [replace(folder, path=path, split=split) for path, split in splits.items()]
    return [replace(folder, path=without_masks(inside) or folder.path)]


def without_masks(inside: Sequence[str]) -> str | None:
    """Of these folders the one that holds the images, if the names of all others say masks; None if it is not so."""
    images = [path for path in inside if last(path).lower() in IMAGE_FOLDERS]
    others = [path for path in inside if path not in images]
    return images[0] if len(images) == 1 and all(last(path).lower() in MASK_FOLDERS for path in others) else None


def splits_by_name(folders: Sequence[str]) -> dict[str, str]:
    """Folder → split of those whose names say so: "train" and "test1", or if there are none, "seg_train" with "seg_test"."""
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in folders:
        if found := split_word(last(folder)):
            families[found.rest][folder] = found.split
    plain = families.pop("", {})
    if plain and (len(plain) == len(folders) or len(set(plain.values())) > 1):
        return plain
    whole = [splits for splits in families.values() if "train" in splits.values() and len(set(splits.values())) > 1]
    return whole[0] if len(whole) == 1 else {}


def merged(survey: Survey, folders: Sequence[ClassFolder], first: int) -> dict[str, list[str]]:
    """Classes that several folders become since they have one name from level `first` on: what these folders are in, by the class."""
    parents: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        if survey.count(folder.path):
            parents[folder.name].add("/".join(name for level, name in folder.levels if level < first))
    return {name: sorted(parents[name]) for name in sorted(parents) if len(parents[name]) > 1}


def apart(survey: Survey, folders: Sequence[ClassFolder], first: int, final: int | None) -> str | None:
    """The `data.class_depth` with the fewest further levels by which no folders of one name become one class; None for none."""
    for above in range(first - 1, 0, -1):
        found = class_folders_at(survey, above, final)
        if not {(each.path, each.split) for each in folders} <= {(each.path, each.split) for each in found}:
            return None
        if not merged(survey, found, above):
            return f"{above}-{final or ''}"
    return None


def said_of_merged(classes: Mapping[str, Sequence[str]]) -> str:
    """As in "major: in Dendrocopos and Parus, read as one class"."""
    named = "; ".join(
        f"{shown(name)}: in {' and '.join(map(shown, parents)) if len(parents) < 3 else some(parents, 2)}"
        for name, parents in list(classes.items())[:_NAMED]
    )
    if len(classes) == 1:
        return f"{named}, read as one class"
    return f"{named}{f'; and {len(classes) - _NAMED:,} more' if len(classes) > _NAMED else ''}: each read as one class"


def levels_above(folders: Sequence[ClassFolder], class_names: Sequence[str]) -> tuple[Level, ...]:
    """The levels that folders above those of the classes make: each that is alike for all folders of a class, and tells some apart."""
    parents: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for folder in folders:
        for level, name in folder.levels[:-1]:
            parents[level][folder.name].add(name)
    found = []
    for level, of_class in sorted(parents.items()):
        names = [next(iter(of_class[name])) for name in class_names if len(of_class[name]) == 1]
        if len(names) == len(class_names) and 1 < len(set(names)) < len(names):
            found.append(Level.of(f"folder-{level}", names))
    return tuple(found)
