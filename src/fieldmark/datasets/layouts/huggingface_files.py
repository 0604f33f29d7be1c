"""Which files of rows a Hugging Face dataset has, and of which split each is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.layouts.annotations import Annotations, Place
from fieldmark.datasets.layouts.shards import by_split, missing
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES

DICT, STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_DEPTH = 2


def is_saved(path: Path) -> bool:
    """Whether it is a folder written by save_to_disk."""
    return (path / DICT).is_file() or (path / STATE).is_file()


def saved_files(notes: Annotations) -> tuple[dict[str, str], list[str]]:
    """The files that save_to_disk has written, with their splits, and notes: those of several splits in folders, or those of one."""
    if not (notes.root / DICT).is_file():
        state = notes.json_object(STATE) or {}
        split = SPLIT_NAMES.get(str(state.get("_split")).lower())
        remarks = [] if split else ["it does not say its split: all is train"]
        return dict.fromkeys(_data_files(notes, "", state), split or "train"), remarks
    content = notes.json_object(DICT)
    if content is None:
        return {}, []
    names = content.get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        notes.wrong(Place(DICT), "its splits should be a list of names")
        return {}, []
    known = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    if not known:
        notes.wrong(Place(DICT), f"none of its splits is called train, validation or test: {some(names)}")
    files: dict[str, str] = {}
    for name, split in known.items():
        files |= dict.fromkeys(_data_files(notes, name, notes.json_object(f"{name}/{STATE}") or {}), split)
    others = [name for name in names if name not in known]
    return files, [f"passed over splits that are not known: {some(others)}"] if others else []


def saved_features(notes: Annotations, files: Collection[str]) -> dict[str, dict[str, Any]]:
    """What dataset_info.json, in the folder of each of these files, says of the columns."""
    told: dict[str, dict[str, Any]] = {}
    for folder in sorted({str(PurePosixPath(file).parent) for file in files}):
        info = str(PurePosixPath(folder, _INFO))
        features = (notes.json_object(info) or {}).get("features") if (notes.root / info).is_file() else None
        told[folder] = features if isinstance(features, dict) else {}
    return {file: told[str(PurePosixPath(file).parent)] for file in files}


def _data_files(notes: Annotations, folder: str, state: Mapping[str, Any]) -> list[str]:
    """The files that a state.json lists; none if it is empty, since it could not be read."""
    if not state:
        return []
    place = Place(str(PurePosixPath(folder, STATE)))
    if state.get("_indices_files") or state.get("_indices_data_files"):
        notes.wrong(place, "it is a selection of the rows, which only an old version of datasets can read; save it again with a newer one")
    listed = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed] if isinstance(listed, list) else [None]
    if not names or not all(isinstance(name, str) for name in names):
        notes.wrong(place, "its _data_files should be a list of objects, each with a filename")
        return []
    paths = [notes.inner_path(place, str(name), folder) for name in names]
    return [path for path in paths if path is not None]


def parquet_files(path: Path) -> tuple[dict[str, str], list[str]]:
    """Parquet files with their splits. Raises InputError if they are of several datasets, or some are missing."""
    files = [path.name] if not path.is_dir() else sorted(find_parquet(path))
    if not files:
        raise InputError(f"there are no Parquet files in {shown(path)}", hint="They are called train-00000-of-00001.parquet, for example.")
    if len(several := configurations(files)) > 1:
        raise InputError(
            f"{shown(path)} holds {len(several)} datasets: {some(several, 20)}",
            hint=f"Give one of them: {shown(path / several[-1])}, for example.",
        )
    splits, remarks = by_split(files)
    if path.is_dir() and (absent := missing(list(splits))):
        raise InputError(
            f"{shown(path)} is not whole; it lacks {some(absent)}",
            hint="Their numbers say how many files there are. Fetch those missing.",
        )
    if any(part.startswith("partial-") for file in splits for part in PurePosixPath(file).parts):
        remarks.append("the files in folders called partial- are only the first part of the dataset on the hub")
    return splits, remarks


def find_parquet(root: Path, folders: int | None = None) -> Iterator[str]:
    """Parquet files in a folder and in those at most two below it, looking into at most so many folders."""
    waiting = [""]
    seen = 0
    while waiting and (folders is None or seen < folders):
        folder = waiting.pop(0)
        seen += 1
        try:
            with os.scandir(root / folder) as entries:
                visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in visible:
            inner = str(PurePosixPath(folder, entry.name))
            if entry.name.endswith(".parquet") and entry.is_file():
                yield inner
            elif inner.count("/") < _DEPTH and entry.is_dir():
                waiting.append(inner)


def configurations(files: Iterable[str]) -> list[str]:
    """The datasets that these files are of, which the hub calls so: their folders without those that are named after splits, sorted."""
    found = set()
    for file in files:
        parts = list(PurePosixPath(file).parent.parts)
        while parts and parts[-1].lower().removeprefix("partial-") in SPLIT_NAMES:
            parts.pop()
        found.add(str(PurePosixPath(*parts)))
    return sorted(found)
