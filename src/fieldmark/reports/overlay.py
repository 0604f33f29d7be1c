"""A heat map laid over its image: hot places glow, cold ones stay as they are."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

_COLOURS = "inferno"
"""Perceptually uniform, and ordered by lightness, so that the colour-blind and a grey print see the same order."""
_DARKEST = 0.2
"""Where its colours begin: those before are almost black, and would be shadows on the image."""
_STRONGEST, _RISE = 0.75, 0.75
"""Opacity where the map is 1, so that the image is seen through it everywhere, and the power of the heat that it goes with."""
_MUTED = 0.8
"""How much of their own colour the image's pixels lose, so that colour means heat."""


def overlay(image: np.ndarray | Image.Image, heat: np.ndarray) -> Image.Image:
    """The image with a map over it, of the image's size and mode RGB.

    Args:
        image: uint8 (h, w, 3), or an image of Pillow's.
        heat: float (h', w') in [0, 1], stretched over the whole image; what is not finite counts as 0.
    """
    below = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    finite = np.nan_to_num(heat.astype(np.float32), nan=0, posinf=0, neginf=0).clip(0, 1)
    stretched = np.asarray(Image.fromarray(finite).resize(below.size, Image.Resampling.BILINEAR))
    levels = np.round(255 * stretched).astype(np.uint8)
    colours = Image.fromarray(_table()[levels])
    opacity = Image.fromarray(np.round(255 * _STRONGEST * (levels / 255) ** _RISE).astype(np.uint8))
    muted = Image.blend(below, below.convert("L").convert("RGB"), _MUTED)
    return Image.composite(colours, muted, opacity)


@cache
def _table() -> np.ndarray:
    """The colour of each of 256 levels of heat: uint8 (256, 3)."""
    from matplotlib import colormaps

    return np.round(255 * colormaps[_COLOURS](np.linspace(_DARKEST, 1, 256))[:, :3]).astype(np.uint8)
