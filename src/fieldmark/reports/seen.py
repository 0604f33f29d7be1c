"""An image as a network sees it, but larger, so that people can recognise what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from fieldmark.runtime.decode import dimensions
from fieldmark.runtime.preprocess import Preprocess, grown


def as_seen(preprocess: Preprocess, data: bytes, name: str, box: Sequence[float] | None, side: int) -> Image.Image:
    """At most `side` x `side` pixels, in the image's own proportions if the network sees it squashed.

    box: of the object, in pixels, as in Preprocess.pixels. Raises UnreadableImage, which calls the image `name`.
    """
    tile = Image.fromarray(replace(preprocess, size=side).pixels(data, name, box).transpose(1, 2, 0))
    if preprocess.resize != "squash":
        return tile
    width, height = dimensions(data, name)
    if box is not None:
        region = grown(np.array([box], np.float64), preprocess.margin or 0, np.array([width]), np.array([height]))[0]
        width, height = region[2] - region[0], region[3] - region[1]
    scale = side / max(width, height)
    return tile.resize((max(1, round(scale * width)), max(1, round(scale * height))), Image.Resampling.LANCZOS)
