"""A network that computes as it will in 8 bits: weights and the inputs of layers are rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fieldmark.exports.network import Deployed

_BATCH = 16


@contextmanager
def rounding(network: Deployed, images: Tensor) -> Iterator[None]:
    """In this block the network computes with rounded numbers, in ranges that these images have shown: uint8 (n, 3, S, S).

    Weights are rounded per output channel and the inputs of layers per tensor, straight through which the gradient passes. The layers are
    those of `rounded_layers`.
    """
    layers = rounded_layers(network, images)
    inputs = {layer: _Input() for layer in layers}
    hooks = [layer.register_forward_pre_hook(each) for layer, each in inputs.items()]
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            network(images[start : start + _BATCH])
    for each in inputs.values():
        each.observing = False
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _Rounded())
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


@torch.no_grad()
def rounded_layers(network: Deployed, images: Tensor) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers on maps or tokens, in the order in which they compute, without the first.

    The first, and those on pooled features, are what the cures may leave in float32.
    """
    found: list[nn.Conv2d | nn.Linear] = []

    def look(layer: nn.Conv2d | nn.Linear, given: tuple[Tensor, ...]) -> None:
        if layer not in found and (given[0].ndim == 3 or (given[0].ndim == 4 and given[0].shape[2:].numel() > 1)):
            found.append(layer)

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        network(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return found[1:]


class _Rounded(nn.Module):
    """Of weights, symmetric per output channel: what stands in the graph."""

    def forward(self, weight: Tensor) -> Tensor:
        scales = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)


@dataclass
class _Input:
    """What a layer takes in: its extremes while observing, which always hold 0; then it is rounded in that range."""

    low: float = 0.0
    high: float = 0.0
    observing: bool = True

    def __call__(self, layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *others = given
        if self.observing:
            self.low, self.high = min(self.low, float(images.min())), max(self.high, float(images.max()))
            return given
        scale = max((self.high - self.low) / 255, 1e-12)
        return torch.fake_quantize_per_tensor_affine(images, scale, round(-self.low / scale), 0, 255), *others
