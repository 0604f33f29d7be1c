"""What an image says of its colours, and their conversion to sRGB: ICC profiles, code points, and what else formats use, by LittleCMS."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from PIL import Image, ImageCms, features

LITTLE_CMS = features.version_module("littlecms2")

_SRGB = ImageCms.createProfile("sRGB")
_GREYS = np.arange(256, dtype=np.uint8)
_SIZE_LIMIT = 16 * 2**20
_KINDS = (b"mntr", b"scnr", b"prtr", b"spac")
GREY = ("1", "L", "LA", "La")
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_SAME = 2
"""Profiles that change no colour by more, of 255, are sRGB: makers write it with curves that differ by rounding."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65 = (0.3127, 0.3290)
_OF_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_ADOBE_RGB = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_PRIMARIES = {
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI-P3
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
"""White, red, green and blue (x and y of each) by their code in ITU-T H.273; all others are near sRGB's, or say nothing."""
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = (16, 18)
_INTEROPERABILITY = 0xA005

DAMAGED = "a damaged colour profile, which is ignored"
UNFIT = "a colour profile for another kind of image, which is ignored"
BRIGHT = "high dynamic range, whose values are taken as they are"


@dataclass(frozen=True)
class Colours:
    """What an image says of its colours: an ICC profile, b"" for sRGB; `note` says what is ignored."""

    profile: bytes = b""
    note: str = ""


def colours_of(image: Image.Image, data: bytes) -> Colours:
    """What an opened image with the bytes `data` says; without a word its colours are sRGB.

    An ICC profile is preferred to code points (cICP, nclx), as a format has them, these to the gamma and chromaticities of a PNG.
    A JPEG may say in its EXIF that it is Adobe RGB; "uncalibrated" alone says nothing.
    """
    info = image.info
    if image.format == "PNG" and (codes := _codes_after(data[: max(data.find(b"IDAT"), 0)], b"cICP", 1)):
        return _of_codes(*codes)
    if "icc_profile" in info and (info["icc_profile"] is None or info["icc_profile"]):
        return Colours(note=DAMAGED) if info["icc_profile"] is None else Colours(info["icc_profile"])
    if image.format in ("HEIF", "AVIF") and (codes := _codes_after(data, b"colrnclx", 2)):
        return _of_codes(*codes)
    if image.format == "PNG" and "srgb" not in info and {"gamma", "chromaticity"} <= info.keys():
        return _of_gamma(info["chromaticity"], info["gamma"])
    if b"R03\0" in (info.get("exif") or b"") and _is_adobe_rgb(image):
        return Colours(made_profile(_ADOBE_RGB, 563 / 256))
    return Colours()


@dataclass(frozen=True)
class Conversion:
    """From the pixels of an image, of mode L, RGB or CMYK, to sRGB of mode RGB.

    `mode` is what the transform takes; without a transform the values stay as they are. `note` says what of the image is ignored.
    """

    mode: str = "RGB"
    transform: Callable[[Image.Image], Image.Image] | None = None
    note: str = ""

    def __call__(self, pixels: Image.Image) -> Image.Image:
        return pixels.convert("RGB") if self.transform is None else self.transform(pixels.convert(self.mode))


AS_STORED = Conversion()


def conversion_of(image: Image.Image, data: bytes) -> Conversion:
    """How an image with the bytes `data` is converted by what it says.

    The intent is perceptual, with the black point compensated. Deterministic, and the same for any number of threads.
    """
    said = colours_of(image, data)
    if not said.profile:
        return Conversion(note=said.note)
    conversion = _conversion(said.profile)
    fits = {"RGB": image.mode != "CMYK", "L": image.mode in GREY or image.mode.startswith("I"), "CMYK": image.mode == "CMYK"}
    return conversion if conversion.note or fits[conversion.mode] else Conversion(note=UNFIT)


@lru_cache(maxsize=64)
def _conversion(profile: bytes) -> Conversion:
    if len(profile) < 132 or len(profile) > _SIZE_LIMIT or profile[36:40] != b"acsp":
        return Conversion(note=DAMAGED)
    mode = _MODES.get(profile[16:20])
    if mode is None or profile[12:16] not in _KINDS:
        return Conversion(note=UNFIT)
    try:
        transform: Callable[[Image.Image], Image.Image] = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(_SRGB),
            mode,
            "RGB",
            ImageCms.Intent.PERCEPTUAL,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE),
        ).apply
        if mode == "L":
            transform = _by_table(np.asarray(transform(Image.fromarray(_GREYS[None])))[0])
        is_srgb = mode != "CMYK" and _changes(transform, mode) <= _SAME
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return Conversion(note=DAMAGED)
    return Conversion(mode, None if is_srgb else transform)


