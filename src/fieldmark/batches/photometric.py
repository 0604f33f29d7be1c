"""Colour jitter of a batch: brightness, contrast, saturation, hue and lighting, each image with its own factors.

Every operator but lighting matches torchvision's of the same name for the same factor. Tensors are float32 (n, 3, height, width) in 0 …
255.
"""

from __future__ import annotations

import numpy as np
import scipy.special
import torch

from fieldmark.core.recipe.augment import Augment

DRAWS = 4
LIGHTING_DRAWS = 3
GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey level."""
_PRINCIPAL_SPREADS = (0.2175, 0.0188, 0.0045)
_PRINCIPAL_COLOURS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Eigenvalues and eigenvectors (columns; rows are red, green, blue) of the colours of ImageNet's pixels on a scale from 0 to 1."""


def jitter(images: torch.Tensor, augment: Augment, draws: np.ndarray) -> torch.Tensor:
    """Apply the operators whose strength is not zero, in the order brightness, contrast, saturation, hue.

    Args:
        images: changed in place if possible.
        draws: float64 (n, DRAWS) in [0, 1).
    """
    signed = draws * 2 - 1
    steps = ((augment.brightness, brightness), (augment.contrast, contrast), (augment.saturation, saturation))
    for column, (strength, operator) in enumerate(steps):
        if strength:
            images = operator(images, _per_image(images, 1 + signed[:, column] * strength))
    if augment.hue:
        images = hue(images, _per_image(images, signed[:, 3] * augment.hue))
    return images


def lighting(images: torch.Tensor, deviation: float, draws: np.ndarray) -> torch.Tensor:
    """Shift each image's colour along the principal components of ImageNet's pixels, as AlexNet did (Krizhevsky et al., 2012).

    The shift along each component is a normal number with this standard deviation, times the eigenvalue on a scale from 0 to 1: with 0.1,
    the paper's value, the colours shift by about 3 grey levels.

    Args:
        images: changed in place.
        deviation: 0.1 in the paper.
        draws: float64 (n, LIGHTING_DRAWS) in [0, 1).
    """
    amounts = deviation * scipy.special.ndtri(draws.clip(2.0**-54)) * _PRINCIPAL_SPREADS
    shift = torch.from_numpy((255 * amounts @ np.transpose(_PRINCIPAL_COLOURS)).astype(np.float32)).to(images.device)
    return images.add_(shift[:, :, None, None]).clamp_(0, 255)


def brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return images.mul_(factor).clamp_(0, 255)


def contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the image's mean grey level."""
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return images.sub_(mean).mul_(factor).add_(mean).clamp_(0, 255)


def saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the image in grey."""
    grey = _grey(images)
    return images.sub_(grey).mul_(factor).add_(grey).clamp_(0, 255)


def hue(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Turn the hue by a share of the colour circle, keeping saturation and value (HSV)."""
    value, largest = images.max(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    red, green, blue = images.unsqueeze(2).unbind(1)
    safe = torch.where(chroma == 0, 1.0, chroma)
    sector = torch.where(largest == 0, (green - blue) / safe, torch.where(largest == 1, 2 + (blue - red) / safe, 4 + (red - green) / safe))
    turned = sector + turn * 6
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    distance = (turned + offsets) % 6
    return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)


def _grey(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.unsqueeze(2).unbind(1)
    return red * GREY[0] + green * GREY[1] + blue * GREY[2]


def _per_image(images: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(images.device).view(-1, 1, 1, 1)
