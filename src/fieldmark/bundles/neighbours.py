"""The training images that a bundle may hold, so that an answer can be shown beside them where neither the run nor its data are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fieldmark.bundles.arrays import arrays_of, write_arrays
from fieldmark.scoring.neighbours import Confusion


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Rows are training images.

    ids: str (n,), their paths in the dataset. labels: int32 (n,). features: float16 (n, D). hashes: the file_hash of each.
    thumbnails: of each, a JPEG with the box drawn on it if there is one. confusions: of each class.
    """

    ids: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    hashes: tuple[str, ...]
    thumbnails: tuple[bytes, ...]
    confusions: tuple[Confusion | None, ...]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """By path."""
        return {path: row for row, path in enumerate(self.ids.tolist())}

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        arrays = {
            "labels": self.labels,
            "features": self.features,
            "thumbnails": np.frombuffer(b"".join(self.thumbnails), np.uint8),
            "ends": np.cumsum([len(each) for each in self.thumbnails], dtype=np.int64),
        }
        confusions = [None if each is None else asdict(each) for each in self.confusions]
        texts = {"ids": self.ids.tolist(), "hashes": self.hashes, "confusions": confusions}
        write_arrays(path, arrays, texts)

    @classmethod
    def load(cls, path: Path) -> Neighbours:
        """Raises InputError if it cannot be read; its hash is the bundle's to check."""
        with arrays_of(path) as (arrays, texts):
            ends = arrays["ends"].tolist()
            content = arrays["thumbnails"].tobytes()
            return cls(
                ids=np.array(texts["ids"], np.str_),
                labels=arrays["labels"],
                features=arrays["features"],
                hashes=tuple(texts["hashes"]),
                thumbnails=tuple(content[start:end] for start, end in zip([0, *ends], ends, strict=False)),
                confusions=tuple(None if each is None else Confusion(**each) for each in texts["confusions"]),
            )
