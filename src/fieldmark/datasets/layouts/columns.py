"""Which column of a table is what: by its name, or as `data.columns` says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest

_NEEDED = ("path", "label", "image")
KEYS = ("path", "label", "split", "group", "parents", "box")
_EXAMPLE = "data.columns='path=image,label=species,parents=genus family'"
_OTHER_COMMA = re.compile(rf"\s*;\s*(?=(?:{'|'.join((*KEYS, 'image'))})\s*=)")
"""A semicolon where a comma should be: before a key."""
_IDS = (
    *("image_id", "img_id", "imageid", "image_name", "img_name", "imagename", "image_file", "images", "filenames", "file_id", "id_code"),
    *("photo_id", "photo", "picture", "id", "name"),
)
"""What else a column of paths may be called, the likeliest first, where no name in _KNOWN is there."""
_NUMBERS = ("labels", "label_id", "class_id", "classid", "category_id", "target_id", "diagnosis", "dx", "cultivar")
"""The same for labels."""
_OTHERS = {"width", "height", "text", "caption", "captions", "description", "prompt", "md5", "sha256", "hash", "url"}
_KNOWN = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path"),
    "label": ("label", "label_name", "class", "class_name", "category", "category_name", "target", "species", "breed"),
    "split": ("split", "set", "subset", "partition"),
    "group": (
        *("group", "group_id", "individual", "individual_id", "specimen", "specimen_id"),
        *("observation", "observation_id", "sequence", "sequence_id"),
    ),
    "parents": (
        *("kingdom", "phylum", "order", "family", "subfamily", "tribe", "genus"),
        *("superclass", "supercategory", "parent", "make", "manufacturer", "brand", "model_line"),
    ),
}
_WIDTHS = ("width", "w")
_BOXES = (
    ("left", "top", "right", "bottom"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "width", "height"),
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
)
_PREFIXES = ("", "bbox_", "box_")


@dataclass(frozen=True)
class Columns:
    """Positions of columns in a header; None for what it does not have.

    `box` are the object's left and top edge, and its right and bottom edge or, with `sized`, its width and height. `asked` are keys that
    were asked for and not found by name; one that was declined has no column.
    """

    header: tuple[str, ...]
    path: int | None
    label: int | None
    split: int | None
    group: int | None
    parents: tuple[int, ...]
    box: tuple[int, ...] | None
    sized: bool
    asked: frozenset[str]

    def __str__(self) -> str:
        """As `data.columns` would say it."""
        found = {"path": self.path, "label": self.label, "split": self.split, "group": self.group, "parents": self.parents, "box": self.box}
        several = {key: (value,) if isinstance(value, int) else value or () for key, value in found.items()}
        return ",".join(f"{key}={' '.join(self.header[column] for column in value)}" for key, value in several.items() if value)


def normal(name: str) -> str:
    """A column's name as names are compared: "Class-Name" and "class name" are "class_name"."""
    return re.sub(r"[\s-]+", "_", name.strip()).lower()


def parse(text: str) -> dict[str, str]:
    """From "label=species,box=x1 y1 x2 y2" to its keys and values. Several names of one key are separated by spaces or "+".

    An empty value, as in "group=", says that no column is that; path and label need one.

    Raises InputError if that is not its form, or a key is neither one of KEYS nor "image", the images of a Hugging Face dataset.
    """
    asked: dict[str, str] = {}
    problems = []
    if _OTHER_COMMA.search(text):
        raise InputError(
            f"data.columns: {text!r} has a semicolon where a comma should be", hint=f"data.columns='{_OTHER_COMMA.sub(',', text)}'"
        )
    for entry in text.split(","):
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not (key and equals and (value or key not in _NEEDED)):
            problems.append(f"data.columns: {entry.strip()!r} should be a key, an equals sign and the name of a column")
        elif key in asked:
            problems.append(f"data.columns says twice what {key} is: {asked[key]!r} and {value!r}")
        asked[key] = value
    if not problems:
        problems = _unknown(key for key in asked if key != "image")
    if problems:
        raise InputError(*problems, hint=f"For example {_EXAMPLE}; the keys are {', '.join(KEYS)}.")
    return asked


def find(file: str, header: Sequence[str], asked: Mapping[str, str] | None = None, keys: Sequence[str] = KEYS) -> Columns:
    """The columns for `keys`: those in `asked` (key → name, or names separated by spaces, commas or "+"), and others by their names.

    Raises InputError if a key or column that was asked for is not there, or several columns could be one thing.
    """
    return _Search(file, header, asked or {}, keys).columns()


