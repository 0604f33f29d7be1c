"""Small copies of images, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from fieldmark.runtime.decode import dimensions, open_rgb

_BOX_COLOUR, _BOX_WIDTH = (255, 196, 0), 2


def thumbnail_of(data: bytes, path: str, box: Sequence[float] | None, side: int) -> Image.Image:
    """At most `side` x `side` pixels of the bytes of an image, with the box, if there is one, drawn on it.

    box: left, top, right and bottom edge, in pixels of the image. Raises UnreadableImage if the bytes are no image.
    """
    image = open_rgb(data, path, at_least=side)
    width, _ = dimensions(data, path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    if box is not None:
        scale = image.width / width
        left, top, right, bottom = (edge * scale for edge in box)
        ImageDraw.Draw(image).rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=_BOX_COLOUR, width=_BOX_WIDTH)
    return image
