"""Images that a table names by ids, without a folder or without an ending: looked up among the files below a folder."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import shown, some
from fieldmark.datasets.image_files import list_folder
from fieldmark.datasets.layouts.annotations import is_text
from fieldmark.datasets.layouts.disk_names import DiskNames
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.split_names import split_of
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_FIRST = 20
_MANY_FOLDERS = 20_000

Named = tuple[str, str]
"""What a table calls an image, and the split of the row, "" if it says none."""


@dataclass(frozen=True)
class _Place:
    """A folder, relative to the one that is searched, and what is added to the name of a file there."""

    folder: str
    added: str


@dataclass
class _Index:
    """The image files below a folder by their names, and by their names without the ending."""

    by_name: dict[str, list[_Place]] = field(default_factory=dict)
    by_stem: dict[str, list[_Place]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> _Index:
        index = cls()
        places: dict[tuple[str, str], _Place] = {}
        for folder, name in image_files(root):
            stem, ending = os.path.splitext(name)
            for added, key, known in (("", name, index.by_name), (ending, stem, index.by_stem)):
                known.setdefault(_composed(key), []).append(places.setdefault((folder, added), _Place(folder, added)))
        return index


class ImageFinder:
    """Where the images of the tables in a folder are: paths as they are written, or ids that are looked up.

    `images` and `suffix` are `data.images` and `data.suffix`. With these, or with `foreign`, paths that lead out of the folder are looked
    up by their last part. Paths are relative to `base`: the tables' folder, or else `images` if that
    lies elsewhere. `remarks` say what was found out.
    """

    def __init__(self, root: Path, images: str | None = None, suffix: str | None = None, foreign: bool = False):
        self.root = root
        self.base = root
        self.remarks: list[str] = []
        self._asked = images is not None or suffix is not None
        self._foreign = self._asked or foreign
        self._suffix = _with_dot(suffix or "")
        self._inside = ""
        if images is not None:
            folder = _images_folder(root, images)
            try:
                self._inside = "/".join(folder.resolve().relative_to(root.resolve()).parts)
            except ValueError:
                self.base = folder
        self._index: _Index | None = None
        self._beside = DiskNames(root)
        self._names = self._beside if self.base is root else DiskNames(self.base)
        self._respelt: dict[str, str] = {}

    def find(self, file: str, own_split: str, named: Callable[[], Iterable[Named]], candidates: Iterable[str] = ()) -> Mapping[str, str]:
        """The path of each image that the file `file` names, by what it is called there.

        It is relative to the first of the folders `candidates` in which one of the first images is, or else looked up. Empty if they are
        paths relative to the file as they stand, which is so if any of the first is there, and if nothing is found unless `data.images`
        or `data.suffix` asks for it. `named` may be called twice. Raises InputError if an id may be any of several files, and if nothing
        is found that was asked for.
        """
        first = [text for text, _ in islice(named(), _FIRST)]
        if not first or (not (self._asked or candidates) and any(self._is_there(text, PurePosixPath(file).parent) for text in first)):
            return {}
        for folder in candidates:
            if any(self._is_there(text, folder) for text in first):
                return {text: str(PurePosixPath(folder, text.strip().replace("\\", "/"))) for text, _ in named()}
        found, several = self._search((text, split or own_split or "train") for text, split in named())
        if several:
            raise self._ambiguous(file, several)
        if not found:
            self._say_nothing_found(file, first)
            return {}
        usual = Counter(found.values()).most_common(1)[0][0]
        paths = {text: self._path(text, place) for text, place in found.items()}
        lost = {text for text, _ in named() if text not in found and _is_bare(text)}
        self.remarks.append(
            f"the images of {shown(file)} are looked up by name: {_listed(found.values())}"
            + (f"; {len(lost):,} {'is' if len(lost) == 1 else 'are'} not there" if lost else "")
        )
        return paths | {text: self._path(text, usual) for text in lost}

    def resolves(self, texts: Sequence[str], own_split: str) -> bool:
        """Whether each of these names is that of one image, and they are not all of test, as those of answers are."""
        found = self.looked_up(texts, own_split)
        return bool(found) and (bool(own_split) or {split_of(folder) for folder in found} != {"test"})

    def looked_up(self, texts: Sequence[str], own_split: str) -> set[str]:
        """The folders in which these names are, if each is that of one image; "" if they say their folders. Otherwise none."""
        if texts and all(map(self._is_there, texts)):
            return {""}
        found, several = self._search((text, own_split or "train") for text in texts)
        if several or not all(text in found for text in texts):
            return set()
        return {place.folder for place in found.values()} if all(map(_is_bare, texts)) else {""}

    def as_on_disk(self, path: str) -> str:
        """A path relative to `base` in the disk's spelling, if there is one file like it."""
        there = self._names.spelling(path)
        if there is None or there == path:
            return path
        self._respelt.setdefault(path, there)
        return there

    def respelt_remark(self) -> list[str]:
        """That paths of the tables were found under names that look alike."""
        if not self._respelt:
            return []
        path, there = next(iter(self._respelt.items()))
        spelt = f"{shown(path)} is {shown(there)}" if _composed(path) != _composed(there) else f"{path!a} is {there!a}"
        return [f"{len(self._respelt):,} of the images are spelt otherwise in the table than on disk, and found: {spelt}, for example"]

    def unlisted_tests(self, listed: Collection[str], class_names: Collection[str]) -> Iterator[tuple[str, list[str]]]:
        """Folders beside the tables that are called test, and their images, if none is `listed` and none lies in a class folder."""
        parents = {str(PurePosixPath(path).parent) for path in listed}
        for folder in folders(self.base):
            if split_of(folder.name) != "test" or not is_text(folder.name):
                continue
            images = [(str(PurePosixPath(folder.name, inner)), name) for inner, name in image_files(folder)]
            names = {part for inner, _ in images for part in PurePosixPath(inner).parts}
            if images and names.isdisjoint(class_names) and parents.isdisjoint(inner for inner, _ in images):
                yield folder.name, [f"{inner}/{name}" for inner, name in images]

    def _is_there(self, text: str, folder: PurePosixPath | str = "") -> bool:
        path = str(PurePosixPath(folder, text.strip().replace("\\", "/")))
        try:
            return os.path.isfile(self.root / (self._beside.spelling(path) or path))
        except ValueError:  # a zero byte
            return False

    def _search(self, named: Iterable[Named]) -> tuple[dict[str, _Place], dict[str, list[_Place]]]:
        """The place of each name that is that of one file, and the places of those that may be several. Others are in neither."""
        found: dict[str, _Place] = {}
        several: dict[str, list[_Place]] = {}
        for text, split in named:
            places = self._places(text)
            if len(places) > 1:
                said = {place: split_of(place.folder) for place in places}
                for wanted in (split, None):
                    if fitting := [place for place in places if said[place] == wanted]:
                        places = fitting
                        break
            if len(places) == 1:
                found[text] = places[0]
            elif places:
                several[text] = places
        return found, several

    def _places(self, text: str) -> list[_Place]:
        if self._index is None:
            self._index = _Index.of(self.base / self._inside)
        folder, name = map(_composed, _parts(text))
        added = [_Place(place.folder, self._suffix) for place in self._index.by_name.get(name + self._suffix, ())] if self._suffix else []
        if self._suffix and (added or not name.endswith(self._suffix)):
            places = added
        else:
            places = self._index.by_name.get(name) or self._index.by_stem.get(name) or []
        if folder and not self._leads_elsewhere(text):
            places = [place for place in places if _composed(f"/{place.folder}").endswith(f"/{folder}")]
        return places

    def _leads_elsewhere(self, text: str) -> bool:
        """Whether the folders of a path are those of another machine, and do not count."""
        return self._foreign and (text.strip()[:1] in "/\\" or ":" in text or ".." in text)

    def _path(self, text: str, place: _Place) -> str:
        return "/".join(part for part in (self._inside, place.folder, _parts(text)[1] + place.added) if part)

    def _ambiguous(self, file: str, several: Mapping[str, list[_Place]]) -> InputError:
        text, places = next(iter(several.items()))
        files = [self._path(text, place) for place in places]
        more = f", and so could {len(several) - 1:,} others" if len(several) > 1 else ""
        in_folders = list(dict.fromkeys(str(PurePosixPath(self._inside, place.folder)) for place in places))
        endings = list(dict.fromkeys(os.path.splitext(each)[1] for each in files))
        choices = [f"data.images={each}" for each in in_folders] if len(in_folders) > 1 else [f"data.suffix={each}" for each in endings]
        return InputError(
            Problem(f"the image {text!r:.200} could be any of {len(files)} files: {some(files)}{more}", place=shown(file)),
            hint=f"Say which: {' or '.join(choices[:5])}",
        )

    def _say_nothing_found(self, file: str, first: Sequence[str]) -> None:
        where = shown(self.base / self._inside)
        ending = f" with {self._suffix!r} added" if self._suffix else ""
        if self._asked:
            raise InputError(
                Problem(f"none of its images is in {where}{ending}: {some([repr(text)[:100] for text in first])}", place=shown(file)),
                hint="data.images is the folder that they lie in or below, and data.suffix what the names in the table lack.",
            )
        self.remarks.append(
            f"none of the images of {shown(file)} is in {where}: data.images names the folder of images, data.suffix what their names lack"
        )


