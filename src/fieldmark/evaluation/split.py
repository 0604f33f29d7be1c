"""The images of one split as the model sees them in evaluation, and the prediction pass over them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.answering.networks import Session
from fieldmark.core.console import Console
from fieldmark.core.processor import available_cores
from fieldmark.core.randomness import key
from fieldmark.datasets.corruptions import corrupt, parse
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.pixel_cache import Decoding, default_cache_dir, open_pixels
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.predictions import Predictions

if TYPE_CHECKING:
    from fieldmark.models.execution import Execution
    from fieldmark.models.factory import Classifier

_TOGETHER = 32


@dataclass(frozen=True, eq=False)
class SplitPixels:
    """`pixels` is uint8 (all, 3, size, size); `sound` are the positions in it that could be decoded, `rows` their rows in the dataset."""

    loaded: LoadedData
    preprocess: Preprocess
    pixels: np.ndarray
    sound: np.ndarray
    rows: np.ndarray
    corrupt: str
    """A corruption to be made of the pixels on the way to the model, as in data.corrupt."""
    unreadable: dict[int, str]
    """By row of the dataset, why an image was left out."""
    remarks: tuple[str, ...] = ()
    """On images whose pixels may suffer from what they have."""

    @property
    def labels(self) -> np.ndarray:
        return self.loaded.dataset.labels[self.rows]

    def logits_and_features(self, model: Classifier, execution: Execution, batch: int, console: Console) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of the sound images."""
        from fieldmark.evaluation.inference import Normalisation, logits_and_features

        normalisation = Normalisation(self.preprocess.mean, self.preprocess.std)
        change = None if self.corrupt == "none" else self.shown
        with console.progress("predicting", "images") as advance:
            return logits_and_features(model, self.pixels, normalisation, execution, batch, self.sound, advance, change)

    def shown(self, positions: np.ndarray) -> np.ndarray:
        """Sound images at these positions as the model sees them: uint8 (m, 3, size, size)."""
        if self.corrupt == "none":
            return self.pixels[positions]
        rows = self.rows[np.searchsorted(self.sound, positions)]
        hashes = [self.loaded.content.hashes[row] for row in rows]
        name, severity = parse(self.corrupt)
        tiles = self.pixels[positions].transpose(0, 2, 3, 1)
        with ThreadPoolExecutor(available_cores()) as pool:
            changed = pool.map(lambda tile, digest: corrupt(tile, name, severity, key(digest)), tiles, hashes)
            return np.stack(list(changed)).transpose(0, 3, 1, 2)

    def predict(self, model: Classifier, execution: Execution, batch: int, console: Console, class_names: tuple[str, ...]) -> Predictions:
        """Predictions over `class_names`, as in `predictions_of`."""
        return self.predictions_of(*self.logits_and_features(model, execution, batch, console), class_names)

    def outputs_of(self, session: Session, console: Console) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of the sound images by any session."""
        parts, n = [], len(self.sound)
        with console.progress("predicting", "images") as advance:
            for start in range(0, n, _TOGETHER):
                parts.append(session(self.shown(self.sound[start : start + _TOGETHER])))
                advance(min(start + _TOGETHER, n), n)
        logits, features = (np.concatenate(each) for each in zip(*parts, strict=True))
        return logits, features

    def predictions_of(self, logits: np.ndarray, features: np.ndarray, class_names: tuple[str, ...]) -> Predictions:
        """What a network returned for the sound images, as predictions over `class_names`.

        These hold all names of the dataset's classes; labels are matched by name.
        """
        columns = np.array([*map(class_names.index, self.loaded.dataset.class_names), -1], np.int32)  # the last is for no label, -1
        ids = np.array([self.loaded.dataset.paths[row] for row in self.rows], np.str_)
        labels = columns[self.labels]
        groups = None if self.loaded.dataset.groups is None else self.loaded.dataset.groups[self.rows]
        return Predictions(ids, labels, logits, features, class_names, groups)


def open_split(loaded: LoadedData, rows: np.ndarray, preprocess: Preprocess, corrupt: str, console: Console) -> SplitPixels:
    """Decode these rows of the dataset; those that cannot be are named and left out."""
    with console.progress("decoding", "images") as advance:
        decoding = Decoding(preprocess.size, preprocess.resize, colours=preprocess.colours)
        cache = open_pixels(loaded.selection(rows, preprocess.margin), decoding, default_cache_dir(), advance)
    unreadable = {int(rows[position]): reason for position, reason in cache.unreadable.items()}
    console.say(*(f"left out: {loaded.dataset.paths[row]}: {reason}" for row, reason in unreadable.items()))
    sound = np.setdiff1d(np.arange(len(rows)), list(cache.unreadable))
    remarks = tuple(cache.remarks([loaded.dataset.paths[row] for row in rows]))
    return SplitPixels(loaded, preprocess, cache.array, sound, rows[sound], corrupt, unreadable, remarks)