def _by_table(colours: np.ndarray) -> Callable[[Image.Image], Image.Image]:
    """By the colour of each grey, uint8 (256, 3): exact, where LittleCMS would interpolate between few, and faster."""
    tables = colours.T.tolist()
    return lambda grey: Image.merge("RGB", [grey.point(table) for table in tables])


def _changes(transform: Callable[[Image.Image], Image.Image], mode: str) -> int:
    """The largest change of a channel over a grid of colours and all greys."""
    grid = np.array(list(product(range(0, 256, 17), repeat=3)), np.uint8)
    image = Image.fromarray(_GREYS[None] if mode == "L" else np.concatenate([grid, np.column_stack([_GREYS] * 3)])[None])
    return int(np.abs(np.asarray(transform(image), np.int16) - np.asarray(image.convert("RGB"), np.int16)).max())


def _codes_after(data: bytes, mark: bytes, width: int) -> tuple[int, int] | None:
    """The codes of the primaries and of the transfer that follow a mark, each of `width` bytes."""
    start = data.find(mark) + len(mark)
    codes = data[start : start + 2 * width]
    if start < len(mark) or len(codes) < 2 * width:
        return None
    return int.from_bytes(codes[:width], "big"), int.from_bytes(codes[width:], "big")


def _of_codes(primaries: int, transfer: int) -> Colours:
    if transfer in _HDR:
        return Colours(note=BRIGHT)
    if primaries not in _PRIMARIES and transfer not in _GAMMAS:
        return Colours()
    return Colours(made_profile(_PRIMARIES.get(primaries, _OF_SRGB), _GAMMAS.get(transfer)))


def _of_gamma(chromaticity: tuple[float, ...], gamma: float) -> Colours:
    """By the chunks cHRM and gAMA of a PNG, which writes sRGB's curve as a gamma of 1/2.2."""
    of_srgb = np.abs(np.subtract(chromaticity, _OF_SRGB)).max() < 0.005
    if of_srgb and 0.445 < gamma < 0.465:
        return Colours()
    try:
        return Colours(made_profile(tuple(chromaticity), 1 / gamma))
    except (ZeroDivisionError, ValueError, OverflowError, struct.error, np.linalg.LinAlgError):
        return Colours(note=DAMAGED)


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether its EXIF has the interoperability index R03: Adobe RGB, by "Design rule for camera file system" (DCF 2.0)."""
    try:
        return str(Image.Image.getexif(image).get_ifd(_INTEROPERABILITY).get(1, "")).startswith("R03")
    except Exception:  # a damaged EXIF block raises almost anything
        return False


@lru_cache(maxsize=64)
def made_profile(chromaticity: tuple[float, ...], gamma: float | None) -> bytes:
    """An ICC profile (version 4) of these primaries, and of a power curve, or of sRGB's for None.

    `chromaticity` is x and y of white, red, green and blue. White is adapted to D50 by Bradford's matrix, as the standard asks for.

    Raises ValueError or numpy's LinAlgError for primaries that no light has.
    """
    xy = np.array(chromaticity, np.float64).reshape(4, 2)
    if not np.isfinite(xy).all() or (xy[:, 1] <= 0).any() or (gamma is not None and not 0.1 < gamma < 10):
        raise ValueError("no primaries")
    white, *primaries = np.column_stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(axis=1)) / xy[:, 1]])
    columns = np.array(primaries).T
    columns = columns * np.linalg.solve(columns, white)
    adapted = np.linalg.solve(_BRADFORD, np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD) @ columns
    curve = (0, gamma) if gamma is not None else (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    para = b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + _fixed(*curve[1:])
    text = "made by Fieldmark".encode("utf-16-be")
    name = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = [(b"desc", name), (b"cprt", name), (b"wtpt", b"XYZ \0\0\0\0" + _fixed(*_D50))]
    tags += [
        (mark, b"XYZ \0\0\0\0" + _fixed(*column)) for mark, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T.tolist(), strict=True)
    ]
    tags += [(mark, para) for mark in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for mark, content in tags:
        table += mark + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = (
        struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x04000000, b"mntr", b"RGB ", b"XYZ ", b"acsp") + _fixed(*_D50) + bytes(48)
    )
    return header + table + body


def _fixed(*values: float) -> bytes:
    """Numbers with 16 bits after the point, as ICC profiles hold them."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
