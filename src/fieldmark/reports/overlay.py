"""A heat map laid over its picture: hot places glow, cold ones stay as they are."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

_COLOURS = "inferno"
"""Perceptually uniform, and ordered by lightness, so that the colour-blind and a grey print see the same order."""
_DARKEST = 0.2
"""Where its colours begin: those before are almost black, and would be shadows on the picture."""
_STRONGEST, _RISE = 0.75, 0.75
"""Opacity where the map is 1, so that the picture is seen through it everywhere, and the power of the heat that it goes with."""
_MUTED = 0.8
"""How much of their own colour the picture's pixels lose, so that colour means heat."""


def overlay(picture: np.ndarray | Image.Image, heat: np.ndarray) -> Image.Image:
    """The picture with a map over it, of the picture's size and mode RGB.

    Args:
        picture: uint8 (h, w, 3), or a picture of Pillow's.
        heat: float (h', w') in [0, 1], stretched over the whole picture; what is not finite counts as 0.
    """
    below = (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).convert("RGB")
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
