"""The one decoder: from the bytes of any image to 8-bit RGB, or a plain reason why it cannot be read."""

from __future__ import annotations

import ctypes
import io
import logging
import math
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import PIL

# Importing a plugin registers it with Pillow. Naming them keeps Pillow from loading all others, some of which run other programs.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
    _imaging,
)

from fieldmark.core.extras import how_to_install
from fieldmark.core.manifest import Colours
from fieldmark.runtime.colour import LITTLE_CMS
from fieldmark.runtime.jpeg_end import MISSING_END, ends_in_zeros, with_end
from fieldmark.runtime.modes import JPEG, as_srgb, raw_mode, scale_key
from fieldmark.runtime.unreadable import UnreadableImage as UnreadableImage

_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"]
_HEIF = "none"
with suppress(ImportError):  # an extra of the package
    import pillow_heif

    pillow_heif.register_heif_opener()
    _FORMATS.append("HEIF")
    _HEIF = pillow_heif.__version__

DECODER = f"4 (Pillow {PIL.__version__}, LittleCMS {LITTLE_CMS}, pillow-heif {_HEIF})"
"""Changes whenever the same file may decode to different pixels; part of the key of everything stored about them."""

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
    | {".heic", ".heif", ".hif"}
)
PIXEL_LIMIT = 178_000_000
FILE_LIMIT = 2 * 2**30
"""In bytes. The largest image within PIXEL_LIMIT takes 1.4 GB: four uncompressed channels of 16 bits."""
SCAN_LIMIT = 100
"""Scans of a progressive JPEG: encoders write about ten, but a scan of a few bytes may take a fraction of a second."""

_CUT = "the file is cut short"
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx")
_LATE_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns about images of half the size that it refuses, and about metadata that do not affect the pixels.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(OSError, AttributeError):  # libtiff would print what UnreadableImage says; some builds hide it
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def decode(source: bytes | Path, name: str | None = None, at_least: int | None = None, colours: Colours = "srgb") -> np.ndarray:
    """Decode an image to uint8 RGB of shape (height, width, 3).

    The format is detected from the content, not the name. Orientation by EXIF, or else by XMP, is applied; grey, palette, CMYK, Lab and
    16-bit images become 8-bit RGB, 32-bit ones are refused; transparency is laid over white; the first frame of an animation, or page of
    several, is decoded. Colours are converted to sRGB by the image's profile, as runtime.colour describes; with "stored" they stay as they
    are. Values of 16 bits are divided by 256, whatever the largest is. With `at_least`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its
    size if its shorter side keeps `at_least` pixels. That is 1.7 to 2.7 times as fast, and costs about 2 % of the sharpness left after
    resizing to `at_least`.

    Raises UnreadableImage, with `name` (by default the path) in its message.
    """
    return np.asarray(open_rgb(source, name, at_least, colours=colours))


def unloaded(data: bytes, name: str = "image") -> ImageFile.ImageFile:
    """The image of which the headers alone were read, for what they say of its size and frames. Raises UnreadableImage."""
    with _reasons(name):
        return _open(data, name)


def dimensions(source: bytes | Path, name: str | None = None) -> tuple[int, int]:
    """(width, height) of what `decode` returns, from the header only. Raises UnreadableImage."""
    name = _name(source, name)
    with _reasons(name):
        data = source if isinstance(source, bytes) else read(source, name)
        image = _with_metadata(data, name)
        # Pillow swaps the sides of a TIFF by its orientation tag, and not by its XMP.
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else None
        width, height = image.size if tags is None else (tags[256], tags[257])
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def is_sideways(source: bytes | Path, name: str | None = None) -> bool:
    """Whether `decode` turns the image by a quarter, so that the sides of what is stored are swapped. Raises UnreadableImage."""
    name = _name(source, name)
    with _reasons(name):
        data = source if isinstance(source, bytes) else read(source, name)
        return _orientation(_with_metadata(data, name)) in _SIDEWAYS


def open_rgb(
    source: bytes | Path,
    name: str | None = None,
    at_least: int | None = None,
    region: Sequence[float] | None = None,
    colours: Colours = "srgb",
    notes: list[str] | None = None,
) -> Image.Image:
    """`decode` as a Pillow image of mode RGB, or the part of it in `region` (left, top, right and bottom edge).

    The region is in pixels of the whole upright image, and must lie inside it; it is rounded to whole pixels. `at_least` then applies to
    its shorter side. `notes` learns what the image has that its pixels may suffer from: "it has" and the note are a sentence.
    """
    name = _name(source, name)
    noted = [] if notes is None else notes
    with _reasons(name):
        data = source if isinstance(source, bytes) else read(source, name)
        image = _open(data, name)
        scale_key(image)
        full, raw = image.size, raw_mode(image)
        if at_least is not None and region is not None:
            across, down = full[::-1] if _orientation(image) in _SIDEWAYS else full
            at_least = math.ceil(at_least * max(across / (region[2] - region[0]), down / (region[3] - region[1])))
        image = _loaded(image, data, name, at_least, noted)
        shrunk = image.width / full[0] if image.format in JPEG else 1.0
        orientation = _orientation(image)
        rgb = as_srgb(image, data, name, colours, raw, noted)
        upright = rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb
        return upright if region is None else _cropped(upright, [edge * shrunk for edge in region])


