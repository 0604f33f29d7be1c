"""Images that are in memory already, as the bytes of a file, so that the one decoder reads them as it reads files.

They are PIL images, NumPy arrays, bytes, and files that are open for reading.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, JpegImagePlugin

from fieldmark.core.arguments import described
from fieldmark.core.errors import InputError

InMemory = bytes | bytearray | memoryview | np.ndarray | Image.Image
Source = str | Path | InMemory | IO[bytes]
"""A file, a folder or a pattern, or an image in memory."""

_KINDS = "Give files, folders, patterns, PIL images, NumPy arrays, bytes or open files; one, or a list of them."
_CHANNELS = (1, 3, 4)
_NEAREST_MODE = {"RGBX": "RGB", "RGBa": "RGBA", "La": "LA", "PA": "RGBA", "YCbCr": "RGB", "HSV": "RGB"}
"""Modes of Pillow that no file has, and those that hold the same colours."""


def each_of(sources: Any) -> Iterable[Any]:
    """One source or several, one by one. A batch, uint8 (n, height, width, channels), is its images.

    Raises InputError for a batch with the channels first.
    """
    if isinstance(sources, np.ndarray):
        if sources.ndim == 4 and sources.shape[1] in _CHANNELS and sources.shape[3] not in _CHANNELS:
            what = f"the images are an array of the shape {_shape(sources)}, with the channels first"
            raise InputError(what, hint="Put them last: array.transpose(0, 2, 3, 1).")
        return sources if sources.ndim == 4 else [sources]
    several = isinstance(sources, Iterable) and not isinstance(sources, str | bytes | bytearray | memoryview | Mapping)
    return sources if several and not hasattr(sources, "read") and not _is_tensor(sources) else [sources]


def opened(source: Any, number: int) -> str | Path | InMemory:
    """The same source, or what its file holds if that is open; `number` is its place among all, from 1.

    A JPEG file is decoded at a lower resolution where that is enough, which gives slightly other pixels than decoding all of them and
    resizing. So a picture of one that Pillow has only opened is its file.

    Raises InputError, with the remedy, for what is no image or could be understood in several ways.
    """
    if isinstance(source, str | Path | bytes | bytearray | memoryview):
        return source
    if isinstance(source, np.ndarray):
        problem, remedy = _wrong_with_array(source)
    elif isinstance(source, Image.Image):
        if (file := _jpeg_file(source)) is not None:
            return file
        problem, remedy = _wrong_with_picture(source)
    elif callable(getattr(source, "read", None)):
        return _read(source, number)
    elif _is_tensor(source):
        problem, remedy = "a tensor", "Give NumPy arrays: tensor.permute(1, 2, 0).numpy(), with uint8 values from 0 to 255."
    else:
        problem, remedy = described(source), _KINDS
    if problem:
        raise InputError(f"image {number} is {problem}", hint=remedy)
    return source


def encoded(image: InMemory) -> bytes:
    """The image as the bytes of a file that decodes to the same pixels; `opened` has accepted it."""
    if isinstance(image, np.ndarray):
        return _encoded_array(image)
    return _encoded_picture(image) if isinstance(image, Image.Image) else bytes(image)


def _shape(array: np.ndarray) -> str:
    return f"({', '.join(map(str, array.shape))})"


def _wrong_with_array(array: np.ndarray) -> tuple[str, str]:
    """What it is and the remedy, if it is no image; two empty texts otherwise."""
    shape, kind = _shape(array), f"an array of {array.dtype}"
    if array.dtype.kind in "USO" and array.ndim < 2:
        return kind, "Give a list: array.tolist()." if array.ndim else "Give what it holds: array.item()."
    if array.dtype.kind in "USO":
        return f"{kind} of the shape {shape}", "Pixels are uint8: array.astype(numpy.uint8). Names are a list: array.ravel().tolist()."
    if array.ndim < 2:
        return f"an array of the shape {shape}", "An image is an array (height, width, 3) of uint8."
    if array.dtype.kind == "f":
        return f"{kind}, whose range is unknown", "If it is from 0 to 1: (255 * array).round().astype(numpy.uint8)."
    if array.dtype != np.uint8:
        return kind, "Give uint8 values from 0 to 255."
    if array.ndim == 4:
        return f"an array of the shape {shape}", "Give the images of a batch one by one: list(batch)."
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        return f"an array of the shape {shape}, with the channels first", "Put them last: array.transpose(1, 2, 0)."
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        remedy = "An image is (height, width, 3) in the order red, green, blue, (height, width, 4) with alpha, or grey (height, width)."
        return f"an array of the shape {shape}", remedy
    return ("an array without pixels", "Leave it out.") if array.size == 0 else ("", "")


def _wrong_with_picture(picture: Image.Image) -> tuple[str, str]:
    """As _wrong_with_array. Reads the pixels, which Pillow may have left in their file."""
    try:
        picture.load()
    except Exception as error:  # decoders raise almost anything on damaged files
        return f"a PIL image that cannot be read ({error})", "Give the path of its file: its answer will say why there is none."
    if picture.mode in ("F", "I"):
        return f"a PIL image of mode {picture.mode}, whose range is unknown", "Convert it to 8 bits: PIL.Image.fromarray of a uint8 array."
    return ("a PIL image without pixels", "Leave it out.") if 0 in picture.size else ("", "")


def _jpeg_file(picture: Image.Image) -> bytes | None:
    """The JPEG file that a picture was opened from, if nobody has read or changed the picture since; the file's position stays."""
    if not isinstance(picture, JpegImagePlugin.JpegImageFile) or picture.fp is None:
        return None
    try:
        position = picture.fp.tell()
        picture.fp.seek(0)
        content = picture.fp.read()
        picture.fp.seek(position)
        return content if _told(Image.open(io.BytesIO(content))) == _told(picture) else None
    except (OSError, ValueError):  # the file was closed, or the picture is a part of it
        return None


