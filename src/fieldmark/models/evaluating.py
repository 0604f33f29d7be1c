"""Evaluation mode as a context manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from fieldmark.models.spinning import spin_only_if_idle


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block the model is in evaluation mode; afterwards each module is back in its earlier mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with spin_only_if_idle():
            yield
    finally:
        for module, training in modes:
            module.training = training
