"""The operations of policies that change colours, on uint8 pictures.

Each agrees with torchvision's of the same name on uint8, exactly but for rounding errors of single precision, which may move a value by one
level. One formula serves NumPy, for one picture at a time, and torch, for many at once: `pictures` are uint8 (n, height, 3 * width), the
colours of a pixel side by side, and stay as they are; `strengths` are float32 (n, 1, 1), as `Operation` has them; what an operator returns
is to be cut off to whole numbers. NumPy works in one thread, as the background thread that fetches batches must.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fieldmark.data.photometric import GREY
from fieldmark.data.policies import Drawn, Operation


def change_views(views: np.ndarray, drawn: Drawn) -> None:
    """Apply what was drawn to uint8 (n, 3, height, width) with the colours of a pixel side by side in memory, in place."""
    rows = views.transpose(0, 2, 3, 1).reshape(len(views), views.shape[2], -1)
    assert np.shares_memory(rows, views)
    for operations, strengths in zip(drawn.operations.T, drawn.strengths.T.astype(np.float32), strict=True):
        for index, operation in enumerate(operations.tolist()):
            if operation in OPERATORS:
                picture = rows[index : index + 1]
                picture[:] = OPERATORS[operation](picture, strengths[index].reshape(1, 1, 1))


def change_pictures(pictures: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    """Apply what was drawn to float32 (n, 3, height, width) on any device, rounded to whole grey levels first."""
    count, _, height, width = pictures.shape
    rows = pictures.round().byte().permute(0, 2, 3, 1).reshape(count, height, 3 * width)
    for operations, strengths in zip(drawn.operations.T, drawn.strengths.T, strict=True):
        for operation in np.unique(operations):
            if operation in OPERATORS:
                chosen = np.flatnonzero(operations == operation)
                places = torch.from_numpy(chosen).to(rows.device)
                strength = torch.from_numpy(strengths[chosen].astype(np.float32)).to(rows.device).view(-1, 1, 1)
                rows[places] = OPERATORS[operation](rows[places], strength).byte()
    return rows.view(count, height, width, 3).permute(0, 3, 1, 2).float()


def brightness(pictures: Any, strengths: Any) -> Any:
    changed = _floats(pictures)
    changed *= 1 + strengths
    return _clipped(changed)


def contrast(pictures: Any, strengths: Any) -> Any:
    """Blend with the picture's mean grey level."""
    changed = _floats(pictures)
    mean = _grey(changed).mean((1, 2)).reshape(-1, 1, 1)
    changed *= 1 + strengths
    changed -= mean * strengths
    return _clipped(changed)


def color(pictures: Any, strengths: Any) -> Any:
    """Blend with the picture in grey."""
    changed = _floats(pictures)
    grey = _grey(changed)
    grey *= strengths
    changed *= 1 + strengths
    for colour in range(3):
        changed[..., colour::3] -= grey
    return _clipped(changed)


def sharpness(pictures: Any, strengths: Any) -> Any:
    """Blend with the picture smoothed by a filter of 3 x 3 pixels, but for its outermost ones."""
    inner = pictures[:, 1:-1, 3:-3]
    whole = _shorts(pictures)
    columns = whole[:, :-2] + whole[:, 1:-1]
    columns += whole[:, 2:]
    smooth = columns[..., :-6] + columns[..., 3:-3]
    smooth += columns[..., 6:]
    smooth += 4 * whole[:, 1:-1, 3:-3]
    smooth += 6
    smooth //= 13
    smooth -= inner
    changed = _floats(pictures)
    changed[:, 1:-1, 3:-3] -= smooth * strengths
    return _clipped(changed)


def posterize(pictures: Any, strengths: Any) -> Any:
    """Keep the highest bits."""
    return pictures & _bytes(256 - 2 ** (8 - strengths))


def solarize(pictures: Any, strengths: Any) -> Any:
    """Invert what is at or above the threshold."""
    bright = pictures >= _bytes(_library(pictures).ceil(255 * strengths))
    return pictures ^ (_bytes(bright) * 255)


def auto_contrast(pictures: Any, strengths: Any) -> Any:
    """Stretch each colour to the full range; one of a single grey level stays."""
    library, count, width = _library(pictures), len(pictures), pictures.shape[2] // 3
    lowest = _floats(library.amin(library.amin(pictures, 1).reshape(count, width, 3), 1))
    highest = _floats(library.amax(library.amax(pictures, 1).reshape(count, width, 3), 1))
    flat = highest == lowest
    changed = _floats(pictures)
    changed -= library.tile(lowest * ~flat, (1, width))[:, None]
    changed /= library.tile((highest - lowest) * (1 / 255) + flat, (1, width))[:, None]
    return _clipped(changed)


def equalize(pictures: Any, strengths: Any) -> Any:
    """Spread the grey levels of each colour evenly; one that has hardly more than its highest level stays."""
    library, count, width = _library(pictures), len(pictures), pictures.shape[2] // 3
    first = library.arange(0, 768 * count, 256).reshape(count, 3)
    places = pictures + _beside(library.tile(first, (1, width))[:, None], pictures)
    histogram = library.bincount(places.reshape(-1), minlength=768 * count).reshape(3 * count, 256)
    up_to = library.cumsum(histogram, 1)
    below_highest = library.amax(up_to * (up_to < up_to[:, -1:]), 1)[:, None]
    step = below_highest // 255
    spread = library.clip((up_to - histogram + step // 2) // library.clip(step, 1, None), 0, 255)
    return library.take(_bytes(library.where(step > 0, spread, _beside(library.arange(256), pictures))), places)


def invert(pictures: Any, strengths: Any) -> Any:
    return 255 - pictures


OPERATORS: dict[int, Callable[[Any, Any], Any]] = {
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


def _library(pictures: Any) -> Any:
    return torch if isinstance(pictures, torch.Tensor) else np


def _floats(values: Any) -> Any:
    return values.float() if isinstance(values, torch.Tensor) else values.astype(np.float32)


def _shorts(values: Any) -> Any:
    return values.short() if isinstance(values, torch.Tensor) else values.astype(np.int16)


def _bytes(values: Any) -> Any:
    return values.byte() if isinstance(values, torch.Tensor) else values.astype(np.uint8)


def _beside(values: Any, pictures: Any) -> Any:
    """On the device of the pictures."""
    return values.to(pictures.device) if isinstance(pictures, torch.Tensor) else values


def _clipped(values: Any) -> Any:
    return _library(values).clip(values, 0, 255, out=values)


def _grey(values: Any) -> Any:
    """Whole grey levels, rounded down."""
    grey = values[..., 0::3] * GREY[0]
    grey += values[..., 1::3] * GREY[1]
    grey += values[..., 2::3] * GREY[2]
    return _library(values).floor(grey, out=grey)
