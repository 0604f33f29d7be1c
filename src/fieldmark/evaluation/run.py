"""A run: after training it is the only argument that a command needs. It is one trained network, or an ensemble of several."""

from __future__ import annotations

import glob
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fieldmark.core.console import Console
from fieldmark.core.cores import available_cores
from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.dataset import Level
from fieldmark.datasets.loading import LoadedData
from fieldmark.evaluation.inference import Normalisation, infer
from fieldmark.evaluation.split import open_split
from fieldmark.models.arithmetic import Arithmetic
from fieldmark.models.device import choose_device, keep_freed_memory, set_threads
from fieldmark.models.factory import Classifier, build_model
from fieldmark.models.weights import load_weights, read_weights
from fieldmark.runtime.decode import IMAGE_EXTENSIONS, UnreadableImage
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Combination, combined, load_combination
from fieldmark.scoring.decisions import Decisions, load_decisions
from fieldmark.scoring.predictions import Predictions, softmax
from fieldmark.scoring.rejection_scores import OF_LOGITS, Score, fit_score, load_score

Boxes = Mapping[str, Sequence[float]]
Crop = Literal["none", "box"]
Inferred = tuple[np.ndarray, np.ndarray]  # logits float32 (n, C) and features float32 (n, D)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one image.

    `classes` and `probabilities` (calibrated, float32) are the likeliest, best first; both are empty where `note` says why there is no
    answer. `note` may also say how the image was seen. Where there is no answer or the run was not calibrated, what follows is None or
    empty.

    unknown: the image is unlike those of val, and is probably of none of the classes.
    among: the classes of its conformal set, likeliest first.
    coarser: by the name of each level with back-off, what is answered there with the promised precision: the likeliest class, the likeliest
        parent, or "" for nothing.
    """

    path: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    note: str = ""
    unknown: bool | None = None
    among: tuple[str, ...] = ()
    coarser: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str | None:
        return self.classes[0] if self.classes else None


@dataclass(frozen=True, eq=False)
class _Answer:
    """probabilities: float32 (C,); among: bool (C,), which classes are in the set; unknown and coarser: as in Prediction."""

    probabilities: np.ndarray
    unknown: bool | None
    among: np.ndarray
    coarser: Mapping[str, str]


class Run:
    """A finished run, ready to be used: `Run.load(path).predict(images)`."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.recipe: Recipe = folder.recipe()

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Raises InputError where `path` is not a run or has no trained weights yet."""
        run = cls(RunFolder.open(path))
        if not run.is_combined and not run.folder.best_weights.is_file():
            raise InputError(f"{path} has no trained weights yet", hint=f"fieldmark resume {path}")
        return run

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def name(self) -> str:
        """That of its folder."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def summary(self) -> dict[str, Any]:
        return self.folder.summary()

    @cached_property
    def ensemble(self) -> EnsembleRecord | None:
        """What it is made of and how, where it is an ensemble."""
        return self.folder.manifest().ensemble

    @property
    def is_combined(self) -> bool:
        """Whether several networks answer together; a soup is one network."""
        return self.ensemble is not None and self.ensemble.method != "soup"

    @cached_property
    def members(self) -> tuple[Run, ...]:
        """The networks that answer together, as runs; the run itself where it is one network."""
        if not self.is_combined:
            return (self,)
        assert self.ensemble is not None
        members = tuple(Run.load(self.folder.members / str(member.folder)) for member in self.ensemble.members)
        for member in members:
            if member.ensemble is not None or member.class_names != members[0].class_names:
                raise InputError(f"{member.path} is not a member of {self.path}: it has other classes, or members of its own")
        return members

    @cached_property
    def combination(self) -> Combination:
        """How the members' logits become one; for ensembles of several networks."""
        assert self.ensemble is not None and self.is_combined
        return load_combination(self.ensemble, self.folder.stack_weights, len(self.class_names))

    @cached_property
    def decisions(self) -> Decisions | None:
        """Temperature, threshold and the like, fitted on val; None where the run was made before there were any."""
        return load_decisions(self.folder.calibration_file, len(self.class_names), self.levels)

    @cached_property
    def levels(self) -> dict[str, list[str]]:
        """The taxonomy: by the name of each level, the parent of each class."""
        return self.folder.manifest().levels

    @property
    def has_learnt_val(self) -> bool:
        """Whether its weights have seen images of val, so that what is saved of val comes from other networks."""
        if self.ensemble is None:
            return self.recipe.train.refit
        return self.ensemble.val_learnt or self.ensemble.folds

    def forget_decisions(self) -> None:
        """Read them again when they are asked for."""
        for name in ("decisions", "_score"):
            self.__dict__.pop(name, None)

    def predictions(self, split: str, features: bool = True) -> Predictions | None:
        """What was saved of a split; None where nothing was."""
        path = self.folder.predictions / f"{split}.npz"
        return Predictions.load(path, features) if path.is_file() else None

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated where the run was: float32 (n, C)."""
        return softmax(logits) if self.decisions is None else self.decisions.probabilities(logits)

    def unknown(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray | None:
        """Which images are to be rejected: bool (n,); None where the run was not calibrated."""
        if self.decisions is None:
            return None
        return np.asarray(self._score(logits, features) < self.decisions.threshold)

    @cached_property
    def _score(self) -> Score:
        assert self.decisions is not None
        name = self.decisions.score
        if self.folder.rejection_file.is_file():
            return load_score(self.folder.rejection_file, name)
        return fit_score(name, None if name in OF_LOGITS else self.predictions("train"))

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        metadata = read_weights(self.folder.best_weights)[1]
        if not {"class_names", "preprocess"} <= set(metadata):
            raise InputError(f"{self.folder.best_weights} carries no class names or preprocessing: Fieldmark did not write it")
        return metadata

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.is_combined:
            return self.members[0].class_names
        return tuple(self._metadata["class_names"])

    @cached_property
    def preprocess(self) -> Preprocess:
        """What happens to an image first; in an ensemble, for its first member."""
        if self.is_combined:
            return self.members[0].preprocess
        return Preprocess.from_dict(self._metadata["preprocess"])

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.preprocess.mean, self.preprocess.std)

    @cached_property
    def arithmetic(self) -> Arithmetic:
        train = self.recipe.train
        keep_freed_memory()
        set_threads(train.threads)
        device = choose_device("cpu" if train.device == "cuda" and not torch.cuda.is_available() else train.device)
        return Arithmetic.of(device, train.precision, train.memory_format)

    @cached_property
    def model(self) -> Classifier:
        """The trained model, on its device, in evaluation mode. Raises InputError for an ensemble of several networks."""
        if self.is_combined:
            raise InputError(f"{self.path} is an ensemble of {len(self.members)} networks", hint=f"They are in {self.folder.members}.")
        settings = self.recipe.model.model_copy(update={"weights": "none", "max_parameters": None})
        model = build_model(settings, len(self.class_names), self.preprocess.size, seed=0).model
        load_weights(model, self.folder.best_weights)
        self.arithmetic.prepare(model)
        return model.eval()

    def forget_model(self) -> None:
        """Give back the memory of the model until it is asked for again."""
        self.__dict__.pop("model", None)

    def predict_rows(
        self, loaded: LoadedData, rows: np.ndarray, console: Console, crop: Crop | None = None, corrupt: str | None = None
    ) -> Predictions:
        """Predictions of rows of a dataset, all of whose classes the run knows; what cannot be decoded is named and left out.

        `crop` and `corrupt` are as the run was trained by default. Of an ensemble, one network at a time is in memory.
        """
        if self.is_combined:
            parts = []
            for member in self.members:
                parts.append(member.predict_rows(loaded, rows, console, crop, corrupt))
                member.forget_model()
            return combined(parts, self.combination)
        preprocess = self.preprocess
        if crop is not None:
            preprocess = replace(preprocess, margin=None if crop == "none" else preprocess.margin or 0.0)
        seen = self.recipe.data.corrupt if corrupt is None else corrupt
        split = open_split(loaded, rows, preprocess, seen, console)
        return split.predict(self.model, self.arithmetic, self.recipe.evaluate.batch, console, self.class_names)

    def predict(self, images: str | Path | Sequence[str | Path], top: int = 5, boxes: Boxes | None = None) -> list[Prediction]:
        """Answers for files, folders (searched for images) and globs, in order; where there is none, its note says why.

        `boxes` give the left, top, right and bottom edge of the object in pixels, by the image's path. A UserWarning says where the run
        was trained on images cropped to boxes and these have none, or the other way round.
        """
        if warning := self.box_warning(boxes is not None):
            warnings.warn(warning, stacklevel=2)
        return list(self.stream(find_images(images), top, boxes))

    def box_warning(self, boxes: bool) -> str | None:
        """What to say before images are predicted with or without boxes, where the run was trained the other way."""
        if self.preprocess.margin is not None and not boxes:
            return f"{self.path} was trained on images cropped to boxes and sees these whole: expect worse answers without a sign of it"
        if self.preprocess.margin is None and boxes:
            return f"{self.path} was trained on whole images and sees these cropped: fine only if its images were crops already"
        return None

    def stream(self, files: Iterable[Path], top: int = 5, boxes: Boxes | None = None) -> Iterator[Prediction]:
        """The same, one by one and in bounded memory, whatever the number of files. `top` is cut to the number of classes."""
        if top < 1:
            raise InputError(f"the number of classes to name must be at least 1, got {top}")
        by_path = None if boxes is None else {os.path.abspath(path): box for path, box in boxes.items()}
        names = self.class_names
        for chunk, said in self._inferred(files, by_path):
            answers = iter(self._answers(*said) if said else [])
            for path, problem in chunk:
                answer = None if problem else next(answers)
                if answer is None:
                    yield Prediction(readable(path), (), np.empty(0, np.float32), problem or "the answer is not a number")
                    continue
                order = np.argsort(-answer.probabilities, kind="stable")
                note = "" if by_path is None or os.path.abspath(path) in by_path else "it has no box, and was seen whole"
                named, among = (tuple(names[index] for index in each) for each in (order[:top], order[answer.among[order]]))
                yield Prediction(readable(path), named, answer.probabilities[order[:top]], note, answer.unknown, among, answer.coarser)

    @property
    def view(self) -> Preprocess:
        """The preprocessing but for normalisation: members with the same view see the same pixels."""
        return replace(self.preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def _answers(self, logits: np.ndarray, features: np.ndarray) -> list[_Answer | None]:
        """None where the probabilities are not finite."""
        probabilities, unknown = self.probabilities(logits), self.unknown(logits, features)
        sets = np.zeros(logits.shape, bool) if self.decisions is None else self.decisions.sets.sets(probabilities)
        coarser = self._coarser(probabilities)
        return [
            _Answer(each, None if unknown is None else bool(unknown[row]), sets[row], {level: coarser[level][row] for level in coarser})
            if np.isfinite(each).all()
            else None
            for row, each in enumerate(probabilities)
        ]

    def _coarser(self, probabilities: np.ndarray) -> dict[str, list[str]]:
        """By the name of each level with back-off, what is answered of each image."""
        found: dict[str, list[str]] = {}
        if self.decisions is None:
            return found
        for name, backoff in self.decisions.backoff.items():
            names = (self.class_names, Level.of(name, self.levels[name]).names)
            levels, indices = (each.tolist() for each in backoff.answers(probabilities))
            found[name] = [names[level][index] if level >= 0 else "" for level, index in zip(levels, indices, strict=True)]
        return found

    def predict_files(self, files: Iterable[Path], console: Console) -> Predictions:
        """Predictions of images without labels, by their paths; one that cannot be read is named and left out."""
        ids: list[str] = []
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        with console.progress("predicting", "files") as advance:
            for chunk, said in self._inferred(files, None):
                console.say(*(f"left out: {path}: {problem}" for path, problem in chunk if problem))
                ids += [readable(path) for path, problem in chunk if not problem]
                parts += [said] if said else []
                advance(len(ids), None)
        if not ids:
            raise InputError("none of the images can be read")
        labels = np.full(len(ids), -1, np.int32)
        logits, features = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Predictions(np.array(ids, np.str_), labels, logits, features, self.class_names)

    def _inferred(self, files: Iterable[Path], boxes: Boxes | None) -> Iterator[tuple[list[tuple[Path, str]], Inferred | None]]:
        """Chunks of (file, why it cannot be read or ""), and what the networks say of those that can; None where there are none."""
        views = tuple(dict.fromkeys(member.view for member in self.members))
        for decoded in _decoded(files, views, self.recipe.evaluate.batch, boxes):
            chunk = [(path, pixels if isinstance(pixels, str) else "") for path, pixels in decoded]
            sound = [pixels for _, pixels in decoded if not isinstance(pixels, str)]
            yield chunk, self._infer(dict(zip(views, map(np.stack, zip(*sound, strict=True)), strict=True))) if sound else None

    def _infer(self, seen: Mapping[Preprocess, np.ndarray]) -> Inferred:
        """Of images as each view shows them."""
        batch = self.recipe.evaluate.batch
        said = [infer(each.model, seen[each.view], each.normalisation, each.arithmetic, batch) for each in self.members]
        if not self.is_combined:
            return said[0]
        logits = [each for each, _ in said]
        return self.combination(logits), np.concatenate(logits, axis=1)


def readable(path: Path) -> str:
    """Its name as text, whatever its bytes are."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def find_images(sources: str | Path | Sequence[str | Path]) -> Iterator[Path]:
    """Files as they are named, images in folders (hidden ones passed over) and matches of globs, each in sorted order.

    Raises InputError naming every source where nothing is found, before anything is predicted.
    """
    listed = [sources] if isinstance(sources, (str, Path)) else list(sources)
    missing = [str(source) for source in listed if not Path(source).exists() and not any(glob.iglob(str(source), recursive=True))]
    if missing or not listed:
        raise InputError(*(f"there is no file or folder {source}, and no file matches it as a pattern" for source in missing or ["(none)"]))
    empty = [source for source in listed if next(_expand(Path(source)), None) is None]
    if empty:
        known = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise InputError(*(f"there are no images in {source}" for source in empty), hint=f"An image's name ends in {known}.")
    return (path for source in listed for path in _expand(Path(source)))


