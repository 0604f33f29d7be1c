"""Boxes that were drawn on images as they are stored, though EXIF says to turn these by a quarter before they are shown."""

from __future__ import annotations

import numpy as np

from fieldmark.datasets.content import Content
from fieldmark.datasets.dataset import Dataset
from fieldmark.runtime.decode import UnreadableImage, is_sideways

UNROTATED = "its box leaves it, but fits it as it is stored, before EXIF turns it"
REMEDY = (
    "The boxes of images that EXIF turns were drawn before that: turn these boxes, or remove the orientation from the images, for example "
    "with exiftool -Orientation= FOLDER."
)
_SLACK = 1.0
"""Pixels by which tools round boxes over the edge."""


def unrotated(dataset: Dataset, content: Content) -> list[int]:
    """The rows of readable images whose box leaves the upright image, fits it with its sides swapped, and which EXIF turns by a quarter.

    Only the headers of images whose boxes are so are read. A box that fits both ways is not among them.
    """
    if dataset.boxes is None:
        return []
    right, bottom = dataset.boxes[:, 2], dataset.boxes[:, 3]
    leaves = (right > content.widths + _SLACK) | (bottom > content.heights + _SLACK)
    fits = (right <= content.heights + _SLACK) & (bottom <= content.widths + _SLACK)
    return [int(row) for row in np.flatnonzero(leaves & fits) if int(row) not in content.problems and _is_sideways(dataset, int(row))]


def _is_sideways(dataset: Dataset, row: int) -> bool:
    path = dataset.paths[row]
    try:
        return is_sideways(dataset.images.read(path), path)
    except (OSError, UnreadableImage):
        return False
