"""From what the user names as DATA to a split, checked table of pictures, and back from a run's split table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fieldmark.core.console import Console, table
from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file
from fieldmark.core.schema import Data
from fieldmark.data.content import Content, fingerprint, scan
from fieldmark.data.dataset import SPLITS, Dataset
from fieldmark.data.layouts import read_dataset
from fieldmark.data.pixels import default_cache_dir
from fieldmark.data.splits import carve, split_table


@dataclass(frozen=True)
class LoadedData:
    """A split dataset whose every file was read once; `content.problems` are the files that cannot be used."""

    dataset: Dataset
    content: Content

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.dataset, self.content)

    def rows(self, *splits: str) -> np.ndarray:
        """Indices of the readable pictures of these splits, ascending, int64."""
        wanted = np.isin(self.dataset.splits, splits)
        wanted[list(self.content.problems)] = False
        return np.flatnonzero(wanted)

    def files(self, rows: np.ndarray) -> list[Path]:
        return [self.dataset.file(int(row)) for row in rows]

    def hashes(self, rows: np.ndarray) -> list[str]:
        return [self.content.hashes[int(row)] for row in rows]

    def without(self, problems: dict[int, str]) -> LoadedData:
        """The same with more files set aside."""
        return replace(self, content=replace(self.content, problems={**self.content.problems, **problems}))


def load_data(data: str | Path, settings: Data, console: Console) -> LoadedData:
    """Read, split, scan and print the split table. Raises InputError where the data cannot be trained on."""
    dataset = read_dataset(data, settings.layout, console)
    _refuse_unused(dataset, settings)
    carved = carve(dataset, settings.val_fraction, settings.test_fraction, settings.split_seed)
    console.say(f"{dataset.name}: {len(dataset.class_names):,} classes, {len(dataset):,} pictures", *dataset.notes)
    console.say(table(None, ("split", "classes", "pictures", "smallest class", "largest class", "where from"), _table_rows(carved), _LEFT))
    with console.progress("reading", "files") as advance:
        content = scan(carved.dataset, advance, default_cache_dir())
    return LoadedData(carved.dataset, content)


_LEFT = ("smallest class", "largest class", "where from")


def _refuse_unused(dataset: Dataset, settings: Data) -> None:
    """Raise InputError for settings of splits that the data have already."""
    own = {split for split in ("val", "test") if len(dataset.rows(split))}
    unused = {f"data.{split}_fraction": f"the data have a {split} of their own" for split in sorted(own)}
    if own == {"val", "test"}:
        unused["data.split_seed"] = "the data have a val and a test of their own"
    defaults = {f"data.{name}": field.default for name, field in Data.model_fields.items()}
    given = {key: getattr(settings, key.removeprefix("data.")) for key in unused}
    if problems := [f"{key}={given[key]:g} has no effect: {why}" for key, why in unused.items() if given[key] != defaults[key]]:
        raise InputError(*problems, hint="Leave it out.")


def _table_rows(carved: Any) -> list[tuple[Any, ...]]:
    rows = []
    for row in split_table(carved):
        smallest, largest = (f"{name} ({count:,})" if name else "" for name, count in (row.smallest, row.largest))
        rows.append((row.split, row.classes, row.images, smallest, largest, row.source))
    return rows


def check_readable(data: LoadedData, largest_share: float, console: Console) -> None:
    """Name the files that are set aside.

    Raises InputError where they are more than `largest_share` of all, or leave a class without pictures.
    """
    problems = data.content.problems
    if not problems:
        return
    named = [f"{data.dataset.paths[row]}: {reason}" for row, reason in sorted(problems.items())]
    share = len(problems) / len(data.dataset)
    if share > largest_share:
        raise InputError(
            f"{len(problems):,} of {len(data.dataset):,} pictures ({100 * share:.1f} %) cannot be read, more than data.max_unreadable "
            f"({100 * largest_share:g} %) allows:",
            *named[:10],
            *([f"… and {len(named) - 10:,} more"] if len(named) > 10 else []),
            hint="Repair or remove them, or raise data.max_unreadable.",
        )
    left = np.bincount(data.dataset.labels[data.rows("train")], minlength=len(data.dataset.class_names))
    if (empty := np.flatnonzero(left == 0)).size:
        raise InputError(*(f"class {data.dataset.class_names[index]} has no readable picture in train" for index in empty))
    console.say(f"{len(problems):,} unreadable pictures are set aside:", *(f"  {line}" for line in named[:20]))
    if len(named) > 20:
        console.say(f"  … and {len(named) - 20:,} more (all are in split.parquet)")


def write_split(data: LoadedData, path: Path) -> None:
    """One row per picture: path, hash, label (the class's name), split, note (why it is set aside, or empty)."""
    names = data.dataset.class_names
    columns = {
        "path": list(data.dataset.paths),
        "hash": list(data.content.hashes),
        "label": [names[label] for label in data.dataset.labels],
        "split": data.dataset.splits.tolist(),
        "note": [data.content.problems.get(row, "") for row in range(len(data.dataset))],
    }
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)  # type: ignore[no-untyped-call]


def restore_data(root: Path, layout: str, split_file: Path, class_names: Sequence[str], name: str, console: Console) -> LoadedData:
    """The data of a run as its split.parquet records them. Raises InputError where they have moved or changed."""
    if not root.is_dir():
        raise InputError(f"the run's data set was at {root}, and is not there any more", hint="Put it back, then try again.")
    stored = pq.read_table(split_file).to_pydict()  # type: ignore[no-untyped-call]
    indices = {label: index for index, label in enumerate(class_names)}
    if not set(stored["label"]) <= set(indices) or not set(stored["split"]) <= set(SPLITS):
        raise InputError(f"{split_file} does not belong to this run: it names other classes or splits")
    dataset = Dataset(
        name=name,
        root=root,
        layout=layout,
        class_names=tuple(class_names),
        paths=tuple(stored["path"]),
        labels=np.array([indices[label] for label in stored["label"]], np.int32),
        splits=np.array(stored["split"]),
    )
    with console.progress("checking the data", "files") as advance:
        content = scan(dataset, advance, default_cache_dir())
    changed = [path for path, now, then in zip(stored["path"], content.hashes, stored["hash"], strict=True) if now != then]
    if changed:
        gone = sum(not (root / path).exists() for path in changed)
        raise InputError(
            f"the data in {root} have changed since the run began: {len(changed):,} pictures differ ({gone:,} of them are gone), "
            f"such as {', '.join(changed[:3])}",
            hint="Put them back as they were, or train a new run.",
        )
    return LoadedData(dataset, content).without({row: note for row, note in enumerate(stored["note"]) if note})