def present(header: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """Of what was asked for, what a table with this header has."""
    return {key: value for key, value in asked.items() if all(_positions(header, name) for name in _names(key, value))}


def has(header: Sequence[str], asked: Mapping[str, str], *keys: str) -> bool:
    """Whether each of these keys has at least one column, as far as the header says."""
    names = {normal(name) for name in header}
    there = present(header, asked)
    return all(key in there if key in asked else not names.isdisjoint(_KNOWN[key]) for key in keys)


def may_have(header: Sequence[str], asked: Mapping[str, str], *keys: str) -> bool:
    """Whether each of these keys, path or label, may have a column, by a name that could as well mean something else."""
    try:
        found = find("", header, present(header, asked))
    except InputError:
        return False
    return all({"path": found.path, "label": found.label}[key] is not None for key in keys)


class _Search:
    def __init__(self, file: str, header: Sequence[str], asked: Mapping[str, str], keys: Sequence[str]):
        self.file = file
        self.keys = keys
        self.header = tuple(header)
        self.normals = [normal(name) for name in header]
        self.asked = asked
        self.problems = _unknown(asked)
        self.hints: dict[str, None] = {}
        self.named = {key: self._asked_for(key) for key in KEYS if key in asked}

    def columns(self) -> Columns:
        path, label, split, group = (self._one(key) for key in ("path", "label", "split", "group"))
        path = self._likely(_IDS, label) if path is None and self._open("path") else path
        label = self._likely(_NUMBERS, path) if label is None and self._open("label") else label
        label = self._last_left(path) if label is None and self._open("label") else label
        others = {column for column in (path, label, split, group) if column is not None}
        parents = self.named["parents"] if "parents" in self.named else self._by_name("parents", others)
        box = self.named["box"] if "box" in self.named else self._box()
        if self.asked.get("box") and len(_names("box", self.asked["box"])) != 4:
            self.problems.append(f"data.columns: box={self.asked['box']} should be the names of four columns of {self.file}")
        self._distinct([self.normals[column] for column in parents])
        if "box" not in self.named:
            self._distinct([name for name in self.normals if name in {self.normals[column] for column in box}])
        if self.problems:
            keys = f"data.columns=KEY=COLUMN,KEY=COLUMN says which are which; the keys are {', '.join(KEYS)}."
            raise InputError(*self.problems, hint=" ".join(self.hints) or keys)
        sized = len(box) == 4 and _without_prefix(self.normals[box[2]]) in _WIDTHS
        return Columns(self.header, path, label, split, group, tuple(parents), tuple(box) or None, sized, frozenset(self.asked))

    def _asked_for(self, key: str) -> list[int]:
        positions = []
        for name in _names(key, self.asked[key]):
            found = _positions(self.header, name)
            if not found:
                self.problems.append(
                    f"{self.file} has no column {name!r}{suggest(name, self.header)}; its columns are {shown(self.header)}"
                )
            if len(found) > 1:
                self._distinct([name] * len(found))
            positions += found[:1]
        return positions

    def _by_name(self, key: str, taken: set[int]) -> list[int]:
        if key not in self.keys:
            return []
        elsewhere = {column for columns in self.named.values() for column in columns} | taken
        return [column for column, name in enumerate(self.normals) if name in _KNOWN[key] and column not in elsewhere]

    def _one(self, key: str) -> int | None:
        if key in self.asked:
            return next(iter(self.named[key]), None)
        found = self._by_name(key, set())
        if len(found) > 1:
            names = [self.header[column] for column in found]
            self.problems.append(f"{self.file}: {len(found)} columns could be the {key}: {shown(names)}")
            parents = f",parents={names[0]}" if key == "label" else ""
            self.hints[f"Say which: data.columns='{key}={names[-1]}{parents}', for example."] = None
        return found[0] if found else None

    def _open(self, key: str) -> bool:
        """Whether it is looked for, and nothing is said of it."""
        return key in self.keys and key not in self.asked

    def _likely(self, names: Sequence[str], taken: int | None) -> int | None:
        elsewhere = {column for columns in self.named.values() for column in columns} | {taken}
        free = [name if column not in elsewhere else None for column, name in enumerate(self.normals)]
        return next((free.index(name) for name in names if name in free), None)

    def _last_left(self, path: int | None) -> int | None:
        """The only column beside the paths, if its name says nothing else. One called id is a label only after them: before, it numbers."""
        others = [column for column, name in enumerate(self.normals) if name and column != path]
        if path is None or len(others) != 1:
            return None
        name = self.normals[others[0]]
        known = {each for key, names in _KNOWN.items() if key != "label" for each in names} | _OTHERS
        return others[0] if name not in known and (name not in _IDS or others[0] > path) else None

    def _box(self) -> list[int]:
        if "box" not in self.keys:
            return []
        for names in _BOXES:
            for prefix in _PREFIXES:
                if all(prefix + name in self.normals for name in names):
                    return [self.normals.index(prefix + name) for name in names]
        return []

    def _distinct(self, names: list[str]) -> None:
        for name in sorted(set(names)):
            if names.count(name) > 1:
                self.problems.append(f"{self.file}: {names.count(name)} columns are called {name}")
                self.hints["Rename all but one."] = None


def shown(names: Sequence[str], limit: int = 30) -> str:
    """Names for a message."""
    listed = ", ".join(name if len(name) <= 100 else f"{name[:100]}…" for name in names[:limit] if name)
    return listed + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


def _names(key: str, value: str) -> list[str]:
    return [name for name in (re.split(r"[\s,+]+", value) if key in ("parents", "box") else [value]) if name]


def _positions(header: Sequence[str], name: str) -> list[int]:
    """The columns that are called this, exactly if there are any, otherwise as names are compared."""
    exact = [column for column, there in enumerate(header) if there and there == name]
    return exact or [column for column, there in enumerate(header) if there and normal(there) == normal(name)]


def _unknown(keys: Iterable[str]) -> list[str]:
    return [f"data.columns has no key {key!r}{suggest(key, KEYS)}; its keys are {', '.join(KEYS)}" for key in keys if key not in KEYS]


def _without_prefix(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES[1:] if name.startswith(prefix)), name)
