"""The training images that a bundle may hold, so that an answer can be shown beside them where neither the run nor its data are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file
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
        content = safetensors.numpy.save(arrays, {name: json.dumps(value, ensure_ascii=False) for name, value in texts.items()})
        with whole_file(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> Neighbours:
        """Raises InputError if it cannot be read; its hash is the bundle's to check."""
        try:
            with safetensors.safe_open(path, "np") as file:
                arrays = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 (it cannot be iterated)
                texts = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
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
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}", hint="Export the run again.") from error
