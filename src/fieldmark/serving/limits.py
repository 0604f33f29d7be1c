"""What an image may be: how many pixels and frames it has is read from its headers, before anything is decoded."""

from __future__ import annotations

from typing import Any

from fieldmark.runtime.decode import UnreadableImage, unloaded

_GIF_BLOCKS = 2_000_000
"""Blocks of a GIF that are walked over; each has up to 255 bytes."""


def check_image(data: bytes, max_pixels: int, max_frames: int) -> int:
    """The number of its pixels. Raises UnreadableImage if it has more, or more frames, or is no image."""
    image = unloaded(data)
    if (pixels := image.width * image.height) > max_pixels:
        raise UnreadableImage("image", f"{image.width} x {image.height} pixels, more than the limit of {max_pixels / 1e6:g} million")
    if pixels == 0:
        raise UnreadableImage("image", "it has no pixels")
    if _has_more_frames(image, data, max_frames):
        raise UnreadableImage("image", f"more frames than the limit of {max_frames:,}")
    return pixels


def _has_more_frames(image: Any, data: bytes, limit: int) -> bool:
    if image.format == "GIF":
        return _gif_has_more(data, limit)
    if image.format == "TIFF":  # its seek reads where pages begin, and none of them
        try:
            image.seek(limit)
        except EOFError:
            return False
        return True
    return int(getattr(image, "n_frames", 1)) > limit  # from the header


def _gif_has_more(data: bytes, limit: int) -> bool:
    """Pillow counts all frames of a GIF, however many there are, and reads the extensions of each."""
    at = 13 + _table(data, 10)
    frames = blocks = 0
    while at < len(data) and data[at] in b"\x21\x2c":
        if data[at] == 0x2C:
            frames += 1
            at += 11 + _table(data, at + 9)
        else:
            at += 2
        while at < len(data) and data[at]:
            at += data[at] + 1
            blocks += 1
        at += 1
        if frames > limit or blocks > _GIF_BLOCKS:
            return True
    return False


def _table(data: bytes, at: int) -> int:
    """The bytes of the table of colours that the flags there announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
