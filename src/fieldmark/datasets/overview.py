"""What a dataset holds, said without opening its images."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fieldmark.core.names import some
from fieldmark.datasets.cautions import twins
from fieldmark.datasets.dataset import SPLITS, UNLABELLED, Dataset
from fieldmark.runtime.decode import UnreadableImage

_NAMED = 5


@dataclass(frozen=True)
class Overview:
    """`splits` are images by split, `levels` parents by level; `missing` are the paths of images that are not there."""

    name: str
    layout: str
    root: str
    notes: tuple[str, ...]
    classes: int
    images: int
    splits: dict[str, int]
    smallest: tuple[str, int]
    largest: tuple[str, int]
    levels: dict[str, int]
    boxes: int
    groups: int
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person to read."""
        splits = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        found = [f"{self.name} ({self.layout})", *self.notes, f"{self.classes:,} classes, {self.images:,} images: {splits}"]
        smallest, largest = (f"{count:,} ({name})" for name, count in (self.smallest, self.largest))
        if self.smallest[1] == self.largest[1]:
            found.append(f"{self.smallest[1]:,} labelled image{'s' * (self.smallest[1] != 1)} in each class")
        else:
            found.append(f"labelled images a class: from {smallest} to {largest}")
        if self.levels:
            found.append("taxonomy: " + ", ".join(f"{name} ({count:,})" for name, count in self.levels.items()))
        if self.boxes:
            found.append(f"boxes: {self.boxes:,}")
        if self.groups:
            found.append(f"groups: {self.groups:,}")
        if self.missing:
            found.append(f"not in {self.root}: {len(self.missing):,} of its images, {some(self.missing, _NAMED)}")
        return found


def overview(dataset: Dataset) -> Overview:
    """Counts of a dataset; asks of every image whether it is there."""
    labels = dataset.labels[dataset.labels >= 0]
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    smallest, largest = int(counts.argmin()), int(counts.argmax())
    by_split = Counter(dataset.splits.tolist())
    return Overview(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        notes=(*dataset.notes, *twins(dataset.class_names)),
        classes=len(dataset.class_names),
        images=len(dataset),
        splits={split: by_split[split] for split in (*SPLITS, UNLABELLED) if by_split[split]},
        smallest=(dataset.class_names[smallest], int(counts[smallest])),
        largest=(dataset.class_names[largest], int(counts[largest])),
        levels={level.name: len(level.names) for level in dataset.levels},
        boxes=0 if dataset.boxes is None else int((~np.isnan(dataset.boxes).any(axis=1)).sum()),
        groups=0 if dataset.groups is None else len(set(dataset.groups[dataset.groups >= 0].tolist())),
        missing=tuple(path for path in dataset.paths if not _is_there(dataset, path)),
    )


def _is_there(dataset: Dataset, path: str) -> bool:
    try:
        dataset.images.stamp(path)
    except (OSError, UnreadableImage):
        return False
    return True
