"""Which folders of a dataset are its train, val and test, and which are classes that are called like them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fieldmark.core.names import shown, some
from fieldmark.datasets.dataset import SPLITS, UNLABELLED
from fieldmark.datasets.layouts.class_levels import splits_by_name, without_masks
from fieldmark.datasets.layouts.folder_survey import Survey, join, last
from fieldmark.datasets.layouts.question import Choice, command, level_choices, question
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES, split_word

_ALIKE = 0.5


def split_folders(survey: Survey, folders: Sequence[str]) -> dict[str, str]:
    """Split → its folder, in the order train, val, test, unlabelled; empty if the folders are classes.

    Names such as "training_set", "test1" and "images_val" say a split; "seg_train" does next to "seg_test". A class may be called "train"
    as well (as opposed to "bus"), so among folders that are not splits, such names count only if class folders are inside.
    Raises InputError with the choices if it cannot be told.
    """
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in folders:
        if found := split_word(last(folder)):
            families[found.rest][folder] = found.split
    plain = families.pop("", {})
    if _are_splits(survey, plain, folders):
        return _one_each(survey, plain)
    whole = [named for named in families.values() if "train" in named.values() and len(set(named.values())) > 1]
    if len(whole) == 1 and (any(survey.with_images(folder) for folder in whole[0]) or len(whole[0]) == len(folders)):
        return _one_each(survey, whole[0])
    if whole:
        raise _words_in_class_names(survey, [folder for named in whole for folder in named])
    return {}


def wrapped_splits(survey: Survey, folder: str) -> str | None:
    """The folder, however deep in folders that hold nothing else, that holds train and another split, each with class folders inside.

    None if there is none, or `folder` is not such a wrapping itself.
    """
    while not survey.images_in(folder) and len(inside := survey.with_images(folder)) == 1:
        (folder,) = inside
        splits = splits_by_name(survey.with_images(folder))
        held = {split: survey.with_images(path) for path, split in splits.items() if not survey.images_in(path)}
        if len(set(splits.values())) > 1 and len(held.get("train", ())) > 1:
            return folder
    return None


def _are_splits(survey: Survey, plain: dict[str, str], folders: Sequence[str]) -> bool:
    """Whether folders that have nothing but a split in their names are splits. Raises InputError if it cannot be told."""
    if not plain:
        return False
    holders = [folder for folder in plain if survey.inside(folder)]
    others = [folder for folder in folders if folder not in plain and survey.count(folder)]
    several = len(set(plain.values()) & set(SPLITS)) > 1
    if not others:
        return several or bool(holders) or any(last(folder).lower() in SPLIT_NAMES for folder in plain)
    if not holders and not several:
        return False
    if holders and (several or all(_alike(survey, holders[0], other) for other in others)):
        return True
    names = some([last(folder) for folder in plain])
    beside = some([last(folder) for folder in others])
    if holders:
        inside = some([last(folder) for folder in survey.inside(holders[0])], 3)
        reason = f"{names} could be a split, with the classes {inside} inside, or a class like {beside} beside it"
        choices = level_choices(survey)
        if (count := len(survey.with_images(holders[0]))) > 1:
            choices.append(Choice(command(join(survey.root, holders[0])), f"{count:,} classes, in {last(holders[0])} alone"))
    else:
        reason = f"{names} sound like splits and hold images and no class folders, and {beside} lie beside them"
        choices = level_choices(survey)
    raise question(f"{shown(survey.root)} can be read in more than one way:", [reason], choices)


def _alike(survey: Survey, one: str, other: str) -> bool:
    """Whether most folders in one have the name of a folder in the other."""
    names, others = ({last(path).lower() for path in survey.with_images(folder)} for folder in (one, other))
    return bool(names) and len(names & others) >= _ALIKE * min(len(names), max(len(others), 1))


def _one_each(survey: Survey, named: dict[str, str]) -> dict[str, str]:
    by_split: dict[str, list[str]] = defaultdict(list)
    for folder, split in named.items():
        by_split[split].append(folder)
    for split, several in by_split.items():
        if len(several) > 1:
            survey.wrong(f"{' and '.join(several)} are two names for one split, {split}", remedy="keep one, or rename the other")
    chosen = {split: by_split[split][0] for split in (*SPLITS, UNLABELLED) if split in by_split}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        if first in chosen and second in chosen and survey.same_folder(chosen[first], chosen[second]):
            survey.wrong(f"{chosen[first]} and {chosen[second]} are one and the same folder: {second} needs images of its own")
    survey.stop_at_problems()
    return chosen


def _words_in_class_names(survey: Survey, folders: Sequence[str]) -> Exception:
    """As in cats_train, cats_test, dogs_train, dogs_test."""
    reason = f"{some(folders, 4)} have a split in their names and hold images and no class folders"
    remedy = "Put them into folders train, val and test, each with a folder for every class."
    error = question(f"{shown(survey.root)} can be read in more than one way:", [reason], level_choices(survey))
    return type(error)(*error.problems, hint=f"{remedy}\n{error.hint}")


def images_inside(survey: Survey, folder: str) -> str:
    """The folder in which the images of a split or dataset lie: deeper, if a folder holds nothing but one of its own name, or "images"."""
    while not survey.images_in(folder):
        inside = survey.with_images(folder)
        only = without_masks(inside)
        own = last(folder) if folder else survey.root.name
        if only is None and len(inside) == 1 and last(inside[0]).lower() == own.lower():
            only = inside[0]
        if only is None:
            return folder
        folder = only
    return folder
