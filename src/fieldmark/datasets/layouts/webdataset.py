"""WebDataset (Aizman, Maltby and Breuel, 2019): tar files ("shards") in which an image and its label are members of one name."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.dataset import UNLABELLED, Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row
from fieldmark.datasets.layouts.class_names import is_name, names_of, readable
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.shard_images import ShardImages, entries
from fieldmark.datasets.layouts.shards import begins_late, by_split, missing
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.datasets.layouts.tar import DamagedTar, members
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_COMPRESSED = (".tar.gz", ".tgz")
_CLASS_FILES = ("classes.txt", "classnames.txt", "class_names.txt", "labels.txt")
_LABEL_EXTENSIONS = (".cls", ".json", ".txt")
_LABEL_KEYS = ("label", "cls", "class", "category")
_NAME_KEYS = ("label_name", "class_name")
_LABEL_LIMIT = 2**20  # bytes
_FIRST_MEMBERS = 50
_HEAD = 2**20  # bytes


@dataclass
class _Sample:
    """Members of one name: the paths of its images, and what its label files hold by their extension."""

    place: Place
    images: list[str] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Labelled:
    """`name` is what the sample calls its class beside a number."""

    place: Place
    path: str
    split: str
    label: int | str | None
    name: str | None


def read(source: Source) -> Dataset:
    """Read the tar files of a folder and of its folders train, val and test, or a single one. Of images only the headers are read.

    The split is a word in the file's name; if none says any, all is train. Members of one name up to the first dot are a sample: one
    image, and its label in .cls (a number or a name), in .json (under label, cls, class or category; label_name names the class) or else
    in .txt. Numbers, from 0, are named by classes.txt beside the shards, or by label_name, or stay numbers. Paths are the shard, "#" and
    the member. Raises InputError with all problems at once.
    """
    root, shards = _shards(source.path)
    if not shards:
        raise _no_shards(source.path)
    splits, remarks = by_split(shards)
    if late := begins_late(list(splits)):
        remarks = [*remarks, f"the numbers of the shards begin with {some(late)}: are there any before?"]
    notes = Annotations(root)
    for shard in missing(list(splits)):
        notes.wrong(Place(shard), "it is not there, though the names of the others say so")
    samples: list[_Labelled] = []
    passed_over = 0
    with source.console.progress("reading the shards", "shards") as advance:
        for done, (shard, split) in enumerate(splits.items(), 1):
            found, others = _read_shard(notes, shard)
            samples += filter(None, (_labelled(notes, sample, split) for sample in found))
            passed_over += others
            advance(done, len(splits))
    if passed_over:
        remarks.append(f"passed over {passed_over:,} members that are no images and no labels")
    notes.check()
    class_names, index, remark = _classes(notes, samples)
    rows = [
        Row(sample.place, sample.path, None if sample.label is None else index[sample.label], sample.split)
        for sample in samples
        if sample.label is None or sample.label in index
    ]
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=class_names,
        rows=rows,
        name=None if source.path.is_dir() else source.path.stem,
        images=ShardImages(root),
        notes=[*remarks, remark],
    )


def _shards(path: Path) -> tuple[Path, list[str]]:
    """The folder of the shards, and their names relative to it."""
    if not path.is_dir():
        return path.parent, [path.name] if path.suffix.lower() == ".tar" else []
    return path, _files(path, (".tar",))


def _files(folder: Path, endings: tuple[str, ...], splits: bool = True) -> list[str]:
    """Files of a folder and, with `splits`, of its folders that are named after splits. Empty if it cannot be read."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if splits and entry.name.lower() in SPLIT_NAMES and entry.is_dir():
                    found += [f"{entry.name}/{name}" for name in _files(folder / entry.name, endings, splits=False)]
                elif entry.name.lower().endswith(endings) and not entry.name.startswith(".") and entry.is_file():
                    found.append(entry.name)
    except OSError:
        return []
    return sorted(found)


def _compressed(path: Path) -> list[str]:
    if path.is_dir():
        return _files(path, _COMPRESSED)
    return [path.name] if path.name.lower().endswith(_COMPRESSED) else []


def _no_shards(path: Path) -> InputError:
    compressed = _compressed(path)
    if compressed:
        return InputError(
            f"the shards in {shown(path)} are compressed ({some(compressed)}), so that no image in them can be reached directly",
            hint="Decompress them (gunzip *.tar.gz); images are compressed themselves, so that they take hardly more room.",
        )
    return InputError(f"there are no shards in {shown(path)}", hint="Shards are files such as train-000000.tar.")


def _read_shard(notes: Annotations, shard: str) -> tuple[list[_Sample], int]:
    """The samples that have an image, and how many members are passed over."""
    samples: dict[str, _Sample] = {}
    others = 0
    for place, name, member, stream in entries(notes, shard):
        extension = PurePosixPath(name).suffix.lower()
        if extension not in (*IMAGE_EXTENSIONS, *_LABEL_EXTENSIONS):
            others += 1
            continue
        sample = samples.setdefault(_key(name), _Sample(place))
        if extension in IMAGE_EXTENSIONS:
            sample.place = place
            sample.images.append(f"{shard}#{name}")
        elif extension in sample.labels:
            notes.wrong(place, f"the sample has a {extension} already")
        elif member.size > _LABEL_LIMIT:
            notes.wrong(place, f"{name!r} should hold a label, and has {member.size:,} bytes")
        else:
            stream.seek(member.offset_data)
            sample.labels[extension] = stream.read(member.size)
    others += sum(len(sample.labels) for sample in samples.values() if not sample.images)
    return [sample for sample in samples.values() if sample.images], others


class _NoLabel(ValueError):
    """Why a sample has none."""


