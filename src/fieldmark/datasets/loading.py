"""From what the user names as DATA to a split, checked table of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.console import Console, table
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.data import BoxCrop, Data
from fieldmark.core.recipe.load import load_recipe
from fieldmark.datasets.content import MISSING, Content, fingerprint, scan
from fieldmark.datasets.corruptions import parse as parse_corruption
from fieldmark.datasets.dataset import SPLITS, UNKNOWN, UNLABELLED, Dataset, Level, at_level, hold_out, some_classes
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.columns import parse as parse_columns
from fieldmark.datasets.layouts.layout import SETTINGS
from fieldmark.datasets.pixel_cache import Selection, default_cache_dir
from fieldmark.datasets.regions import margin_of, seen_regions
from fieldmark.datasets.splits import Carved, Folds, carve, copies, own_splits, split_table, straddling
from fieldmark.datasets.subsets import mislabelled, subset
from fieldmark.datasets.taxonomy_file import read_levels
from fieldmark.datasets.unrotated_boxes import REMEDY, UNROTATED, unrotated
from fieldmark.runtime.preprocess import is_empty


@dataclass(frozen=True)
class LoadedData:
    """A split dataset whose every image was read once; `content.problems` are those that cannot be used."""

    dataset: Dataset
    content: Content

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.dataset, self.content)

    def rows(self, *splits: str) -> np.ndarray:
        """Indices of the readable images of these splits, ascending, int64."""
        wanted = np.isin(self.dataset.splits, splits)
        wanted[list(self.content.problems)] = False
        return np.flatnonzero(wanted)

    def regions(self, rows: np.ndarray, margin: float | None) -> np.ndarray:
        """The part of each of these images that is seen, as crops.seen_regions gives it."""
        boxes = None if self.dataset.boxes is None else self.dataset.boxes[rows]
        heights = np.maximum(self.content.heights[rows] - self.dataset.banner, 0)
        return seen_regions(boxes, self.content.widths[rows], heights, margin)

    def selection(self, rows: np.ndarray, margin: float | None) -> Selection:
        """These images to be decoded, cropped to their boxes with a margin, or whole."""
        whole = self.dataset.banner == 0 and (margin is None or self.dataset.boxes is None)
        paths, hashes = [self.dataset.paths[row] for row in rows], [self.content.hashes[row] for row in rows]
        return Selection(self.dataset.images, paths, hashes, None if whole else self.regions(rows, margin))

    def take(self, rows: np.ndarray) -> LoadedData:
        """These images alone, in their order."""
        return LoadedData(self.dataset.take(rows), self.content.take(rows))

    def without(self, problems: dict[int, str]) -> LoadedData:
        """The same with more images set aside."""
        return replace(self, content=replace(self.content, problems={**self.content.problems, **problems}))

    def without_empty(self, margin: float | None) -> LoadedData:
        """The same with those images set aside of which nothing would be seen, or something else than was meant."""
        empty = is_empty(self.regions(np.arange(len(self.dataset)), margin))
        reason = "it is all banner" if margin is None else "its box holds less than a pixel of it"
        problems = {int(row): reason for row in np.flatnonzero(empty)}
        if margin is not None:
            problems |= dict.fromkeys(unrotated(self.dataset, self.content), UNROTATED)
        return self.without({row: problem for row, problem in problems.items() if row not in self.content.problems})


@dataclass(frozen=True, eq=False)
class FoundData:
    """DATA as the user named it, and what is known of it before its images are read: its layout, classes and splits."""

    given: str
    dataset: Dataset
    settings: Data
    carved: Carved

    def drawn_by(self, hashes: Sequence[str]) -> Carved:
        """The splits, drawn so that images of the same content are in one."""
        return _carved(self.dataset, self.settings, hashes)


def find_data(data: str | Path, settings: Data, console: Console) -> FoundData:
    """Find and split DATA without a look at its images. Raises InputError if it cannot be trained on."""
    if settings.corrupt != "none":
        try:
            parse_corruption(settings.corrupt)
        except InputError as error:
            raise InputError(*(problem.within("data.corrupt") for problem in error.problems), hint=error.hint) from None
    dataset = _classified(read_as(data, settings, console), settings)
    _refuse_unused(dataset, settings)
    if settings.splits == "own":
        dataset = own_splits(dataset)
    return FoundData(str(data), dataset, settings, _carved(dataset, settings, None))


def _carved(dataset: Dataset, settings: Data, hashes: Sequence[str] | None) -> Carved:
    folds = None if settings.folds is None else Folds(settings.folds, settings.fold)
    carved = carve(dataset, settings.val_fraction, settings.test_fraction, settings.split_seed, folds, hashes)
    _refuse_unknown_classes(carved.dataset)
    return carved


def load_data(found: FoundData, console: Console) -> LoadedData:
    """Scan the images and print the split table. Raises InputError if they cannot be trained on."""
    dataset, settings, carved = found.dataset, found.settings, found.carved
    used = mislabelled(subset(carved.dataset, settings.subset), settings.label_noise)
    read = dataset if carved.is_drawn else used
    with console.progress("reading", "files") as advance:
        content = scan(read, advance, default_cache_dir())
    if carved.is_drawn and (copies(content.hashes, dataset.rows("train")) >= 0).any():
        carved = found.drawn_by(content.hashes)
        used = mislabelled(subset(carved.dataset, settings.subset), settings.label_noise)
    if len(used) < len(read):
        kept = set(used.paths)
        content = content.take(np.array([row for row, path in enumerate(read.paths) if path in kept], np.int64))
    margin = margin_of(settings.crop)
    loaded = LoadedData(used, content).without_empty(margin)
    labelled = dataset.labels >= 0
    published = 0 if dataset.groups is None else len(straddling(dataset.groups[labelled], dataset.splits[labelled]))
    unusable = f", of which {len(loaded.content.problems):,} cannot be used" if loaded.content.problems else ""
    console.say(f"{used.name}: {len(used.class_names):,} classes, {len(used):,} images{unusable}", *used.notes)
    console.say(*_said_of(used, settings, published))
    groups = ("groups",) if used.groups is not None else ()
    columns = ("split", "classes", "images", *groups, "smallest class", "largest class", "where from")
    usable = np.setdiff1d(np.arange(len(used)), list(loaded.content.problems)).astype(np.int64)
    console.say(table(None, columns, _table_rows(used.take(usable), carved), _LEFT))
    if margin is None and (turned := unrotated(used, content)):
        boxes = "box leaves its image" if len(turned) == 1 else "boxes leave their images"
        console.say(f"{len(turned):,} {boxes} and would fit without the turn by EXIF (first: {used.paths[turned[0]]}). {REMEDY}")
    return loaded


def reading(settings: Sequence[str], others: str) -> Data:
    """The section `data` of recipe keys that say how DATA is read. Raises InputError for other keys, with the sentence `others`."""
    plain, given = load_recipe(), load_recipe("default", settings)
    read = {key: getattr(given.data, key) for key in ("layout", *SETTINGS)}
    if given != plain.model_copy(update={"data": plain.data.model_copy(update=read)}):
        known = ", ".join(f"data.{key}" for key in ("layout", *SETTINGS))
        raise InputError(others, hint=f"The keys for that are {known}.")
    return given.data


def read_as(data: str | Path, settings: Data, console: Console, own: Data | None = None) -> Dataset:
    """Read DATA as the settings say, with the splits and classes that it has itself; `own` as in read_dataset. Raises InputError."""
    columns = None if settings.columns is None else parse_columns(settings.columns)
    return read_dataset(
        data,
        settings.layout,
        columns,
        console,
        images=settings.images,
        suffix=settings.suffix,
        missing_labels=settings.missing_labels,
        several_objects=settings.several_objects,
        class_depth=settings.class_depth,
        own=own,
    )


def _classified(dataset: Dataset, settings: Data) -> Dataset:
    """The dataset with the taxonomy and the classes that the settings ask for."""
    if settings.taxonomy == "none":
        dataset = replace(dataset, levels=())
    elif settings.taxonomy != "auto":
        levels = read_levels(Path(settings.taxonomy).expanduser(), dataset.class_names)
        dataset = replace(dataset, levels=tuple(Level.of(name, parents) for name, parents in levels.items()))
    dataset = dataset if settings.level is None else at_level(dataset, settings.level)
    dataset = dataset if settings.classes is None else some_classes(dataset, settings.classes)
    return dataset if settings.unknown_classes is None else hold_out(dataset, settings.unknown_classes)


def _said_of(dataset: Dataset, settings: Data, straddlers: int) -> Iterator[str]:
    if dataset.levels:
        yield "taxonomy: " + ", ".join(f"{level.name} ({len(level.names):,})" for level in dataset.levels)
    if dataset.boxes is not None:
        boxed = int((~np.isnan(dataset.boxes).any(axis=1)).sum())
        used = "" if isinstance(settings.crop, BoxCrop) else "; data.crop=box crops to them"
        yield f"{boxed:,} of {len(dataset):,} images have a box{used}"
    if straddlers:
        yield f"{straddlers:,} groups have images in more than one split, as the data have it; data.splits=own keeps groups together"
    if dataset.true_labels is not None:
        wrong = int((dataset.true_labels != dataset.labels).sum())
        yield f"{wrong:,} labels of train were made wrong on purpose (data.label_noise)"


_LEFT = ("smallest class", "largest class", "where from")


def _refuse_unused(dataset: Dataset, settings: Data) -> None:
    """Raise InputError for settings that have no effect on this dataset."""
    has = {split for split in ("val", "test") if len(dataset.rows(split))}
    kept = has if settings.splits == "official" else set()
    unused = {f"{split}_fraction": f"the data have a {split} of their own" for split in sorted(kept)}
    if settings.folds is not None:
        unused["val_fraction"] = "data.folds says how much of train is val"
    if kept == {"val", "test"}:
        unused["split_seed"] = "the data have a val and a test of their own"
    if not has:
        unused["splits"] = "the data have no splits of their own"
    if dataset.boxes is None:
        unused["crop"] = "the data have no boxes"
    defaults = {name: field.default for name, field in Data.model_fields.items()}
    if problems := [
        f"data.{key}={getattr(value, 'name', value)} has no effect: {why}"
        for key, why in unused.items()
        if (value := getattr(settings, key)) != defaults[key]
    ]:
        raise InputError(*problems, hint="Leave it out.")


def _refuse_unknown_classes(dataset: Dataset) -> None:
    """Raise InputError for classes that val or test have and train has not."""
    counts = {split: np.bincount(dataset.labels[dataset.rows(split)], minlength=len(dataset.class_names)) for split in SPLITS}
    problems = [
        f"{split} has {count:,} images of {dataset.class_names[label]!r}, and train has none"
        for split in ("val", "test")
        for label, count in enumerate(counts[split])
        if count and not counts["train"][label]
    ]
    if problems:
        more = [f"… and {len(problems) - 10:,} more"] if len(problems) > 10 else []
        raise InputError(*problems[:10], *more, hint="data.splits=own draws all splits anew, so that train has images of every class.")


def _table_rows(dataset: Dataset, carved: Carved) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []

    def groups(count: int | str | None) -> tuple[Any, ...]:
        return () if dataset.groups is None else (count,)

    for row in split_table(replace(carved, dataset=dataset)):
        smallest, largest = (f"{name} ({count:,})" if name else "" for name, count in (row.smallest, row.largest))
        rows.append((row.split, row.classes, row.images, *groups(row.groups), smallest, largest, row.source))
    if count := len(dataset.rows(UNLABELLED)):
        rows.append((UNLABELLED, "", count, *groups(""), "", "", "from the data"))
    held = Counter(name for name in ([] if dataset.held_out is None else dataset.held_out.tolist()) if name)
    if held:
        smallest, largest = (f"{name} ({count:,})" for name, count in (held.most_common()[-1], held.most_common(1)[0]))
        rows.append((UNKNOWN, len(held), held.total(), *groups(""), smallest, largest, "held out of training"))
    return rows


def check_readable(data: LoadedData, largest_share: float, console: Console, said: Collection[int] = ()) -> None:
    """Name the images that are set aside, but for the rows that were `said` before.

    Raises InputError if they are more than `largest_share` of all, or leave a class without images.
    """
    problems = data.content.problems
    if not problems:
        return
    named = [f"{data.dataset.paths[row]}: {reason}" for row, reason in sorted(problems.items())]
    share = len(problems) / len(data.dataset)
    if share > largest_share:
        raise InputError(
            f"{len(problems):,} of {len(data.dataset):,} images ({100 * share:.1f} %) cannot be read, more than data.max_unreadable "
            f"({100 * largest_share:g} %) allows:",
            *named[:10],
            *([f"… and {len(named) - 10:,} more"] if len(named) > 10 else []),
            hint=_remedy(data, Counter(problems.values())),
        )
    left = np.bincount(data.dataset.labels[data.rows("train")], minlength=len(data.dataset.class_names))
    if (empty := np.flatnonzero(left == 0)).size:
        raise InputError(*(f"class {data.dataset.class_names[index]} has no readable image in train" for index in empty))
    named = [f"{data.dataset.paths[row]}: {reason}" for row, reason in sorted(problems.items()) if row not in said]
    more = " more" if said else ""
    images = f"1{more} unreadable image is" if len(named) == 1 else f"{len(named):,}{more} unreadable images are"
    console.say(f"{images} set aside:", *(f"  {line}" for line in named[:20]))
    if len(named) > 20:
        console.say(f"  … and {len(named) - 20:,} more (all are in split.parquet)")


def _remedy(data: LoadedData, reasons: Counter[str]) -> str:
    """What to do about images that cannot be used, for these reasons."""
    if 2 * reasons[MISSING] > reasons.total():
        return f"{reasons[MISSING]:,} of them are not in {data.dataset.root}: was everything downloaded and unpacked there?"
    return REMEDY if reasons[UNROTATED] else "Repair or remove them, or raise data.max_unreadable."
