"""The dataset: a table of pictures with their labels and splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.core.errors import InputError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """One row per picture, in the order of `paths`.

    `paths` are relative to `root`, with forward slashes. `labels` are int32 (n,), indices into `class_names`; `splits` are "<U5" (n,),
    each "train", "val" or "test". `notes` are what the layout reader wants the user to know, one sentence each.
    """

    name: str
    root: Path
    layout: str
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.labels) == len(self.splits)

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the pictures of one split, ascending, int64. Raises InputError for a split that there cannot be."""
        if split not in SPLITS:
            raise InputError(f"there is no split called {split!r}", hint=f"The splits are {', '.join(SPLITS)}.")
        return np.flatnonzero(self.splits == split).astype(np.int64, copy=False)

    def file(self, row: int) -> Path:
        return self.root / self.paths[row]