def image_files(root: Path) -> Iterator[tuple[str, str]]:
    """The folder and the name of every image below `root`, folder by folder; those that cannot be looked at are passed over."""
    waiting = [""]
    seen: set[str] = set()
    while waiting and len(seen) < _MANY_FOLDERS:
        folder = waiting.pop()
        real = os.path.realpath(root / folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            listing = list_folder(root / folder)
        except OSError:
            continue
        yield from ((folder, name) for name in listing.images if is_text(name))
        waiting += reversed([f"{folder}/{name}" if folder else name for name in listing.folders if is_text(name)])


def _images_folder(root: Path, images: str) -> Path:
    """The folder `data.images`, relative to the table or to the working folder. Raises InputError if there is none."""
    text = Path(os.path.expanduser(images))
    for folder in (root / text, Path.cwd() / text):
        if folder.is_dir():
            return folder
    there = [folder.name for folder in folders(root)]
    holds = f"; {shown(root)} holds {some(there)}" if there else ""
    raise InputError(f"data.images: there is no folder {shown(images)}{holds}", hint="It is relative to the folder of the table.")


def _composed(name: str) -> str:
    """A name in one spelling of its accents."""
    return unicodedata.normalize("NFC", name)


def _with_dot(suffix: str) -> str:
    """ "jpg" is ".jpg"; other suffixes are added as they are."""
    return f".{suffix}" if f".{suffix.lower()}" in IMAGE_EXTENSIONS else suffix


def _is_bare(text: str) -> bool:
    """Whether it is a name that could be a file's, without folders."""
    return is_text(text) and text.strip() not in ("", ".", "..") and not any(each in text for each in "/\\:")


def _parts(text: str) -> tuple[str, str]:
    """The folders that a path has, without a slash at either end, and the name."""
    folder, _, name = text.strip().replace("\\", "/").rpartition("/")
    return folder.removeprefix("./").strip("/"), name


def _listed(places: Iterable[_Place]) -> str:
    """As in "in train/ with .jpg added"."""
    times = Counter(places)
    said = [f"in {place.folder or '.'}/" + (f" with {place.added} added" if place.added else "") for place in times]
    return some(said, 3)
