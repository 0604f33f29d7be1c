"""A run's images as its split table recorded them: read again only if they have not changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fieldmark.datasets.content import file_hash
from fieldmark.datasets.images import Images
from fieldmark.runtime.decode import UnreadableImage

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the image."""


@dataclass(frozen=True, eq=False)
class RecordedImages:
    """By path: `hashes` are the file_hash of the images when the run began, `boxes` those that the run crops to."""

    images: Images
    hashes: Mapping[str, str]
    boxes: Mapping[str, Box]

    def read(self, path: str) -> bytes:
        """Raises UnreadableImage if the image cannot be read, or has changed since the run began."""
        data = self.images.read(path)
        if file_hash(data) != self.hashes.get(path, ""):
            raise UnreadableImage(path, "the file has changed since the run began")
        return data
