"""MixUp (Zhang et al., 2018) and CutMix (Yun et al., 2019): each image of a batch mixed with the next one, and their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special
import torch

from fieldmark.core.recipe.augment import Cutmix, Mixup, MixupOrCutmix

DRAWS = 5


@dataclass(frozen=True)
class Mixture:
    """How n images are mixed with those that follow them."""

    shares: np.ndarray
    """float32 (n,): share of each image, and of its label, that is kept; 1 if it is not mixed."""
    boxes: np.ndarray
    """int64 (n, 4): top, left, bottom and right of the pasted box, in pixels; all zero if there is none."""


def draw(mix: Mixup | Cutmix | MixupOrCutmix, size: int, draws: np.ndarray) -> Mixture:
    """Shares from a Beta distribution, and for CutMix a box with the rest of the area around a random pixel, clipped at the border.

    With CutMix the share is that of the pixels kept. `draws` are float64 (n, DRAWS) in [0, 1).
    """
    mixed = draws[:, 0] < mix.probability
    if isinstance(mix, MixupOrCutmix):
        pasted = mixed & (draws[:, 1] >= 0.5)
        alpha = np.where(pasted, mix.cutmix_alpha, mix.mixup_alpha)
    else:
        pasted = mixed & isinstance(mix, Cutmix)
        alpha = np.full(len(draws), mix.alpha)
    shares = np.ones(len(draws))
    shares[mixed] = scipy.special.betaincinv(alpha[mixed], alpha[mixed], draws[mixed, 2])
    half = np.floor(np.sqrt(1 - shares) / 2 * size)[:, None]
    middle = np.floor(draws[:, 3:5] * size)
    boxes = np.concatenate([middle - half, middle + half], axis=1).clip(0, size).astype(np.int64)
    boxes[~pasted] = 0
    covered = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    shares[pasted] = 1 - covered[pasted] / size**2
    return Mixture(shares.astype(np.float32), boxes)


def mix_images(images: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Each of float32 (n, 3, size, size) mixed with the next, the last with the first."""
    size, device = images.shape[-1], images.device
    pasted = mixture.boxes[:, 2] > mixture.boxes[:, 0]
    weights = torch.from_numpy(np.where(pasted, 1, mixture.shares)).to(device).view(-1, 1, 1, 1)
    if pasted.any():
        pixels = torch.arange(size, device=device)
        top, left, bottom, right = torch.from_numpy(mixture.boxes).to(device).T[:, :, None]
        down, across = (pixels >= top) & (pixels < bottom), (pixels >= left) & (pixels < right)
        weights = weights * ~(down[:, :, None] & across[:, None, :])[:, None]
    return torch.lerp(images.roll(-1, 0), images, weights)
