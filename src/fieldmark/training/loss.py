"""Losses on logits: what each variant of the section `loss` computes."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fieldmark.core.recipe.loss import CrossEntropy


def loss_of(
    settings: CrossEntropy,
    logits: torch.Tensor,
    labels: torch.Tensor,
    other_labels: torch.Tensor | None = None,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean loss of a batch: logits (n, classes) of any float dtype, labels int64 (n,).

    Label smoothing (Szegedy et al., 2016) spreads ε evenly over all K classes, ε/K on each, or over the K - 1 wrong ones. Mixed images also
    have `other_labels` int64 (n,), and `shares` float32 (n,) of the first labels; the target is mixed accordingly.
    """
    if other_labels is None or shares is None:
        return _losses(settings, logits, labels, "mean")
    first, second = (_losses(settings, logits, each, "none") for each in (labels, other_labels))
    return (shares * first + (1 - shares) * second).mean()


def _losses(settings: CrossEntropy, logits: torch.Tensor, labels: torch.Tensor, reduction: str) -> torch.Tensor:
    smoothing, classes = settings.label_smoothing, logits.shape[1]
    if settings.smoothing_over == "all" or classes < 2:
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction=reduction)
    logarithms = logits.float().log_softmax(dim=1)
    right = logarithms.gather(1, labels[:, None])[:, 0]
    losses = -(1 - smoothing) * right - smoothing * (logarithms.sum(dim=1) - right) / (classes - 1)
    return losses.mean() if reduction == "mean" else losses