def _loaded(image: ImageFile.ImageFile, data: bytes, name: str, at_least: int | None, notes: list[str]) -> ImageFile.ImageFile:
    """The image with its pixels, a JPEG at a scale that keeps `at_least` of them."""
    if image.format not in JPEG:
        image.load()
        return image
    if not ends_in_zeros(data):
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        try:
            image.load()
            return image
        except OSError as error:
            if not _is_cut(error):
                raise
    if (ended := with_end(data)) is None:
        raise UnreadableImage(name, _CUT)
    notes.append(MISSING_END)
    return _loaded(_open(ended, name), ended, name, at_least, notes)


def _cropped(image: Image.Image, region: Sequence[float]) -> Image.Image:
    left, top = min(round(region[0]), image.width - 1), min(round(region[1]), image.height - 1)
    return image.crop((left, top, max(round(region[2]), left + 1), max(round(region[3]), top + 1)))


def read(file: Path, name: str | None = None) -> bytes:
    """The bytes of an image's file. Raises UnreadableImage, also for a pipe or a device, which might never end."""
    name = _name(file, name)
    with _reasons(name):
        status = file.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UnreadableImage(name, "it is not a file but a pipe, a socket or a device")
        if status.st_size > FILE_LIMIT:
            raise UnreadableImage(name, f"the file is {status.st_size / 2**30:.1f} GiB, more than the limit of {FILE_LIMIT // 2**30} GiB")
        return file.read_bytes()


def _name(source: bytes | Path, name: str | None) -> str:
    if name is not None:
        return name
    return "image" if isinstance(source, bytes) else str(source)


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    if not data:
        raise UnreadableImage(name, "the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableImage(name, _unidentified(data)) from error
    if image.width * image.height > PIXEL_LIMIT:
        raise UnreadableImage(name, f"{image.width} x {image.height} pixels, more than the limit of {PIXEL_LIMIT // 1_000_000} million")
    if "progressive" in image.info and (scans := data.count(b"\xff\xda")) > SCAN_LIMIT:
        raise UnreadableImage(name, f"{scans:,} progressive scans, more than the limit of {SCAN_LIMIT}")
    return image


def _unidentified(data: bytes) -> str:
    """Why no format accepted `data`."""
    if data.count(0) == len(data):
        return "the file holds nothing but zeros"
    if data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in _HEIC_BRANDS) and "HEIF" not in _FORMATS:
        return f"it is a HEIC image, which needs {how_to_install('heif')}"
    for kind in _FORMATS:
        accepts = Image.OPEN[kind][1]
        if accepts is not None and accepts(data[:16]):
            return f"it begins like a {kind} file, but is damaged or of a kind that cannot be read"
    return "not an image in a format that can be read"


def _with_metadata(data: bytes, name: str) -> ImageFile.ImageFile:
    """The image, opened as far as its orientation can be told."""
    image = _open(data, name)
    if image.format == "PNG" and any(data.find(kind, data.rfind(b"IDAT")) >= 0 for kind in _LATE_METADATA):
        image.load()  # a PNG may hold its orientation after its pixels
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))  # PNG's own getexif decodes all pixels
    except Exception:  # a damaged EXIF block raises almost anything, and says nothing about the pixels
        return 1


@contextmanager
def _reasons(name: str) -> Iterator[None]:
    """Turn whatever the decoders raise into UnreadableImage."""
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(name, f"more pixels than the limit of {PIXEL_LIMIT // 1_000_000} million") from error
    except OSError as error:
        if error.errno is not None:
            raise UnreadableImage(name, f"the file cannot be read ({error.strerror})") from error
        raise UnreadableImage(name, _undecoded(error)) from error
    except Exception as error:  # decoders raise almost anything on damaged files
        raise UnreadableImage(name, _undecoded(error)) from error


def _undecoded(error: Exception) -> str:
    if _is_cut(error):
        return _CUT
    return f"it is damaged or of a kind that cannot be decoded ({str(error) or type(error).__name__})"


def _is_cut(error: Exception) -> bool:
    return "truncated" in str(error).lower()