def _expand(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from (path for path in _walk(source) if path.suffix.lower() in IMAGE_EXTENSIONS)
    elif source.exists() or source.is_symlink():
        yield source
    else:
        for match in sorted(glob.iglob(str(source), recursive=True)):
            yield from _expand(Path(match))


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry


def _decoded(
    files: Iterable[Path], views: Sequence[Preprocess], batch: int, boxes: Boxes | None
) -> Iterator[list[tuple[Path, tuple[np.ndarray, ...] | str]]]:
    """Chunks of (file, its pixels in each view or the reason why there are none), decoded by threads no more than two chunks ahead."""

    def decode(path: Path) -> tuple[np.ndarray, ...] | str:
        box = None if boxes is None else boxes.get(os.path.abspath(path))
        try:
            return tuple(view.pixels(path, box=box) for view in views)
        except UnreadableImage as error:
            return error.reason

    waiting: deque[tuple[Path, Future[tuple[np.ndarray, ...] | str]]] = deque()
    iterator = iter(files)
    with ThreadPoolExecutor(available_cores()) as pool:
        while True:
            while len(waiting) < 2 * batch and (path := next(iterator, None)) is not None:
                waiting.append((path, pool.submit(decode, path)))
            if not waiting:
                return
            ready = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
            yield [(path, future.result()) for path, future in ready]
