"""The colour operations of policies, for batches on any device; `view_operations` has them for single images on a CPU.

Each matches torchvision's operation of the same name on uint8, except for rounding errors of single precision, which may change a value by
one level. `images` are uint8 (n, 3, height, width) and are not changed; `strengths` are float32 (n, 1, 1, 1), as `Operation` defines them;
the caller truncates the result to whole numbers from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fieldmark.batches.photometric import GREY
from fieldmark.batches.policies import Drawn, Operation


def change_images(images: Tensor, drawn: Drawn) -> Tensor:
    """Apply the drawn operations to float32 (n, 3, height, width), rounded to whole grey levels first."""
    changed = images.round().byte()
    for operations, strengths in zip(drawn.operations.T, drawn.strengths.T, strict=True):
        for operation in np.unique(operations):
            if operation in OPERATORS:
                chosen = np.flatnonzero(operations == operation)
                places = torch.from_numpy(chosen).to(changed.device)
                strength = torch.from_numpy(strengths[chosen].astype(np.float32)).to(changed.device).view(-1, 1, 1, 1)
                changed[places] = OPERATORS[operation](changed[places], strength).clamp(0, 255).byte()
    return changed.float()


def brightness(images: Tensor, strengths: Tensor) -> Tensor:
    return images * (1 + strengths)


def contrast(images: Tensor, strengths: Tensor) -> Tensor:
    """Blend with the image's mean grey level."""
    return images * (1 + strengths) - _grey(images).mean((1, 2, 3), keepdim=True) * strengths


def color(images: Tensor, strengths: Tensor) -> Tensor:
    """Blend with the image in grey."""
    return images * (1 + strengths) - _grey(images) * strengths


def sharpness(images: Tensor, strengths: Tensor) -> Tensor:
    """Blend with the image smoothed by a filter of 3 x 3 pixels, except its outermost ones."""
    whole = images.short()
    inner = whole[..., 1:-1, 1:-1]
    columns = whole[..., :-2, :] + whole[..., 1:-1, :] + whole[..., 2:, :]
    smooth = (columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:] + 4 * inner + 6) // 13
    changed = images.float()
    changed[..., 1:-1, 1:-1] -= (smooth - inner) * strengths
    return changed


def posterize(images: Tensor, strengths: Tensor) -> Tensor:
    """Keep the highest bits."""
    return images & (256 - 2 ** (8 - strengths)).byte()


def solarize(images: Tensor, strengths: Tensor) -> Tensor:
    """Invert what is at or above the threshold."""
    return torch.where(images >= (255 * strengths).ceil(), 255 - images, images)


def auto_contrast(images: Tensor, strengths: Tensor) -> Tensor:
    """Stretch each channel to the full range, unless it has a single grey level."""
    lowest, highest = (extreme((2, 3), keepdim=True).float() for extreme in (images.amin, images.amax))
    flat = highest == lowest
    return (images - lowest * ~flat) / ((highest - lowest) * (1 / 255) + flat)


def equalize(images: Tensor, strengths: Tensor) -> Tensor:
    """Spread the grey levels of each channel evenly, unless it has hardly more than its highest level."""
    colours = len(images) * 3
    first = torch.arange(0, 256 * colours, 256, device=images.device).view(-1, 3, 1, 1)
    places = images + first
    histogram = torch.bincount(places.flatten(), minlength=256 * colours).view(colours, 256)
    up_to = histogram.cumsum(1)
    step = (up_to * (up_to < up_to[:, -1:])).amax(1, keepdim=True) // 255
    spread = ((up_to - histogram + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step > 0, spread, torch.arange(256, device=images.device)).take(places)


def invert(images: Tensor, strengths: Tensor) -> Tensor:
    return 255 - images


OPERATORS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
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


def _grey(images: Tensor) -> Tensor:
    """Whole grey levels, rounded down: float32 (n, 1, height, width)."""
    red, green, blue = images.split(1, dim=1)
    return (red * GREY[0] + green * GREY[1] + blue * GREY[2]).floor()
