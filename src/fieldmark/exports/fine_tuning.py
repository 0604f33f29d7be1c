"""Quantisation-aware fine-tuning: a network learns to answer as it did although numbers are rounded to 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from math import cos, pi

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.console import Console
from fieldmark.core.randomness import key, permutation
from fieldmark.exports.network import Deployed
from fieldmark.exports.rounding import rounding

IMAGES = 2048
"""Of train, that it learns on."""
_BATCH = 32
_OBSERVED = 128
_RATE = 1e-4
_WORK = 6e11
"""Multiply-adds of forward passes: about a minute of two cores."""
_FEWEST, _MOST = 8, 200
"""Steps."""


def fine_tuned(network: Deployed, start: Deployed, images: np.ndarray, macs: int, console: Console) -> Deployed:
    """A copy of `start` that, once it is quantised, answers more like `network`; `macs` are its multiply-adds per image.

    It computes in rounded numbers (Jacob et al., CVPR 2018), and its logits and features are held to those of `network` in float32. What it
    returns in float32 itself is of no account. The same arguments return the same weights.

    images: uint8 (n, 3, S, S). BatchNorm keeps its statistics.
    """
    student = copy.deepcopy(start).to(memory_format=torch.channels_last).requires_grad_(True)  # type: ignore[call-overload]
    steps = max(_FEWEST, min(_MOST, round(_WORK / max(macs, 1) / _BATCH)))
    optimizer = torch.optim.Adam(student.parameters(), lr=_RATE)
    with console.progress("fine-tuning", "images") as advance, rounding(student, torch.from_numpy(images[:_OBSERVED])):
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
    return student.requires_grad_(False).to(memory_format=torch.contiguous_format).eval()


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
