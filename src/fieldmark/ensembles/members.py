"""The runs of an ensemble: whether they can be combined, and their predictions of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import distinct_names
from fieldmark.core.recipe.load import with_settings
from fieldmark.core.recipe.values import identity
from fieldmark.datasets.split_file import read_split
from fieldmark.evaluation.evaluate import require_finished
from fieldmark.evaluation.run import Run
from fieldmark.models.weights_file import recorded
from fieldmark.scoring.predictions import Predictions

_Image = tuple[str, str, str]
"""Hash, label and split."""


@dataclass(frozen=True, eq=False)
class Members:
    """Finished runs with the same classes, images, labels and test.

    `inputs` holds the number of the input that each run belongs to. If all were trained on the same split, each run is an input; if they
    are the folds of one recipe or of several (`folds`), the folds of a recipe are one input.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    inputs: tuple[int, ...]
    folds: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runs[0].class_names

    @property
    def val_learnt(self) -> bool:
        """Whether some of them were trained on images of val: refitted, or folds of which another left it out."""
        return self.folds or any(run.recipe.train.refit for run in self.runs)

    def identical(self) -> list[str]:
        """A sentence for each of them whose weights are bit for bit those of an earlier one."""
        first: dict[str, str] = {}
        said = []
        for run, name in zip(self.runs, self.names, strict=True):
            earlier = first.setdefault(recorded(run.folder.best_weights).sha256, name)
            if earlier != name:
                same = f"The weights of {name} are bit for bit those of {earlier}"
                said.append(f"{same}: it is the same network twice, which counts twice and adds nothing. Another train.seed makes another.")
        return said

    def groups(self, ids: np.ndarray) -> np.ndarray:
        """Number of each image's group, int64 (n,); without groups in the dataset, each image has its own."""
        stored = read_split(self.runs[0].folder.split_file)
        if "group" not in stored:
            return np.arange(len(ids))
        by_path = dict(zip(stored["path"], stored["group"], strict=True))
        return np.array([by_path[each] for each in ids.tolist()], np.int64)

    def predictions(self, split: str) -> list[Predictions]:
        """Each run's predictions of a split from the end of its training, without features."""
        return [self.predictions_of(index, split) for index in range(len(self.runs))]

    def predictions_of(self, index: int, split: str) -> Predictions:
        run = self.runs[index]
        found = Predictions.load(run.folder.predictions / f"{split}.npz", features=False)
        if found.class_names != self.class_names:
            raise InputError(f"{run.path} has predictions for other classes", hint="Evaluate it again.")
        return found

    def unseen(self) -> list[Predictions]:
        """For each input, predictions of images that its networks were not trained on: val, or each fold by the run that left it out."""
        found = self.predictions("val")
        if not self.folds:
            return found
        return [
            _together([each for each, belongs in zip(found, self.inputs, strict=True) if belongs == wanted])
            for wanted in range(max(self.inputs) + 1)
        ]


def open_members(paths: Sequence[str | Path]) -> Members:
    """Raises InputError, with all reasons, if the runs cannot be combined."""
    if len(paths) < 2:
        raise InputError("an ensemble needs at least two runs", hint="fieldmark ensemble RUN RUN... --method mean --out RUN")
    runs: list[Run] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            run = Run.load(path)
            require_finished(run)
            run.folder.summary()  # raises if it is damaged
            runs.append(run)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems, hint="An ensemble is made of finished runs; `fieldmark resume RUN` continues one.")
    if repeated := [path for path, times in Counter(run.path.resolve() for run in runs).items() if times > 1]:
        raise InputError(*(f"{path} is named more than once" for path in repeated))
    if nested := [run for run in runs if run.ensemble is not None]:
        raise InputError(*(f"{run.path} is an ensemble itself" for run in nested), hint="Name its members instead.")
    if unlike := [*_other_classes(runs), *_boxes(runs)]:
        raise InputError(*unlike)
    inputs, folds = _inputs(runs)
    return Members(tuple(runs), tuple(distinct_names([run.path for run in runs])), inputs, folds)