def _labelled(notes: Annotations, sample: _Sample, split: str) -> _Labelled | None:
    if len(sample.images) > 1:
        names = some([path.rpartition("#")[2] for path in sample.images])
        notes.wrong(sample.place, f"the sample has {len(sample.images)} images, and should have one: {names}")
        return None
    try:
        label, name = _label(sample.labels)
        if split == "test" and label in (None, -1):
            return _Labelled(sample.place, sample.images[0], UNLABELLED, None, None)
        if label is None:
            has = f"; it has {some(sorted(sample.labels))}" if sample.labels else ""
            raise _NoLabel(f"the sample has no label in .cls, .json or .txt{has}")
        if isinstance(label, int) and label < 0:
            raise _NoLabel(f"the label is {label}, and should be a whole number from 0")
    except _NoLabel as error:
        notes.wrong(sample.place, str(error))
        return None
    return _Labelled(sample.place, sample.images[0], split, label, name)


def _label(stored: dict[str, bytes]) -> tuple[int | str | None, str | None]:
    """The label in a sample's files, and what they call the class beside a number. Raises _NoLabel if one is wrong."""
    label: int | str | None = None
    described: dict = {}
    if ".json" in stored:
        try:
            described = json.loads(stored[".json"])
        except (ValueError, RecursionError) as error:
            raise _NoLabel(f"the sample's .json cannot be read ({error})") from error
        if not isinstance(described, dict):
            raise _NoLabel("the sample's .json is no object with names and values")
    beside = _first(described, _NAME_KEYS)
    name = None if beside is None else _name(beside)
    if ".cls" in stored:
        label = _number_or_name(stored[".cls"].decode("utf-8", "replace"))
    elif (value := _first(described, _LABEL_KEYS)) is not None:
        label = _number_or_name(value)
    elif ".json" not in stored and ".txt" in stored:
        label = _number_or_name(stored[".txt"].decode("utf-8", "replace"))
    return (name, None) if label is None else (label, name)


def _first(described: dict, keys: tuple[str, ...]) -> object:
    return next((described[key] for key in keys if described.get(key) is not None), None)


def _number_or_name(value: object) -> int | str:
    if type(value) is int and abs(value) < 10**9:
        return value
    text = _name(value)
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def _name(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not is_name(text) or "\ufffd" in text:
        what = repr(value)[:100] if isinstance(value, (str, int, float)) else f"of type {type(value).__name__}"
        raise _NoLabel(f"the label is {what}, and should be a whole number or a name")
    return text


def _classes(notes: Annotations, samples: list[_Labelled]) -> tuple[list[str], dict[int | str, int], str]:
    """The names of the classes, their indices by label, and where the names are from. Labels that there cannot be are noted."""
    names = names_of(sample.label for sample in samples if sample.label is not None)
    numbers = all(isinstance(label, int) for label in names)
    file = next((file for file in _CLASS_FILES if (notes.root / file).is_file()), None)
    if numbers and file is not None:
        lines = [line.text.strip() for line in notes.lines(file)]
        for sample in samples:
            if isinstance(sample.label, int) and sample.label >= len(lines):
                notes.wrong(sample.place, f"the label is {sample.label}, and {file} names {len(lines)} classes, from 0")
        return readable(lines), {number: number for number in range(len(lines))}, f"classes are named by {file}"
    remark = "classes are named in the shards"
    if numbers:
        beside = _names_beside(notes, samples)
        if set(beside) == set(names):
            names = {number: beside[number] for number in names}
        else:
            remark = f"classes are numbers; a file {_CLASS_FILES[0]} beside the shards would name them"
    return readable(list(names.values())), {label: position for position, label in enumerate(names)}, remark


def _names_beside(notes: Annotations, samples: list[_Labelled]) -> dict[int | str, str]:
    """The names that samples give beside the numbers of their classes."""
    names: dict[int | str, str] = {}
    for sample in samples:
        if isinstance(sample.label, int) and sample.name is not None:
            known = names.setdefault(sample.label, sample.name)
            if known != sample.name:
                notes.wrong(sample.place, f"class {sample.label} is called {sample.name!r} here, and {known!r} before")
    return names


def _key(name: str) -> str:
    """What the members of a sample have in common: the name up to the first dot, with its folder."""
    path = PurePosixPath(name)
    return f"{path.parent}/{path.name.partition('.')[0]}"


def _recognise(path: Path) -> Evidence | None:
    root, shards = _shards(path)
    for shard in shards[:3] + shards[-3:] or _compressed(path)[:1]:
        if _holds_samples(root / shard):
            return Evidence((shard,))
    return None


def _holds_samples(file: Path) -> bool:
    """Whether among the first members are an image and a label of one name."""
    kinds: dict[str, set[bool]] = defaultdict(set)
    try:
        with gzip.open(file) if file.name.lower().endswith(_COMPRESSED) else file.open("rb") as stream:
            head = io.BytesIO(stream.read(_HEAD)) if isinstance(stream, gzip.GzipFile) else stream
            for member in islice(members(head), _FIRST_MEMBERS):
                extension = PurePosixPath(member.name).suffix.lower()
                if extension in (*IMAGE_EXTENSIONS, *_LABEL_EXTENSIONS) and member.isreg():
                    kinds[_key(member.name)].add(extension in IMAGE_EXTENSIONS)
    except (DamagedTar, OSError, EOFError, zlib.error):
        pass
    return any(len(kind) == 2 for kind in kinds.values())


LAYOUT = Layout(
    name="webdataset",
    title="WebDataset shards",
    recognise=_recognise,
    read=read,
    example="shards/",
    images=ShardImages,
)
