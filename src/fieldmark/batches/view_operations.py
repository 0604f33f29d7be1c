"""The colour operations of policies for single images, in one thread: those of `operations`, fast on a CPU.

An image is uint8 (height, width, 3), channels last in memory, and is changed in place; strengths are as `Operation` defines them. Half a
level is subtracted before OpenCV rounds, because torchvision truncates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fieldmark.batches.photometric import GREY
from fieldmark.batches.policies import Drawn, Operation
from fieldmark.runtime.opencv import opencv

_DOWN = -0.4999
_LEVELS = np.arange(256, dtype=np.float32)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
_TO_GREY = np.array([[*GREY, _DOWN]], np.float32)


def change_views(views: np.ndarray, drawn: Drawn) -> None:
    """Apply the drawn operations to uint8 (n, 3, height, width), channels last in memory, in place."""
    images = views.transpose(0, 2, 3, 1)
    assert images.flags.c_contiguous
    for operations, strengths in zip(drawn.operations.T, drawn.strengths.T.astype(np.float32), strict=True):
        for image, operation, strength in zip(images, operations.tolist(), strengths, strict=True):
            if operation in OPERATORS:
                OPERATORS[operation](image, strength)


def brightness(image: np.ndarray, strength: np.float32) -> None:
    opencv().LUT(image, _whole(_LEVELS * (1 + strength)), image)


def contrast(image: np.ndarray, strength: np.float32) -> None:
    """Blend with the image's mean grey level."""
    cv2 = opencv()
    mean = cv2.mean(cv2.transform(image, _TO_GREY))[0]
    cv2.addWeighted(image, 1 + strength, image, 0, _DOWN - mean * strength, image)


def color(image: np.ndarray, strength: np.float32) -> None:
    """Blend with the image in grey."""
    cv2 = opencv()
    grey = cv2.cvtColor(cv2.transform(image, _TO_GREY), cv2.COLOR_GRAY2RGB)
    cv2.addWeighted(image, 1 + strength, grey, -strength, _DOWN, image)


def sharpness(image: np.ndarray, strength: np.float32) -> None:
    """Blend with the image smoothed by a filter of 3 x 3 pixels, except its outermost ones."""
    cv2 = opencv()
    changed = cv2.addWeighted(image, 1 + strength, cv2.filter2D(image, -1, _SMOOTH), -strength, _DOWN)
    image[1:-1, 1:-1] = changed[1:-1, 1:-1]


def posterize(image: np.ndarray, strength: np.float32) -> None:
    """Keep the highest bits."""
    image &= np.uint8(256 - 2 ** (8 - int(strength)))


def solarize(image: np.ndarray, strength: np.float32) -> None:
    """Invert what is at or above the threshold."""
    cv2 = opencv()
    _, bright = cv2.threshold(image, np.ceil(255 * strength) - 1, 255, cv2.THRESH_BINARY)
    np.bitwise_xor(image, bright, out=image)


def auto_contrast(image: np.ndarray, strength: np.float32) -> None:
    """Stretch each channel to the full range, unless it has a single grey level."""
    cv2 = opencv()
    colours = cv2.split(image)
    lowest, highest = np.array([cv2.minMaxLoc(colour)[:2] for colour in colours], np.float32).T[..., None]
    flat = highest == lowest
    _look_up(colours, _whole((_LEVELS - lowest * ~flat) / ((highest - lowest) * np.float32(1 / 255) + flat)), image)


def equalize(image: np.ndarray, strength: np.float32) -> None:
    """Spread the grey levels of each channel evenly, unless it has hardly more than its highest level."""
    cv2 = opencv()
    colours = cv2.split(image)
    histogram = np.array([cv2.calcHist([colour], [0], None, [256], [0, 256]) for colour in colours], np.int32).reshape(3, 256)
    up_to = histogram.cumsum(axis=1)
    step = np.where(up_to < up_to[:, -1:], up_to, 0).max(axis=1, keepdims=True) // 255
    spread = (up_to - histogram + step // 2) // step.clip(1)
    _look_up(colours, _whole(np.where(step > 0, spread, _LEVELS)), image)


def invert(image: np.ndarray, strength: np.float32) -> None:
    np.subtract(255, image, out=image)


OPERATORS: dict[int, Callable[[np.ndarray, np.float32], None]] = {
    Operation.BRIGHTNESS: brightness,
    Operation.COLOR: color,
    Operation.CONTRAST: contrast,
    Operation.SHARPNESS: sharpness,
    Operation.POSTERIZE: posterize,
    Operation.SOLARIZE: solarize,
    Operation.AUTO_CONTRAST: auto_contrast,
    Operation.EQUALIZE: equalize,
    Operation.INVERT: invert,
}


def _whole(table: np.ndarray) -> np.ndarray:
    """Truncate to whole levels from 0 to 255, uint8."""
    return table.clip(0, 255).astype(np.uint8)


def _look_up(colours: Sequence[np.ndarray], tables: np.ndarray, image: np.ndarray) -> None:
    """Look the levels of each channel up in `tables`, uint8 (3, 256), and write the results into the image."""
    cv2 = opencv()
    cv2.merge([cv2.LUT(colour, table) for colour, table in zip(colours, tables, strict=True)], image)