def _other_classes(runs: Sequence[Run]) -> list[str]:
    first = runs[0]
    problems = []
    for run in runs[1:]:
        if run.class_names == first.class_names:
            continue
        only = sorted(set(first.class_names) ^ set(run.class_names))
        such = f", such as {only[0]!r}, which one of them lacks" if only else ", in another order"
        problems.append(f"{first.path} and {run.path} were trained on different classes{such}")
    return problems


def _boxes(runs: Sequence[Run]) -> list[str]:
    boxed = [run.preprocess.margin is not None for run in runs]
    if all(boxed) or not any(boxed):
        return []
    return [f"{runs[boxed.index(True)].path} was trained on images cropped to boxes, and {runs[boxed.index(False)].path} on whole images"]


def _inputs(runs: Sequence[Run]) -> tuple[tuple[int, ...], bool]:
    """Which input each run belongs to, and whether they are folds. Raises InputError if they were trained on different splits."""
    tables = [_images(run) for run in runs]
    differences = [_difference(tables[0], table) for table in tables]
    if not any(differences):
        return tuple(range(len(runs))), False
    if all(run.recipe.data.folds for run in runs) and all(_same_but_for_folds(tables[0], table) for table in tables):
        return _folds(runs), True
    problems = [
        f"{runs[0].path} and {run.path} were trained on different splits: {difference}"
        for run, difference in zip(runs, differences, strict=True)
        if difference
    ]
    hint = "What one of them was trained on may be what another is tested on. Train them on the same data with the same data.split_seed."
    raise InputError(*problems, hint=hint)


def _images(run: Run) -> dict[str, _Image]:
    stored = read_split(run.folder.split_file)
    columns = (stored[name] for name in ("hash", "label", "split"))
    return dict(zip(stored["path"], zip(*columns, strict=True), strict=True))


def _difference(one: dict[str, _Image], other: dict[str, _Image]) -> str:
    """In words; empty if there is none."""
    if lonely := sorted(one.keys() ^ other.keys()):
        return f"{len(lonely):,} images are known to only one of them, such as {lonely[0]}"
    for column, what in enumerate(("have other bytes", "have another label", "are in another split")):
        changed = [path for path in one if one[path][column] != other[path][column]]
        if changed:
            such = changed[0]
            values = "" if column == 0 else f" ({one[such][column] or 'none'} and {other[such][column] or 'none'})"
            return f"{len(changed):,} images {what}, such as {such}{values}"
    return ""


def _same_but_for_folds(one: dict[str, _Image], other: dict[str, _Image]) -> bool:
    """Whether the images differ at most in being in train or val."""
    pooled = ({path: (*image[:2], {"val": "train"}.get(image[2], image[2])) for path, image in each.items()} for each in (one, other))
    return next(pooled) == next(pooled)


def _folds(runs: Sequence[Run]) -> tuple[int, ...]:
    """The number of each run's recipe, which is compared without fold and seed. Raises InputError if folds are missing."""
    recipes = [str(identity(with_settings(run.recipe, {"data.fold": 0, "train.seed": 0}))) for run in runs]
    inputs = tuple(list(dict.fromkeys(recipes)).index(recipe) for recipe in recipes)
    problems = []
    for wanted in sorted(set(inputs)):
        chosen = [run for run, belongs in zip(runs, inputs, strict=True) if belongs == wanted]
        count = chosen[0].recipe.data.folds or 0
        held = Counter(run.recipe.data.fold for run in chosen)
        problems += [f"no run leaves out fold {fold} of the {count} folds of {chosen[0].path}" for fold in range(count) if fold not in held]
        problems += [f"{times} runs with the recipe of {chosen[0].path} leave out fold {fold}" for fold, times in held.items() if times > 1]
    if problems:
        raise InputError(*problems, hint="An ensemble of folds takes one run for each fold of a recipe.")
    return inputs


def _together(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different images joined, sorted by id."""
    names = ("ids", "labels", "logits", *(["groups"] if parts[0].groups is not None else []))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    features = np.zeros((len(joined["ids"]), 0), np.float32)
    return Predictions(**joined, features=features, class_names=parts[0].class_names).take(np.argsort(joined["ids"], kind="stable"))
