"""The map that a graph returns, as it is shown: how much each place of an image speaks for its likeliest class."""

from __future__ import annotations

import numpy as np
from PIL import Image


def heat_map(coarse: np.ndarray, size: int) -> np.ndarray:
    """What is positive in a map (height, width), scaled by its maximum: float32 (size, size) in [0, 1]."""
    positive = np.maximum(coarse, 0)
    if not (np.isfinite(positive).all() and positive.max() > 0):
        return np.zeros((size, size), np.float32)
    fine = Image.fromarray(positive / positive.max()).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(fine, np.float32)
