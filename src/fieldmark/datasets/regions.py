"""Which part of each image is seen: the whole of it, or its object's box with a margin."""

from __future__ import annotations

import numpy as np

from fieldmark.core.recipe.data import BoxCrop, Crop
from fieldmark.runtime.preprocess import grown


def seen_regions(boxes: np.ndarray | None, widths: np.ndarray, heights: np.ndarray, margin: float | None) -> np.ndarray:
    """The part of each image that is seen in evaluation: float64 (n, 4), edges in pixels.

    Args:
        boxes: as in Dataset. An image without a box is seen whole, and so are all if `margin` is None.
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