def _told(picture: Image.Image) -> tuple[Any, ...]:
    """What a picture says of itself before it is read."""
    return picture.size, picture.mode, picture.info, picture.tell(), dict(picture.getexif())


def _read(file: Any, number: int) -> bytes:
    """All of an open file, from its beginning; its position stays."""
    try:
        position = file.tell() if file.seekable() else None
        if position is not None:
            file.seek(0)
        content = file.read()
        if position is not None:
            file.seek(position)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"image {number} is an open file that cannot be read ({error})", hint="Give its path.") from None
    if not isinstance(content, bytes):
        raise InputError(f"image {number} is a file that is open for reading text", hint='Open it with open(path, "rb").')
    return content


def _encoded_array(array: np.ndarray) -> bytes:
    if array.ndim == 3 and array.shape[2] == 4:
        return _encoded_picture(Image.fromarray(array))
    grey = array.ndim == 2 or array.shape[2] == 1
    return f"P{5 if grey else 6} {array.shape[1]} {array.shape[0]} 255\n".encode() + np.ascontiguousarray(array).tobytes()


def _encoded_picture(picture: Image.Image) -> bytes:
    """With its orientation, colour profile and transparency."""
    image = picture.convert(_NEAREST_MODE[picture.mode]) if picture.mode in _NEAREST_MODE else picture
    stream, kept = io.BytesIO(), ("icc_profile", "transparency")
    options: dict[str, Any] = {name: picture.info[name] for name in kept if picture.info.get(name) is not None}
    if len(exif := picture.getexif()):
        options["exif"] = exif
    if image.mode in ("RGB", "L") and not options:
        image.save(stream, "PPM")
    elif image.mode in ("CMYK", "LAB"):
        image.save(stream, "TIFF", **options)
    else:
        image.save(stream, "PNG", compress_level=1, **options)
    return stream.getvalue()


def _is_tensor(source: Any) -> bool:
    """Whether it is PyTorch's, or another library's that can make an array of itself."""
    return hasattr(source, "__array__") and not isinstance(source, np.ndarray | Image.Image)
