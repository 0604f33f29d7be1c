"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), 60,000 images of 32 × 32 pixels each, in their "python version"."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from fieldmark.core.recipe.data import LayoutName
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.images import Stamp
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row
from fieldmark.datasets.layouts.class_names import readable
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.part_images import PartImages, escaped
from fieldmark.datasets.layouts.plain_pickle import NotPlainData, load
from fieldmark.datasets.layouts.tar import DamagedTar, members
from fieldmark.runtime.decode import UnreadableImage

_ARCHIVES = (".tar.gz", ".tgz")
_SIDE = 32
_VALUES = 3 * _SIDE * _SIDE
_LARGEST = 512 * 2**20
"""In bytes; CIFAR-100's train has 155 million."""


@dataclass(frozen=True)
class Version:
    """What its folder and files are called, and the fields in them.

    files: the split of each file of images. labels and names: fields with the label of each image and the name of each label; superlabels
    and supernames: the same for superclasses, "" if there are none.
    """

    folder: str
    meta: str
    files: Mapping[str, str]
    labels: str
    names: str
    superlabels: str = ""
    supernames: str = ""


@dataclass(frozen=True, eq=False)
class _Batch:
    """The records of one file. `pixels` are uint8 (n, 3072): all red, then all green, then all blue, row by row."""

    names: tuple[str, ...]
    fine: tuple[int, ...]
    coarse: tuple[int, ...]
    pixels: np.ndarray


def layout(name: LayoutName, title: str, version: Version) -> Layout:
    """The layout of a version."""
    return Layout(
        name=name,
        title=title,
        recognise=partial(_recognise, version),
        read=partial(_read, name, version),
        example=f"{version.folder}/",
        images=partial(CifarImages, version),
    )


def _read(layout: LayoutName, version: Version, source: Source) -> Dataset:
    """Read the files of the version's folder, or of its archive (.tar.gz) as it is.

    They are pickles, whose data are read without executing them. Superclasses are the level "superclass". The paths are the file, "#" and
    the name that the record has, followed by its number if another has the same.
    """
    root = source.path
    notes = Annotations(root)
    files = _files(notes, version, (version.meta, *version.files))
    notes.check()
    meta = _fields(notes, version.meta, files) or {}
    classes = _names(notes, version.meta, meta, version.names)
    superclasses = _names(notes, version.meta, meta, version.supernames) if version.supernames else ()
    batches = {file: _batch(notes, version, file, files, len(classes), len(superclasses)) for file in version.files}
    notes.check()

    rows = []
    superclass_of: dict[int, tuple[int, Place]] = {}
    with_images = set()
    for file, batch in batches.items():
        for number, (path, fine) in enumerate(zip(_paths(file, batch.names), batch.fine, strict=True), 1):
            place = Place(file, number, "record")
            if notes.inner_path(place, batch.names[number - 1]) is not None:
                rows.append(Row(place, path, fine, version.files[file]))
            with_images.add(fine)
            if not superclasses:
                continue
            coarse = batch.coarse[number - 1]
            known, where = superclass_of.setdefault(fine, (coarse, place))
            if known != coarse:
                names = superclasses[coarse], superclasses[known]
                notes.wrong(place, f"{classes[fine]} is of the superclass {names[0]} here, and of {names[1]} in {where}")
    for fine in sorted(set(range(len(classes))) - with_images):
        notes.wrong(Place(version.meta), f"{classes[fine]} has no images in train and test")
    notes.check()
    parents = readable(superclasses)
    return notes.dataset(
        layout=layout,
        class_names=readable(classes),
        rows=rows,
        levels={"superclass": [parents[superclass_of[fine][0]] for fine in range(len(classes))]} if superclasses else {},
        name=version.folder,
        images=CifarImages(version, root, batches),
        notes=["its official splits are used: train, test"],
    )


class CifarImages(PartImages[dict[str, np.ndarray]]):
    """The images in the files of a version, as PPM. A file is read as a whole."""

    def __init__(self, version: Version, root: Path, batches: Mapping[str, _Batch] | None = None):
        super().__init__(root)
        self._version = version
        self._opened.update((split, _pixels(split, batch)) for split, batch in (batches or {}).items())

    def read(self, path: str) -> bytes:
        pixels = self._file(path).get(path)
        if pixels is None:
            raise UnreadableImage(path, "there is no such record")
        return b"P6\n%d %d\n255\n" % (_SIDE, _SIDE) + pixels.reshape(3, _SIDE, _SIDE).transpose(1, 2, 0).tobytes()

    def stamp(self, path: str) -> Stamp:
        return super().stamp(path) if self._root.is_dir() else Stamp.of(self._root)

    def _open(self, file: str) -> dict[str, np.ndarray]:
        notes = Annotations(self._root)
        batch = _batch(notes, self._version, file, _files(notes, self._version, (file,)))
        notes.check()
        return _pixels(file, batch)


def _pixels(split: str, batch: _Batch) -> dict[str, np.ndarray]:
    """The pixels of each image by its path."""
    return dict(zip(_paths(split, batch.names), batch.pixels, strict=True))


def _paths(split: str, names: Sequence[str]) -> list[str]:
    """The paths of records with these names. In a name "#" is written "%23", since it ends the name of the file."""
    times = Counter(names)
    paths = []
    for number, name in enumerate(names, 1):
        stem, dot, suffix = name.rpartition(".")
        unique = name if times[name] == 1 else f"{stem} ({number}){dot}{suffix}"
        paths.append(f"{split}#{escaped(unique)}")
    return paths


