"""Data other than a run's own: read for it, their classes matched with its own, their images with those that it learnt from."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fieldmark.answering.predictor import Predictor
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import nearest, some, typed
from fieldmark.core.sources import Sources
from fieldmark.datasets.content import scan
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset, at_level
from fieldmark.datasets.loading import LoadedData, read_as, reading
from fieldmark.datasets.pixel_cache import default_cache_dir
from fieldmark.datasets.split_file import read_split
from fieldmark.evaluation.run import Run

ALL = "all"
"""What stands for the split of data without splits."""
_SEEN = "other data are seen and answered as the run was trained; settings can only say how they are read"


def read_other(predictor: Predictor, data: str | Path, console: Console, settings: Sequence[str]) -> LoadedData:
    """Data whose classes are all known to the run or bundle, by the names that it has for them.

    `settings` are recipe keys that say how the data are read. Raises InputError.
    """
    own = predictor.recipe.data if isinstance(predictor, Run) else None
    dataset = read_as(data, reading(settings, _SEEN), console, own=own)
    if own is not None and own.level is not None and not set(dataset.class_names) <= set(predictor.class_names):
        dataset = at_level(dataset, own.level)
    dataset = replace(dataset, class_names=_as_known(dataset, predictor))
    with console.progress("reading", "files") as advance:
        content = scan(dataset, advance, default_cache_dir())
    loaded = LoadedData(dataset, content).without_empty(predictor.preprocess.margin)
    console.say(*(f"left out: {dataset.paths[row]}: {reason}" for row, reason in loaded.content.problems.items()))
    return loaded


def _as_known(dataset: Dataset, predictor: Predictor) -> tuple[str, ...]:
    """The name that the run or bundle has for each class: the same text, or the same number, so that 7 is 07.

    Raises InputError for classes that it does not have.
    """
    known: dict[str, str] = {}
    for key in (_as_number, _as_text):
        for name in predictor.class_names:
            known[key(name)] = name
    names = [known.get(_as_text(name)) or known.get(_as_number(name)) for name in dataset.class_names]
    unknown = [name for name, found in zip(dataset.class_names, names, strict=True) if found is None]
    if unknown:
        several, them = ("a class", "it") if len(unknown) == 1 else (f"{len(unknown):,} classes", "them")
        alike = {name: nearest(_as_plain(name), map(_as_plain, predictor.class_names), likeness=0.8) for name in unknown}
        own = {_as_plain(name): name for name in predictor.class_names}
        listed = [name + (f" (did you mean {own[alike[name][0]]!r}?)" if alike[name] else "") for name in unknown]
        raise InputError(
            f"{dataset.name} has {several} that {predictor.path} was not trained on: {some(listed, 10)}",
            hint=f"Its classes are {some(predictor.class_names, 10)}. Classes are matched by name: rename what is one of these, and leave "
            f"out what is not. How often the run sees that it does not know {them}: fieldmark evaluate {typed(predictor.path)} "
            f"--unknown FOLDER. To add {them}, train again with model.weights={typed(predictor.path)}.",
        )
    twice, times = Counter(names).most_common(1)[0] if names else ("", 1)
    if times > 1:
        listed = [name for name, found in zip(dataset.class_names, names, strict=True) if found == twice]
        raise InputError(f"{dataset.name} has several classes that {predictor.path} knows as one, {twice!r}: {some(listed)}")
    return tuple(name for name in names if name is not None)


def _as_text(name: str) -> str:
    """What names are matched by: an accented name may be spelt in different code points."""
    return unicodedata.normalize("NFC", name)


def _as_plain(name: str) -> str:
    """What likely misspellings are found by: in lower case, with blanks for hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", _as_text(name)).strip().lower()


def _as_number(name: str) -> str:
    """A whole number without zeros in front and without decimals, any other name as it is."""
    return str(int(number[1])) if (number := re.fullmatch(r"([0-9]{1,18})(\.0+)?", name)) else name


def predictions_name(run: Run, data: str | Path, dataset: Dataset) -> str:
    """What the predictions of these data are called: the dataset's name, and a number behind it where others have that name.

    It is kept in the run: the same data get the same name again.
    """
    file = run.folder.sources_file
    sources = Sources.read(file).sources if file.is_file() else {}
    source = str(data) if data == "birds" or str(data).startswith("hf:") else str(Path(data).expanduser().resolve())
    names = (dataset.name if number == 1 else f"{dataset.name}-{number}" for number in itertools.count(1))
    name = next(name for name in names if sources.get(name) == source or (name not in sources and not _is_taken(run, name)))
    if name not in sources:
        Sources(sources={**sources, name: source}).write(file)
    return name


def _is_taken(run: Run, name: str) -> bool:
    """Whether there are predictions of that name, which an earlier version saved without saying of what."""
    saved = re.compile(rf"{re.escape(name)}-({'|'.join((*SPLITS, ALL, UNLABELLED))})(-.*)?[.]npz")
    return any(saved.fullmatch(path.name) for path in run.folder.predictions.glob("*.npz"))


@dataclass(frozen=True, eq=False)
class Familiar:
    """Which of other data's images lie, byte for byte, in the run's own data: bool (n,) of each.

    `whole`: whether all of the run's own test is among them.
    """

    train: np.ndarray
    val: np.ndarray
    whole: bool

    @property
    def unseen(self) -> np.ndarray:
        """Those that the run has not learnt from."""
        return ~(self.train | self.val)


def familiar(run: Run, hashes: Sequence[str]) -> Familiar:
    """By the hashes of images' bytes."""
    stored = read_split(run.folder.split_file)
    own: dict[str, set[str]] = {split: set() for split in SPLITS}
    for digest, split in zip(stored["hash"], stored["split"], strict=True):
        if digest and split in own:
            own[split].add(digest)
    train, val = (np.array([digest in own[split] for digest in hashes], bool) for split in ("train", "val"))
    return Familiar(train, val & ~train, bool(own["test"]) and own["test"] <= set(hashes))
