"""Quantisation-aware fine-tuning: a network learns to answer as it did although numbers are rounded to 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fieldmark.core.console import Console
from fieldmark.core.randomness import key, permutation
from fieldmark.exports.network import Deployed

IMAGES = 2048
"""Of train, that it learns on."""
_BATCH = 32
_OBSERVED = 128
_RATE = 1e-4
_WORK = 6e11
"""Multiply-adds of forward passes: about a minute of two cores."""
_FEWEST, _MOST = 8, 200
"""Steps."""


def fine_tuned(network: Deployed, images: np.ndarray, macs: int, console: Console) -> Deployed:
    """A copy that answers alike, and more so once it is quantised; `macs` are its multiply-adds per image.

    Weights are rounded per output channel and the inputs of layers per tensor, straight through which the gradient passes (Jacob et al.,
    CVPR 2018); logits and features are held to those in float32. The first layer and layers on pooled features are not rounded: other
    cures leave them in float32. The same arguments return the same weights.

    images: uint8 (n, 3, S, S). BatchNorm keeps its statistics.
    """
    student = copy.deepcopy(network).requires_grad_(True)
    steps = max(_FEWEST, min(_MOST, round(_WORK / max(macs, 1) / _BATCH)))
    optimizer = torch.optim.Adam(student.parameters(), lr=_RATE)
    with console.progress("fine-tuning", "images") as advance, _rounding(student, images[:_OBSERVED]):
        for step, places in zip(range(steps), _batches(len(images)), strict=False):
            seen = torch.from_numpy(images[places])
            with torch.no_grad():
                wanted = network(seen)[:2]
            for group in optimizer.param_groups:
                group["lr"] = _RATE * (1 + cos(pi * step / steps)) / 2
            optimizer.zero_grad()
            loss = sum((_error(*each) for each in zip(student(seen)[:2], wanted, strict=True)), torch.zeros(()))
            loss.backward()
            optimizer.step()
            advance((step + 1) * _BATCH, steps * _BATCH)
    return student.requires_grad_(False).eval()


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


@contextmanager
def _rounding(network: Deployed, images: np.ndarray) -> Iterator[None]:
    """In this block the network computes with rounded numbers, in ranges that these images have shown."""
    layers = _rounded_layers(network, images[:1])
    inputs = {layer: _Input() for layer in layers}
    hooks = [layer.register_forward_pre_hook(each) for layer, each in inputs.items()]
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            network(torch.from_numpy(images[start : start + _BATCH]))
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
def _rounded_layers(network: Deployed, images: np.ndarray) -> list[nn.Module]:
    """Convolutions and linear layers on maps or tokens, without the first."""
    found: list[nn.Module] = []

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if layer not in found and (given[0].ndim == 3 or (given[0].ndim == 4 and given[0].shape[2:].numel() > 1)):
            found.append(layer)

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        network(torch.from_numpy(images))
    finally:
        for hook in hooks:
            hook.remove()
    return found[1:]


def _batches(n: int) -> Iterator[np.ndarray]:
    """Places of `n` images, in a new order each time around."""
    epoch = 0
    while True:
        order = permutation(key(0, "fine-tuning", epoch), n)
        for start in range(0, max(n - _BATCH + 1, 1), _BATCH):
            yield order[start : start + _BATCH]
        epoch += 1


def _error(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared, relative to how the wanted vary."""
    return (found - wanted).square().mean() / wanted.var().clamp(min=1e-12)
