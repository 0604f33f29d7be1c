"""Class folders: one folder of images per class, by itself or under train, val and test."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.core.names import in_order, nearest, shown, some
from fieldmark.core.recipe.data import class_levels
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset, Level
from fieldmark.datasets.images import Files
from fieldmark.datasets.layouts.car_names import car_levels
from fieldmark.datasets.layouts.class_levels import (
    IMAGE_FOLDERS,
    ClassFolder,
    apart,
    class_folders_at,
    divided,
    levels_above,
    merged,
    paths_of,
    said_of_merged,
    splits_by_name,
)
from fieldmark.datasets.layouts.folder_splits import images_inside, split_folders, wrapped_splits
from fieldmark.datasets.layouts.folder_survey import LOOSE, OTHER_FILES, OURS, Survey, join, last
from fieldmark.datasets.layouts.label_files import label_files
from fieldmark.datasets.layouts.layout import Layout, Source
from fieldmark.datasets.layouts.mask_files import ask, mask_files
from fieldmark.datasets.layouts.plausible import Candidates, check
from fieldmark.datasets.layouts.question import command, level_choices, question
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def read(source: Source) -> Dataset:
    """Read a folder of class folders, or of train, val and test (or their common other names) that hold class folders.

    Classes are the folders of train, sorted by name, or as numbers if all are; those of val and test are matched to them by name.
    Images deeper inside a class folder belong to that class, unless `data.class_depth` says which folders name the classes. A test
    folder that holds images and no folders is unlabelled. Names of cars, and folders above the classes, give levels. Links are
    followed. Hidden files and folders, and runs of Fieldmark, are ignored; whatever else is passed over is counted in the notes.
    Nothing is opened or changed.
    Raises InputError, with all problems at once, and where folders may be something else than classes (`plausible`).
    """
    root = source.path
    if not root.is_dir():
        raise InputError(
            f"{shown(root)} is a file, not a folder",
            hint="Unpack it and give the folder."
            if root.name.lower().endswith(_ARCHIVES)
            else "Give the folder that holds one folder per class, or a table that ends in .csv, .tsv or .parquet.",
        )
    survey = Survey(root)
    survey.listing("")
    survey.stop_at_problems()
    if survey.is_ours(""):
        raise InputError(f"{shown(root)} is a run or study of Fieldmark, and no dataset", hint="Give the folder of images.")
    reading = _as_found(survey, source) if source.class_depth is None else _at_levels(survey, source.class_depth)
    classes: dict[str, list[_Class]] = {split: _images(survey, reading, split) for split in reading.splits}
    classes = _without_masks(survey, source, classes)
    class_names = _fit_for_training(survey, reading, classes) if source.for_training else _whatever_there_is(survey, reading, classes)
    survey.stop_at_problems()

    label_of = {_key(name): label for label, name in enumerate(class_names)}
    labelled = [(path, label_of[_key(folder.name)], split) for split in classes for folder, paths in classes[split] for path in paths]
    table = sorted(labelled + [(path, -1, UNLABELLED) for path in reading.unlabelled])
    levels = [Level.of(level, parents) for level, parents in (car_levels(class_names) or {}).items()]
    return Dataset(
        name=os.path.basename(os.path.abspath(root)) or str(root),
        root=root,
        layout="class-folders",
        class_names=class_names,
        paths=tuple(path for path, _, _ in table),
        labels=np.fromiter((label for _, label, _ in table), np.int32, len(table)),
        splits=np.array([split for _, _, split in table], np.str_),
        images=Files(root),
        levels=(*levels, *levels_above([folder for each in classes.values() for folder, _ in each], class_names)),
        notes=(*reading.notes, *survey.notes, *survey.passed_over_notes()),
    )


_ANNOTATIONS = (".xml", ".json", ".csv", ".mat")
_Class = tuple[ClassFolder, list[str]]
"""A class folder, and the paths of its images."""


@dataclass
class _Reading:
    """What each folder is taken for. `splits`: split → its folder, as messages call it, "" for the root; `folders` have one of these."""

    splits: dict[str, str]
    folders: list[ClassFolder] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _fit_for_training(survey: Survey, reading: _Reading, classes: dict[str, list[_Class]]) -> tuple[str, ...]:
    """The classes of train, at least two, which those of the other splits are among."""
    if not survey.problems and not any(paths for _, paths in classes["train"]):
        raise _with_labels(survey, _no_images(survey, reading))
    class_names = _train_classes(survey, classes)
    if not survey.problems and len(class_names) == 1:
        raise _with_labels(survey, _one_class(survey, reading, class_names[0]))
    for split in classes:
        if split != "train":
            _check_against_train(survey, split, reading.splits[split], classes[split], class_names)
            if not any(paths for _, paths in classes[split]):
                survey.notes.append(f"{reading.splits[split] or split} has no images in class folders and counts as missing")
    return class_names


def _whatever_there_is(survey: Survey, reading: _Reading, classes: dict[str, list[_Class]]) -> tuple[str, ...]:
    """The classes of all splits that have images."""
    with_images = [(folder, paths) for each in classes.values() for folder, paths in each if paths]
    if not survey.problems and not with_images and not reading.unlabelled:
        raise _with_labels(survey, _no_images(survey, reading))
    _check_distinct(survey, with_images)
    return tuple(in_order({folder.name for folder, _ in with_images}))


def _as_found(survey: Survey, source: Source) -> _Reading:
    """By the names of folders and what is in them."""
    base = ""
    splits = split_folders(survey, survey.inside(base))
    if not splits and (base := images_inside(survey, "")):
        splits = split_folders(survey, survey.inside(base))
    if not splits and (base := wrapped_splits(survey, base) or base):
        splits = split_folders(survey, survey.inside(base))
    if not splits:
        return _without_splits(survey, base, source)
    found = ", ".join(splits.values())
    reading = _Reading({}, notes=[f"read as class folders in splits: {found}"])
    if beside := [folder for folder in survey.inside(base) if folder not in splits.values()]:
        survey.notes.append(f"passed over beside {found}: {some(beside)}")
    if "train" not in splits and source.for_training:
        folders = "the folder" if len(splits) == 1 else "the folders"
        raise InputError(
            f"{shown(survey.root)} has {folders} {found}, but no train", hint="Add the folder train with one folder per class."
        )
    classes: set[str] = set()
    for split, folder in splits.items():
        inner = images_inside(survey, folder)
        if split != "train" and last(inner) in classes and survey.images_in(inner):
            inner = folder  # a class that is called like its split
        if split == UNLABELLED:
            reading.unlabelled += survey.images_below(inner, split, folder) or []
            survey.notes.append(f"{inner} is unlabelled, as its name says")
            continue
        inside, loose = _inside(survey, inner)
        if split == "test" and loose and not inside:
            reading.unlabelled += loose
            survey.notes.append(f"{inner} holds images and no class folders: they are unlabelled")
            continue
        survey.passed_over(LOOSE, loose)
        if split == "train":
            _check(survey, inner, inside, source.chosen)
            classes = set(map(last, inside))
        reading.splits[split] = inner
        reading.folders += [each for path in inside for each in divided(survey, ClassFolder(path, split, last(path)))]
    survey.passed_over(LOOSE, survey.listing(base)[1])
    return reading


def _without_splits(survey: Survey, base: str, source: Source) -> _Reading:
    inside, loose = _inside(survey, base)
    reading = _Reading({"train": base}, notes=["read as one folder per class, without splits" + (f", in {base}" if base else "")])
    if base and (beside := [folder for folder in survey.inside("") if not base.startswith(folder)]):
        survey.notes.append(f"passed over beside {base}: {some(beside)}")
    if named := [folder for folder in inside if last(folder).lower() in SPLIT_NAMES]:
        survey.notes.append(f"{some(named)}: read as a class and not as a split, since it holds no class folders")
    _check(survey, base, inside, source.chosen)
    if not source.for_training and not any(map(survey.count, inside)):
        reading.unlabelled = loose
    else:
        survey.passed_over(LOOSE, loose)
    reading.folders = [each for path in inside for each in divided(survey, ClassFolder(path, "", last(path)))]
    if any(each.split for each in reading.folders):
        _splits_inside(reading)
    return reading


def _inside(survey: Survey, folder: str) -> tuple[list[str], list[str]]:
    """The folders that may be classes, and the images, directly inside."""
    inside, loose = survey.listing(folder)
    ours = [path for path in inside if survey.holds_only_ours(path)]
    survey.passed_over(OURS, ours)
    return [path for path in inside if path not in ours], loose


def _splits_inside(reading: _Reading) -> None:
    """Class folders that hold train, val and test each."""
    found = [split for split in SPLITS if any(each.split == split for each in reading.folders)]
    reading.splits = dict.fromkeys(found, reading.splits["train"])
    reading.notes = [f"read as one folder per class, with splits inside: {', '.join(found)}"]


def _check(survey: Survey, base: str, folders: list[str], chosen: bool) -> None:
    with_images = [folder for folder in folders if survey.count(folder)]
    if not any(each.split for folder in with_images for each in divided(survey, ClassFolder(folder, "", ""))) or base:
        check(Candidates(survey, base, tuple(with_images)), chosen)
    deeper = [path for folder in with_images if survey.images_in(folder) for path in survey.with_images(folder)]
    if deeper:
        survey.notes.append(f"folders inside class folders are read as parts of them: {len(deeper):,} (first: {shown(deeper[0])})")


def _at_levels(survey: Survey, depth: int | str) -> _Reading:
    """As `data.class_depth` says."""
    try:
        first, final = class_levels(depth)
    except ValueError as error:
        raise InputError(f"data.class_depth: {error}") from None
    folders = [folder for folder in class_folders_at(survey, first, final) if not survey.holds_only_ours(folder.path)]
    if not any(survey.count(folder.path) for folder in folders):
        what = f"{shown(survey.root)} has no images in folders at level {first}, which data.class_depth={depth} says name the classes:"
        raise question(what, ["level 1 is that of the folders directly inside"], level_choices(survey))
    tops = splits_by_name(survey.inside("")) if first > 1 else {}
    found = [split for split in SPLITS if any((folder.split or "train") == split for folder in folders)]
    reading = _Reading({split: next((top for top, of in tops.items() if of == split), "") for split in found}, folders)
    said = f"the folders at level {first}" if first == final else f"the folders from level {first} to {final or 'the innermost'}"
    reading.notes.append(
        f"read as class folders: {said} name the classes" + (f", in splits: {', '.join(found)}" if found != ["train"] else "")
    )
    if alike := merged(survey, folders, first):
        remedy = apart(survey, folders, first, final)
        survey.notes.append(
            said_of_merged(alike) + (f"; data.class_depth={remedy} keeps {'them' if len(alike) == 1 else 'all'} apart" if remedy else "")
        )
    for top, split in tops.items():
        if split not in found and (images := survey.images_in(images_inside(survey, top))):
            reading.unlabelled += images
            survey.notes.append(f"{top} holds images and no class folders: they are unlabelled")
    read = {path for folder in folders for path in paths_of(survey, folder)} | set(reading.unlabelled)
    everything = (path for folder in survey.below("") for path in survey.images_in(folder))
    survey.passed_over(LOOSE, [path for path in everything if path not in read])
    return reading


def _images(survey: Survey, reading: _Reading, split: str) -> list[_Class]:
    """The images of each class folder of a split. Folders that are links to a folder above them are left out."""
    found = []
    for folder in reading.folders:
        if (folder.split or "train") == split:
            paths = survey.listing(folder.path)[1] if folder.alone else survey.images_below(folder.path, split, reading.splits[split])
            if paths is not None:
                found.append((folder, paths))
            if last(folder.path).lower() in IMAGE_FOLDERS and last(folder.path) != folder.name:
                beside = [path for path in survey.with_images(folder.path.rpartition("/")[0]) if path != folder.path]
                survey.passed_over("images in folders of masks", [path for each in beside for path in survey.images_in(each)])
    return found


def _without_masks(survey: Survey, source: Source, classes: dict[str, list[_Class]]) -> dict[str, list[_Class]]:
    """Without masks that lie next to their images. Raises InputError if it cannot be told whether they are masks."""
    by_name: dict[str, list[list[str]]] = {}
    for folder, paths in (each for found in classes.values() for each in found):
        by_name.setdefault(folder.name, []).append(paths)
    masks, sure = mask_files(by_name)
    if masks and not sure and source.for_training and not source.chosen:
        raise ask(survey, masks, in_order(by_name), source.class_depth)
    if not sure:
        return classes
    survey.passed_over("masks next to their images", sorted(masks))
    return {split: [(folder, [path for path in paths if path not in masks]) for folder, paths in classes[split]] for split in classes}


def _train_classes(survey: Survey, classes: dict[str, list[_Class]]) -> tuple[str, ...]:
    """Class names, in order; every class of train must have images."""
    held = {folder.name for folder, paths in classes["train"] if paths}
    for folder, paths in classes["train"]:
        if not paths and folder.name not in held and folder.path not in survey.damaged:
            elsewhere = {split: sum(len(found) for each, found in classes[split] if each.name == folder.name) for split in classes}
            others = [f"{split} has {count:,}" for split, count in elsewhere.items() if count]
            what = f"class folder {folder.path} has no images"
            notes = [
                name for name in sorted(survey.look(folder.path).passed_over.get(OTHER_FILES, [])) if name.lower().endswith(_ANNOTATIONS)
            ]
            if notes:
                survey.wrong(f"{what}, but {len(notes):,} annotations ({some(notes, 2)})", "it is no class: move it out of the folder")
            else:
                survey.wrong(f"{what}, and {' and '.join(others)}" if others else what, "add some, or move it elsewhere")
    _check_distinct(survey, classes["train"])
    return tuple(in_order({folder.name for folder, _ in classes["train"]}))


def _check_against_train(survey: Survey, split: str, split_folder: str, classes: list[_Class], class_names: tuple[str, ...]) -> None:
    known = {_key(name) for name in class_names}
    names = dict.fromkeys(folder.name for folder, paths in classes if paths)
    unknown = []
    for name in names:
        if _key(name) not in known:
            near = nearest(name, class_names, likeness=0.8)
            unknown.append(repr(name) + (f" (train has {near[0]!r})" if near else ""))
    if unknown:
        several = "a class" if len(unknown) == 1 else f"{len(unknown)} classes"
        remedy = "classes are matched by the names of their folders: rename them, delete them or add them to train"
        none = ""
        if len(unknown) == len(names) > 1:
            none = f", and none of train's, such as {some(class_names, 2)}"
            remedy = f"they are not splits of one dataset, or of one whose splits differ in their classes on purpose; {remedy}"
        survey.wrong(f"{split_folder or split} has {several} that train lacks: {', '.join(unknown)}{none}", remedy)
    _check_distinct(survey, classes)


def _check_distinct(survey: Survey, classes: list[_Class]) -> None:
    by_key: dict[str, ClassFolder] = {}
    for folder, _ in classes:
        twin = by_key.setdefault(_key(folder.name), folder)
        if twin.name != folder.name:
            one, other = twin.path, folder.path
            what = f"the class folders {one} and {other} have the same name in two Unicode spellings ({one!a}, {other!a})"
            survey.wrong(what, remedy="merge them")


def _one_class(survey: Survey, reading: _Reading, name: str) -> InputError:
    folder = f"{reading.splits['train']}/{name}".strip("/")
    inside, _ = survey.listing(folder)
    in_splits = len(reading.splits) > 1 or reading.splits["train"]
    return InputError(
        f"{shown(join(survey.root, reading.splits['train']))} has one class only ({name}): a classifier needs at least two classes",
        hint=f"If the classes are the folders inside, give {shown(join(survey.root, folder))}.\n  {command(join(survey.root, folder))}"
        if inside and not in_splits
        else "Put the images of each class into a folder of its own.",
    )


def _no_images(survey: Survey, reading: _Reading) -> InputError:
    folder = shown(join(survey.root, reading.splits.get("train", "")))
    loose = len(survey.of_kind(LOOSE))
    if loose:
        return InputError(
            f"{folder} has no class folders with images; {loose:,} image{'s lie' if loose > 1 else ' lies'} outside any class folder",
            hint="Put the images of each class into a folder named after the class.",
        )
    others = survey.of_kind(OTHER_FILES)
    if archives := [path for path in others if path.lower().endswith(_ARCHIVES)]:
        return InputError(f"there are no images in {folder}, but archives: {some(archives)}", hint="Unpack them and give the folder.")
    kinds = f" ({some(others)})" if others else ""
    return InputError(
        f"there are no images in {folder}{kinds}",
        hint=f"An image is a file whose name ends in {', '.join(sorted(IMAGE_EXTENSIONS))}.",
    )


def _with_labels(survey: Survey, error: InputError) -> InputError:
    """The error, or if there are files that say what the images are, what they are instead of the hint."""
    labels = label_files(survey)
    choices = [label.choice for label in labels if label.choice is not None]
    return question(str(error.problems[0]), [label.what for label in labels], choices) if labels else error


def _key(name: str) -> str:
    """What names are matched by: macOS and Linux may spell the same accented name in different code points."""
    return unicodedata.normalize("NFC", name)


LAYOUT = Layout(
    name="class-folders",
    title="class folders",
    recognise=lambda path: None,
    read=read,
    example="photos/",
    settings=("class_depth",),
)
