"""Random erasing (Zhong et al., 2020): a rectangle of a normalised image filled with noise, or with zeros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fieldmark.core.randomness import key
from fieldmark.core.recipe.augment import NoiseErasing, ZeroErasing

_TRIES = 10
DRAWS = 3 + 2 * _TRIES


@dataclass(frozen=True)
class Patch:
    """Values that cover a rectangle of one image."""

    index: int
    """Place of the image in its batch."""
    top: int
    left: int
    values: torch.Tensor
    """float32 (3, height, width)."""


def rectangles(erase: NoiseErasing | ZeroErasing, size: int, draws: np.ndarray) -> np.ndarray:
    """Top, left, height and width in pixels, int64 (n, 4), drawn as torchvision's RandomErasing does; all zero if none fits.

    `draws` are float64 (n, DRAWS) in [0, 1).
    """
    low, high = np.log(erase.aspect)
    area = (erase.area[0] + (erase.area[1] - erase.area[0]) * draws[:, 3::2]) * size**2
    aspect = np.exp(low + (high - low) * draws[:, 4::2])
    heights, widths = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (heights < size) & (widths < size)
    each, chosen = np.arange(len(draws)), fits.argmax(axis=1)
    height, width = heights[each, chosen], widths[each, chosen]
    corners = np.floor(draws[:, 1:3] * (size + 1 - np.stack([height, width], axis=1)))
    return np.where(fits.any(axis=1, keepdims=True), np.column_stack([corners, height, width]), 0).astype(np.int64)


def patches(erase: NoiseErasing | ZeroErasing, size: int, draws: np.ndarray, stream: int, samples: np.ndarray) -> list[Patch]:
    """One for each image in which something is erased. Noise is standard normal, a function of the stream and the sample alone."""
    found = []
    chosen = np.flatnonzero(draws[:, 0] < erase.probability)
    for index, (top, left, height, width) in zip(chosen, rectangles(erase, size, draws[chosen]).tolist(), strict=True):
        if height * width == 0:
            continue
        if isinstance(erase, NoiseErasing):
            generator = torch.Generator().manual_seed(key(stream, int(samples[index])))
            values = torch.randn((3, height, width), generator=generator)
        else:
            values = torch.zeros((3, height, width))
        found.append(Patch(int(index), top, left, values))
    return found


def cover(images: torch.Tensor, covering: list[Patch]) -> None:
    """Lay the patches over float32 (n, 3, size, size), in place."""
    for patch in covering:
        _, height, width = patch.values.shape
        area = images[patch.index, :, patch.top : patch.top + height, patch.left : patch.left + width]
        area.copy_(patch.values)
