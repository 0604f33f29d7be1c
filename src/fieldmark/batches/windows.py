"""Windows: the part of each training tile that is the image, moved at random if boxes are jittered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.batches.matrices import scaling, translation
from fieldmark.core.recipe.data import BoxCrop, Crop


@dataclass(frozen=True)
class Windows:
    """The part of each tile that is the image. `edges` are left, top, right and bottom in tile coordinates, shape (n, 4).

    In training each edge is moved by up to `reach` to either side, shape (n, 2) for horizontal and vertical moves, within the tile.
    """

    edges: np.ndarray
    reach: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Windows:
        return Windows(self.edges[rows], self.reach[rows])

    def matrices(self, draws: np.ndarray | None = None) -> np.ndarray:
        """From image to tile, (n, 3, 3); moved at random by `draws` in [0, 1), shape (n, 4)."""
        edges = self.edges if draws is None else np.clip(self.edges + np.tile(self.reach, 2) * (draws * 2 - 1), -1, 1)
        middle, half = (edges[:, :2] + edges[:, 2:]) / 2, (edges[:, 2:] - edges[:, :2]) / 2
        return translation(middle[:, 0], middle[:, 1]) @ scaling(half[:, 0], half[:, 1])


def windows(tiles: np.ndarray, seen: np.ndarray, crop: Crop) -> Windows | None:
    """The seen regions as windows of tiles that show larger ones, and how far their edges may move; None if the two are equal.

    Both float64 (n, 4) in pixels of the images.
    """
    if not isinstance(crop, BoxCrop) or crop.jitter == 0:
        return None
    corners, sides = np.tile(tiles[:, :2], 2), np.tile(tiles[:, 2:] - tiles[:, :2], 2)
    edges = (seen - corners) / sides * 2 - 1
    reach = (edges[:, 2:] - edges[:, :2]) * crop.jitter / (1 + 2 * crop.margin)
    whole = (np.abs(edges) == 1).all(axis=1)  # an image without a box has nothing to move
    return Windows(edges, np.where(whole[:, None], 0, reach))
