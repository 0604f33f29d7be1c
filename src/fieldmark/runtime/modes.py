"""From the mode in which a format holds its pixels to 8-bit sRGB: grey, palettes, CMYK, transparency, 16 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin

from fieldmark.core.manifest import Colours
from fieldmark.runtime.colour import AS_STORED, GREY, conversion_of
from fieldmark.runtime.unreadable import UnreadableImage

JPEG = ("JPEG", "MPO")
DARK = "16-bit values that are all below 4,096, so that it is nearly black: values of 12 bits must be multiplied by 16"

_KEY_SCALE = {"L;2": 85, "L;4": 17}


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How the file holds its pixels, in Pillow's words, before they are loaded."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def scale_key(image: ImageFile.ImageFile) -> None:
    """Scale the one transparent colour of a PNG to 8 bits; Pillow scales only the pixels."""
    depth, key = raw_mode(image), image.info.get("transparency")
    if depth in _KEY_SCALE and key is not None:
        image.info["transparency"] = key * _KEY_SCALE[depth]
    elif depth == "RGB;16B" and key is not None:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def as_srgb(image: Image.Image, data: bytes, name: str, colours: Colours, raw: str, notes: list[str]) -> Image.Image:
    """A loaded image with the bytes `data` as mode RGB; `raw` is its raw_mode. `colours` and `notes` are as in runtime.decode.open_rgb.

    Raises UnreadableImage for pixels of unknown range.
    """
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        what = "fractions" if image.mode == "F" else "signed or 32-bit numbers"
        raise UnreadableImage(name, f"its pixels are {what} of unknown range; save it with 8 or 16 bits")
    conversion = conversion_of(image, data) if colours == "srgb" else AS_STORED
    notes += [conversion.note] if conversion.note else []
    notes += [DARK] if ";16" in raw and _is_dark(image) else []
    if image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(image))
    elif image.mode == "CMYK" and image.format in JPEG and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow assumes that all are inverted, as Adobe's are
    elif image.has_transparency_data:
        pixels, opaque = image.convert("RGBA"), Image.new("RGB", image.size, "white")
        opaque.paste(conversion(pixels.convert("L" if image.mode in GREY else "RGB")), (0, 0), pixels)
        return opaque
    return conversion(image)


def _is_dark(image: Image.Image) -> bool:
    if image.mode.startswith("I"):
        return bool(0 < np.asarray(image).max() < 4096)
    return bool(0 < np.asarray(image.convert("RGB")).max() < 16)  # Pillow has taken the higher byte


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Grey of up to 16 bits as uint8."""
    values = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits, white_is_zero = tags.get(258, (16,))[0], tags.get(262) == 0
    grey = (values >> (bits - 8)).astype(np.uint8)
    grey[values == image.info.get("transparency")] = 255
    return 255 - grey if white_is_zero else grey