def _files(notes: Annotations, version: Version, wanted: Sequence[str]) -> dict[str, bytes]:
    """The contents of these files, of those that can be read."""
    if notes.root.is_dir():
        found = {name: notes.bytes(name) for name in wanted}
        return {name: data for name, data in found.items() if data is not None}
    archive = Place(notes.root.name)
    contents: dict[str, bytes] = {}
    try:
        with gzip.open(notes.root) as stream:
            for number, member in enumerate(members(cast(BinaryIO, stream)), 1):
                path = notes.inner_path(Place(notes.root.name, number, "member"), member.name)
                name = (path or "").removeprefix(f"{version.folder}/")
                if path == name or name not in wanted:
                    continue
                if not member.isreg() or name in contents or member.size > _LARGEST:
                    notes.wrong(Place(notes.root.name, number, "member"), f"{path} is there twice, is too large, or is no file")
                    continue
                stream.seek(member.offset_data)
                contents[name] = stream.read(member.size)
    except DamagedTar as error:
        notes.wrong(archive, f"it {error}", remedy="download it again")
    except (OSError, EOFError, zlib.error) as error:
        notes.wrong(archive, f"it cannot be read ({error})", remedy="download it again")
    for name in wanted:
        if name not in contents and not notes.problems:
            notes.wrong(archive, f"it holds no {version.folder}/{name}")
    return contents


def _fields(notes: Annotations, file: str, files: dict[str, bytes]) -> dict[str, Any] | None:
    """The dictionary that a pickle holds, by names that are text; None if that is noted to be wrong."""
    if file not in files:
        return None
    try:
        stored = load(files[file])
    except NotPlainData as error:
        notes.wrong(Place(file), f"it {error}")
        return None
    if not isinstance(stored, dict):
        notes.wrong(Place(file), "it holds no dictionary")
        return None
    return {_text(key): value for key, value in stored.items() if isinstance(key, (str, bytes))}


def _names(notes: Annotations, file: str, fields: dict[str, Any], key: str) -> tuple[str, ...]:
    stored = fields.get(key)
    if not isinstance(stored, list) or not all(isinstance(name, (str, bytes)) and _text(name) for name in stored):
        notes.wrong(Place(file), f"its {key} should be a list of names")
        return ()
    return tuple(map(_text, stored))


def _text(name: str | bytes) -> str:
    """Names are ASCII; what a damaged one holds beside is made visible."""
    return (name if isinstance(name, bytes) else name.encode(errors="surrogatepass")).decode(errors="backslashreplace")


def _labels(notes: Annotations, file: str, fields: dict[str, Any], key: str, classes: int) -> tuple[int, ...]:
    stored = fields.get(key)
    if not isinstance(stored, list) or not all(type(label) is int for label in stored):
        notes.wrong(Place(file), f"its {key} should be a list of whole numbers")
        return ()
    for number, label in enumerate(stored, 1):
        if not 0 <= label < classes:
            shown = f"{label}" if abs(label) < 10**9 else "far too large"
            notes.wrong(Place(file, number, "record"), f"{key} is {shown}, and should be from 0 to {classes - 1}")
    return tuple(stored)


def _batch(notes: Annotations, version: Version, file: str, files: dict[str, bytes], fine: int = 2**31, coarse: int = 2**31) -> _Batch:
    """The records of a file. Labels are checked against the numbers of classes."""
    fields = _fields(notes, file, files)
    if fields is None:
        return _Batch((), (), (), np.empty((0, _VALUES), np.uint8))
    batch = _Batch(
        _names(notes, file, fields, "filenames"),
        _labels(notes, file, fields, version.labels, fine),
        _labels(notes, file, fields, version.superlabels, coarse) if version.superlabels else (),
        fields.get("data", np.empty(0)),
    )
    if not (isinstance(batch.pixels, np.ndarray) and batch.pixels.dtype == np.uint8 and batch.pixels.shape[1:] == (_VALUES,)):
        notes.wrong(Place(file), f"its data should be bytes, {_VALUES:,} for each image")
        return batch
    lists = {"filenames": batch.names, version.labels: batch.fine} | ({version.superlabels: batch.coarse} if version.superlabels else {})
    if any(len(each) != len(batch.pixels) for each in lists.values()):
        counts = ", ".join(f"{len(each):,} {name}" for name, each in lists.items())
        notes.wrong(Place(file), f"it holds {len(batch.pixels):,} images, but {counts}")
    return batch


def _recognise(version: Version, path: Path) -> Evidence | None:
    if path.is_dir():
        found = tuple(name for name in (*version.files, version.meta) if _is_pickle(path / name))
        return Evidence(found) if len(found) >= 2 else None
    if path.name.lower().endswith(_ARCHIVES):
        try:
            with gzip.open(path) as stream:
                first = next(members(cast(BinaryIO, stream)), None)
        except (OSError, DamagedTar):
            return None
        named = first is not None and PurePosixPath(first.name).parts[:1] == (version.folder,)
        return Evidence((version.folder,)) if named else None
    return None


def _is_pickle(file: Path) -> bool:
    """Whether it begins as a pickle of protocol 2 or later does."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return stream.read(1) == b"\x80"
    except OSError:
        return False
