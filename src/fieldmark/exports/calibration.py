"""Images that int8 is calibrated on, as the tools take them."""

from __future__ import annotations

import numpy as np

HISTOGRAM_IMAGES = 128
"""Of which percentile ranges are computed by tools to which a histogram is several times the work of extremes."""


def in_batches(images: np.ndarray, batch: int) -> np.ndarray:
    """uint8 (n, 3, S, S) as (k, batch, 3, S, S); the last batch is filled up from the first images."""
    n = -(-len(images) // batch)
    return np.resize(images, (n * batch, *images.shape[1:])).reshape(n, batch, *images.shape[1:])
