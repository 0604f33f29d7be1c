"""Bias correction: layers that compute in 8 bits return, on average, what they return in float32."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.exports.network import Deployed
from fieldmark.exports.rounding import rounded_layers, rounding

_PIXELS = 64 * 224**2
_FEWEST, _MOST = 16, 64
"""Images, which go through the network together."""


@torch.no_grad()
def bias_corrected(network: Deployed, images: np.ndarray) -> Deployed:
    """A copy with other biases, and with biases where there were none.

    Rounding shifts the mean of a channel, and the shifts of many layers add up (Nagel et al., Data-Free Quantization, ICCV 2019). Layers
    are corrected one after the other, each on what the corrected layers before it return.

    images: uint8 (n, 3, S, S), of which as many are looked at as memory holds. The same arguments return the same weights.
    """
    corrected = copy.deepcopy(network)
    seen = torch.from_numpy(images[: max(_FEWEST, min(_MOST, _PIXELS // images[0, 0].size))])
    layers = rounded_layers(corrected, seen)
    expected: dict[nn.Module, Tensor] = {}

    def expect(layer: nn.Module, given: tuple[Tensor, ...], returned: Tensor) -> None:
        expected[layer] = _means(returned)

    def correct(layer: nn.Conv2d | nn.Linear, given: tuple[Tensor, ...], returned: Tensor) -> Tensor:
        shift = expected[layer] - _means(returned)
        layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias + shift, requires_grad=False)
        return returned + (shift[:, None, None] if returned.ndim == 4 else shift)

    _call(corrected, layers, expect, seen)
    with rounding(corrected, seen):
        _call(corrected, layers, correct, seen)
    return corrected


def _call(network: Deployed, layers: list[nn.Conv2d | nn.Linear], hook: Callable[..., Tensor | None], images: Tensor) -> None:
    hooks = [layer.register_forward_hook(hook) for layer in layers]
    try:
        network(images)
    finally:
        for each in hooks:
            each.remove()


def _means(returned: Tensor) -> Tensor:
    """Of each channel: the second dimension of maps, and the last of tokens."""
    return returned.mean((0, 2, 3)) if returned.ndim == 4 else returned.flatten(0, -2).mean(0)
