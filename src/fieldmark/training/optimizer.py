"""Optimisers from the recipe."""

from __future__ import annotations

import torch
from torch import nn

from fieldmark.core.schema import SGD, AdamW
from fieldmark.models.groups import parameter_groups


def build_optimizer(model: nn.Module, settings: SGD | AdamW) -> torch.optim.Optimizer:
    """The optimiser with all parameters in it, grouped by learning rate and weight decay; each group keeps its peak as `peak_lr`."""
    groups = parameter_groups(model, settings.weight_decay, settings.lr, settings.head_lr_factor, settings.decay_norm_and_bias)
    for group in groups:
        group["peak_lr"] = group["lr"]
    if isinstance(settings, SGD):
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
