"""Which part of each image is seen: the whole of it, or its object's box with a margin, moved at random in training."""

from __future__ import annotations

import numpy as np

from fieldmark.batches.geometry import Windows
from fieldmark.core.schema import BoxCrop, Crop
from fieldmark.runtime.preprocess import grown


def seen_regions(boxes: np.ndarray | None, widths: np.ndarray, heights: np.ndarray, margin: float | None) -> np.ndarray:
    """The part of each image that is seen in evaluation: float64 (n, 4), edges in pixels.

    Args:
        boxes: as in Dataset. An image without a box is seen whole, and so are all where `margin` is None.
        widths, heights: of the images, without what is not part of them.
        margin: as in runtime.preprocess.Preprocess.
    """
    whole = np.column_stack([np.zeros((len(widths), 2)), widths, heights])
    if margin is None or boxes is None:
        return whole
    unboxed = np.isnan(boxes).any(axis=1)
    return np.where(unboxed[:, None], whole, grown(np.nan_to_num(boxes.astype(np.float64)), margin, widths, heights))


def margin_of(crop: Crop) -> float | None:
    return crop.margin if isinstance(crop, BoxCrop) else None


def tile_margin_of(crop: Crop) -> float | None:
    """What a training tile must show around the box, so that every place that jitter may move the crop to is on it."""
    return crop.margin + crop.jitter if isinstance(crop, BoxCrop) else None


def windows(tiles: np.ndarray, seen: np.ndarray, crop: Crop) -> Windows | None:
    """Where the seen regions lie on tiles that show larger ones, and how far their edges may move; None where the two are alike.

    Both float64 (n, 4) in pixels of the images.
    """
    if not isinstance(crop, BoxCrop) or crop.jitter == 0:
        return None
    corners, sides = np.tile(tiles[:, :2], 2), np.tile(tiles[:, 2:] - tiles[:, :2], 2)
    edges = (seen - corners) / sides * 2 - 1
    reach = (edges[:, 2:] - edges[:, :2]) * crop.jitter / (1 + 2 * crop.margin)
    whole = (np.abs(edges) == 1).all(axis=1)  # an image without a box has nothing to move
    return Windows(edges, np.where(whole[:, None], 0, reach))
