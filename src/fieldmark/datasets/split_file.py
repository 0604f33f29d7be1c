"""split.parquet, a run's record of its data: writing it, and opening the same data again by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError, Problem
from fieldmark.core.files import whole_file
from fieldmark.core.manifest import Origin
from fieldmark.core.names import some, typed
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.content import MISSING, scan
from fieldmark.datasets.dataset import SPLITS, UNKNOWN, UNLABELLED, Dataset
from fieldmark.datasets.images import Images
from fieldmark.datasets.layouts import LAYOUTS
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.pixel_cache import default_cache_dir

_EDGES = ("left", "top", "right", "bottom")


def write_split(data: LoadedData, path: Path) -> None:
    """One row per image: the columns of `split_columns`."""
    with whole_file(path) as temporary:
        pq.write_table(pa.table(split_columns(data)), temporary)


def split_columns(data: LoadedData) -> dict[str, Any]:
    """The columns of the split table.

    path; hash; label: the class's name, "" where unlabelled; split; note: why it is set aside, or ""; and, where the dataset has them,
    left, top, right, bottom: of the box; group; true_label: before data.label_noise.
    """
    dataset = data.dataset
    columns: dict[str, Any] = {
        "path": list(dataset.paths),
        "hash": list(data.content.hashes),
        "label": dataset.label_names(),
        "split": dataset.splits.tolist(),
        "note": [data.content.problems.get(row, "") for row in range(len(dataset))],
    }
    if dataset.boxes is not None:
        columns |= dict(zip(_EDGES, dataset.boxes.T, strict=True))
    if dataset.groups is not None:
        columns["group"] = dataset.groups
    if dataset.true_labels is not None:
        columns["true_label"] = replace(dataset, labels=dataset.true_labels).label_names()
    return columns


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The rows of a split table."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def origin_of(dataset: Dataset) -> Origin:
    root = str(dataset.root.resolve())
    return Origin(name=dataset.name, root=root, layout=dataset.layout, banner=dataset.banner, notes=dataset.notes)


def images_of(origin: Origin) -> Images:
    return LAYOUTS[origin.layout].images(Path(origin.root))


def read_split(path: Path) -> dict[str, list[Any]]:
    """The columns of a split table, as write_split wrote them. Raises InputError if it is damaged."""
    try:
        stored: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if lacking := {"path", "hash", "label", "split"} - set(stored):
        raise InputError(f"{path} has no column {', '.join(sorted(lacking))}")
    return stored


def recorded_hashes(stored: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """By path, the content of the images of a split table when the run began."""
    return dict(zip(stored["path"], stored["hash"], strict=True))


def recorded_boxes(stored: Mapping[str, Sequence[Any]]) -> dict[str, tuple[float, float, float, float]]:
    """By path, the boxes that images of a split table have: left, top, right and bottom edge in pixels."""
    if _EDGES[0] not in stored:
        return {}
    boxes = zip(*(stored[edge] for edge in _EDGES), strict=True)
    return {path: box for path, box in zip(stored["path"], boxes, strict=True) if not np.isnan(box).any()}


def restore_data(folder: RunFolder, class_names: Sequence[str], console: Console) -> LoadedData:
    """The data of a run as its split.parquet records them. Raises InputError if they have moved or changed."""
    manifest = folder.manifest()
    root = Path(manifest.data.root)
    command = "evaluate" if manifest.status == "finished" else "resume"
    moved = f"fieldmark {command} {typed(folder.path)} --moved-to PLACE. Otherwise"
    if not root.exists():
        gone = Problem(f"the run's dataset was at {root}, and is not there any more", kind="machine")
        raise InputError(gone, hint=f"If it was moved: {moved} put it back.")
    recorded = Recorded.of(folder, class_names)
    loaded, changed = recorded.compare(manifest.data, console)
    if changed:
        missing = sum(loaded.content.problems.get(row) == MISSING for row in changed)
        raise InputError(
            f"the data in {root} have changed since the run began: {differing(len(changed), missing)}, "
            f"such as {some([loaded.dataset.paths[row] for row in changed], 3)}",
            hint=f"If they were moved: {moved} put them back as they were, or train a new run.",
        )
    return loaded


def differing(changed: int, missing: int) -> str:
    """How many images are gone, and how many are there and differ: "3 are gone and 1 differs"."""
    differ = changed - missing
    parts = [f"{missing:,} {'is' if missing == 1 else 'are'} gone"] if missing else []
    return " and ".join([*parts, f"{differ:,} differ{'s' * (differ == 1)}"] if differ else parts)


@dataclass(frozen=True, eq=False)
class Recorded:
    """The split table of a run, which names these classes and no others."""

    stored: Mapping[str, Sequence[Any]]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, folder: RunFolder, class_names: Sequence[str]) -> Recorded:
        """Raises InputError if it is damaged, or is that of another run."""
        stored = read_split(folder.split_file)
        known = zip(stored["label"], stored["split"], strict=True)
        labels = {label for label, split in known if split != UNKNOWN}
        if not labels <= {*class_names, ""} or not set(stored["split"]) <= {*SPLITS, UNLABELLED, UNKNOWN}:
            raise InputError(f"{folder.split_file} does not belong to this run: it names other classes or splits")
        return cls(stored, tuple(class_names))

    def dataset(self, origin: Origin) -> Dataset:
        """Its images, to be found where `origin` says."""
        stored = self.stored
        indices = {label: index for index, label in enumerate(self.class_names)} | {"": -1}
        unknown = [split == UNKNOWN for split in stored["split"]]
        labels = [-1 if held else indices[label] for label, held in zip(stored["label"], unknown, strict=True)]
        held_out = [label if held else "" for label, held in zip(stored["label"], unknown, strict=True)]
        return Dataset(
            name=origin.name,
            root=Path(origin.root),
            layout=origin.layout,
            class_names=self.class_names,
            paths=tuple(stored["path"]),
            labels=np.array(labels, np.int32),
            splits=np.array(stored["split"]),
            images=images_of(origin),
            boxes=np.array([stored[edge] for edge in _EDGES], np.float32).T if _EDGES[0] in stored else None,
            groups=np.array(stored["group"], np.int32) if "group" in stored else None,
            banner=origin.banner,
            held_out=np.array(held_out, np.str_) if any(unknown) else None,
        )

    def only(self, split: str) -> Recorded:
        """The rows of one split."""
        chosen = [each == split for each in self.stored["split"]]
        return replace(self, stored={name: list(compress(column, chosen)) for name, column in self.stored.items()})

    def compare(self, origin: Origin, console: Console) -> tuple[LoadedData, list[int]]:
        """The data where `origin` says, and the rows of the images that are not there as they were when the run began."""
        dataset = self.dataset(origin)
        with console.progress("checking the data", "files") as advance:
            content = scan(dataset, advance, default_cache_dir())
        changed = [row for row, (now, then) in enumerate(zip(content.hashes, self.stored["hash"], strict=True)) if now != then]
        aside = {row: note for row, note in enumerate(self.stored["note"]) if note}
        return LoadedData(dataset, content).without(aside), changed
