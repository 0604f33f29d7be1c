"""Files beside images that say what is in them, and that no layout could read by itself: what they are, and how they are used."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.datasets.image_files import is_hidden
from fieldmark.datasets.layouts import columns
from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.folder_survey import Survey, last
from fieldmark.datasets.layouts.layout import Source
from fieldmark.datasets.layouts.question import Choice, command
from fieldmark.datasets.layouts.records import Table, is_table, open_table
from fieldmark.datasets.layouts.table import LAYOUT as TABLE
from fieldmark.datasets.layouts.table_images import ImageFinder

_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_TEXTS = (".json", ".jsonl", ".xml", ".txt", ".yaml", ".yml", ".md5")
_MANY_FILES = 30
_SAMPLE = 20
_RECORDS = 20_000
_TEXT_LIMIT = 64 * 2**20
_NAMED = 0.8


@dataclass(frozen=True)
class LabelFile:
    """What a file says of the images, and the command that trains with it if one does."""

    what: str
    choice: Choice | None = None


def label_files(survey: Survey) -> list[LabelFile]:
    """Those in the root, in its folders without images, and in the folder above if the root itself holds the images."""
    found = [label for file in _files(survey) if (label := _look(survey, file)) is not None]
    return [label for label in found if label.choice is not None] or found


def _files(survey: Survey) -> Iterator[Path]:
    without_images = [survey.root / path for path in survey.below("") if path and path.count("/") < 2 and not survey.count(path)]
    above = [survey.root.parent] if survey.images_in("") else []
    for folder in islice([survey.root, *without_images, *above], _MANY_FILES):
        try:
            files = sorted(entry.path for entry in os.scandir(folder) if entry.is_file() and not is_hidden(entry.name))
        except OSError:
            continue
        yield from (Path(file) for file in files[:_MANY_FILES])


def _look(survey: Survey, file: Path) -> LabelFile | None:
    suffix = file.suffix.lower()
    if is_table(file):
        return _table(survey, file)
    if suffix in _SPREADSHEETS:
        return LabelFile(f"{shown(file.name)} is a spreadsheet: save it as a CSV file with a column of file names and one of labels")
    if suffix in _TEXTS and _names_images(survey, file):
        how = "save what it says as a CSV file with the columns path and label"
        return LabelFile(f"{shown(file.name)} names the images, in a form that is not known here: {how}")
    if suffix == ".xml" or (suffix == ".txt" and file.parent != survey.root):
        return _one_for_each(survey, file)
    return None


def _names_images(survey: Survey, file: Path) -> bool:
    """Whether most of a sample of the images are named in a text."""
    stems = _some_stems(survey)
    try:
        if not stems or file.stat().st_size > _TEXT_LIMIT:
            return False
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return len(stems) > 2 and sum(stem in text for stem in stems) >= _NAMED * len(stems) and not _is_checksums(text)


def _is_checksums(text: str) -> bool:
    words = [line.split()[0] for line in text.splitlines()[:_SAMPLE] if line.split()]
    return all(len(word) >= 32 and all(letter in "0123456789abcdefABCDEF" for letter in word) for word in words)


def _one_for_each(survey: Survey, file: Path) -> LabelFile | None:
    """A folder of annotations, a file for each image; said once, of its first file."""
    siblings = sorted(path.name for path in file.parent.glob(f"*{file.suffix}"))
    if not siblings or siblings[0] != file.name or file.stem not in {_stem(path) for path in _images(survey)}:
        return None
    kind = "Pascal VOC" if file.suffix.lower() == ".xml" else "YOLO"
    how = "they say where objects are; a classifier needs one class an image, in class folders or a table with the columns path and label"
    return LabelFile(f"{shown(file.parent.name)} holds {len(siblings):,} {file.suffix} files named like the images, as {kind} has: {how}")


def _images(survey: Survey) -> Iterator[str]:
    return (path for folder in survey.below("") for path in survey.images_in(folder))


def _some_stems(survey: Survey) -> list[str]:
    paths = list(islice(_images(survey), _RECORDS))
    return [_stem(path) for path in paths[:: max(1, len(paths) // _SAMPLE)]]


def _stem(path: str) -> str:
    return os.path.splitext(last(path))[0]


def _table(survey: Survey, file: Path) -> LabelFile | None:
    """A table with a column that names images, if its columns are not what their names say."""
    table = open_table(Annotations(file.parent), file.name)
    names = [name for name in table.header if name]
    if table.holds_images or len(names) < 2 or "submission" in file.name.lower():
        return None
    records = [texts for _, texts in islice(table.rows([position for position, name in enumerate(table.header) if name]), _RECORDS)]
    sample = records[:: max(1, len(records) // _SAMPLE)]
    images = _images_of(survey, file)
    finder = ImageFinder(file.parent, images)
    path = next((position for position in range(len(names)) if finder.resolves([texts[position] for texts in sample], "")), None)
    if path is None:
        return None
    listed = f"{shown(file.name)} lists the images in its column {names[path]}"
    if one_hot := _one_hot(names, records, path):
        how = "make one column of them, with the name of the class, and name it label"
        return LabelFile(f"{listed}, and has a column of 0 and 1 for each class ({some(one_hot)}): {how}")
    for label in _likely_labels(names, records, path):
        if choice := _choice(table, file, images, names[path], names[label]):
            said = "has" if columns.has([names[label]], {}, "label") else "could have"
            return LabelFile(f"{listed}, and {said} their labels in {names[label]} (its columns are {columns.shown(names)})", choice)
    return LabelFile(f"{listed}, and no column that could be labels (its columns are {columns.shown(names)})")


def _images_of(survey: Survey, file: Path) -> str | None:
    """`data.images` for a table that lies elsewhere than above the images, as a path from the working folder."""
    return None if file.parent in (survey.root, survey.root.parent) else str(survey.root)


def _likely_labels(names: Sequence[str], records: Sequence[tuple[str, ...]], path: int) -> list[int]:
    """Positions of columns that could be labels, the likeliest first: by name, then few different words, then few different numbers."""
    by_name: list[int] = []
    words: list[int] = []
    numbers: list[int] = []
    for position, name in enumerate(names):
        values = {texts[position].strip() for texts in records}
        if position == path or not 1 < len(values) <= max(2, len(records) // 2):
            continue
        if columns.has([name], {}, "label"):
            by_name.append(position)
        else:
            (numbers if all(map(_is_number, values)) else words).append(position)
    return [*by_name, *words, *numbers]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True


def _one_hot(names: Sequence[str], records: Sequence[tuple[str, ...]], path: int) -> list[str]:
    """The names of the columns of which each record has one 1, all others 0; none if they are not so."""
    positions = [
        position for position in range(len(names)) if position != path and {_bit(texts[position]) for texts in records} <= {"0", "1"}
    ]
    single = all(sum(_bit(texts[position]) == "1" for position in positions) == 1 for texts in records)
    return [names[position] for position in positions] if len(positions) > 1 and single else []


def _bit(text: str) -> str:
    return text.strip().removesuffix(".0")


def _choice(table: Table, file: Path, images: str | None, path: str, label: str) -> Choice | None:
    """The command that reads the table with these columns, which was tried; None if none does."""
    whole = {"path": path, "label": label}
    for keys in ((), ("path",), ("label",), ("path", "label")):
        asked = {key: whole[key] for key in keys}
        text = ",".join(f"{key}={name}" for key, name in asked.items())
        try:
            found = columns.find(table.file, table.header, columns.parse(text) if text else {})
            if (found.path, found.label) != (table.header.index(path), table.header.index(label)):
                continue
            dataset = TABLE.read(Source(file, asked, images))
        except InputError:
            continue
        settings = [shlex.quote(f"data.images={images}")] if images is not None else []
        settings += [shlex.quote(f"data.columns={text}")] if text else []
        return Choice(command(file, *settings), f"{len(dataset.class_names):,} classes: {some(dataset.class_names, 4)}")
    return None
