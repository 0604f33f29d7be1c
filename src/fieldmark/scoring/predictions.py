"""The predictions of one model for the images of one split: the arrays that all of evaluation works on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file


@dataclass(frozen=True, eq=False)
class Predictions:
    """Rows are images, columns of `logits` are classes in the order of `class_names`.

    ids: str (n,), paths relative to the dataset's root, posix
    labels: int32 (n,), -1 if the label is unknown
    logits: float32 (n, C)
    features: float32 (n, D), what the classifier's last layer saw
    groups: int32 (n,), alike for images that belong together, such as those of one individual, -1 for none; None if there are no groups

    Raises ValueError if shapes or labels do not fit together.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, classes = self.ids.size, len(self.class_names)
        for name, expected, actual in (
            ("ids", (n,), self.ids.shape),
            ("labels", (n,), self.labels.shape),
            ("logits", (n, classes), self.logits.shape),
            ("features", (n, self.features.shape[-1]), self.features.shape),
            ("groups", (n,), (n,) if self.groups is None else self.groups.shape),
        ):
            if actual != expected:
                raise ValueError(f"{name} has shape {actual}, and {n} images of {classes} classes make {expected}")
        for name, kind in (("ids", np.str_), ("labels", np.int32), ("logits", np.float32), ("features", np.float32), ("groups", np.int32)):
            if getattr(self, name) is not None and not np.issubdtype(getattr(self, name).dtype, kind):
                raise ValueError(f"{name} is {getattr(self, name).dtype}, not {kind.__name__}")
        if n and not (self.labels.min() >= -1 and self.labels.max() < classes):
            raise ValueError(f"labels go from {self.labels.min()} to {self.labels.max()}, and there are {classes} classes")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_grouped(self) -> bool:
        """Whether some images belong together."""
        return self.groups is not None and bool((self.groups >= 0).any())

    def take(self, rows: np.ndarray) -> Predictions:
        """Those of these rows, in their order."""
        groups = None if self.groups is None else self.groups[rows]
        return Predictions(self.ids[rows], self.labels[rows], self.logits[rows], self.features[rows], self.class_names, groups)

    def labelled(self) -> Predictions:
        """Those of images whose label is known."""
        return self.take(np.flatnonzero(self.labels >= 0))

    def probabilities(self) -> np.ndarray:
        """Softmax over classes: float32 (n, C)."""
        return softmax(self.logits)

    def save(self, path: Path) -> None:
        """Write one .npz, whole or not at all; equal predictions make equal bytes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) is not None}
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays | {"class_names": np.array(self.class_names, dtype=np.str_)})

    @classmethod
    def load(cls, path: Path, features: bool = True) -> Predictions:
        """Raises InputError if the file is missing, damaged or something else.

        Without `features`, most of a large file is not read, and they are (n, 0).
        """
        if not path.is_file():
            raise InputError(f"there are no predictions at {path}", hint="Give a run folder whose evaluation has finished.")
        try:
            with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as stored:
                left_out = {"groups"}.difference(stored)  # those of data without any
                if not features:
                    left_out.add("features")
                arrays = {field.name: stored[field.name] for field in fields(cls) if field.name not in left_out}
            if not features:
                arrays["features"] = np.zeros((arrays["ids"].size, 0), np.float32)
            if arrays["class_names"].ndim != 1 or not np.issubdtype(arrays["class_names"].dtype, np.str_):
                raise ValueError("class_names are not a list of text")
            return cls(**arrays | {"class_names": tuple(arrays["class_names"].tolist())})
        except Exception as error:  # the readers of zip files and of arrays raise anything from BadZipFile to SyntaxError
            raise InputError(f"{path} is damaged or not a file of predictions: {error}", hint="Evaluate the run again.") from error


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, computed in float64: float32. A row with a logit that is not finite becomes NaN."""
    finite = np.where(np.isfinite(logits).all(axis=-1, keepdims=True), logits, np.nan).astype(np.float64)
    exponentials = np.exp(finite - finite.max(axis=-1, keepdims=True))
    return np.asarray((exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32))
