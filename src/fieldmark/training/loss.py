"""Losses from the recipe."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fieldmark.core.schema import CrossEntropy


def loss_of(settings: CrossEntropy, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss of a batch: logits (n, classes) of any float dtype, labels int64 (n,).

    Label smoothing spreads ε evenly over all K classes (ε/K on each).
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
