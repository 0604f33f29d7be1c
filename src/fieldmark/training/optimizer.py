"""Optimisers from the recipe."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim._optim_factory import create_optimizer_v2, list_optimizers

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest
from fieldmark.core.recipe.optim import SGD, Adam, AdamW, Optim, RMSprop
from fieldmark.models.factory import Classifier
from fieldmark.models.groups import parameter_groups

_UNFIT = {
    "adahessian": "it needs second derivatives, which training does not compute",
    "kron": "it draws random numbers of its own, so that a run could not be resumed exactly",
    "kronc": "it draws random numbers of its own, so that a run could not be resumed exactly",
    "kronw": "it draws random numbers of its own, so that a run could not be resumed exactly",
}


def build_optimizer(model: Classifier, settings: Optim) -> torch.optim.Optimizer:
    """The optimiser with all parameters in it, grouped by learning rate and weight decay; each group keeps its peak as `peak_lr`.

    Raises InputError for an algorithm that timm does not have or that cannot be used here.
    """
    groups = parameter_groups(model, settings)
    for group in groups:
        group["peak_lr"] = group["lr"]
    match settings:
        case SGD():
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
        case Adam():
            return torch.optim.Adam(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)
        case AdamW():
            return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)
        case RMSprop():
            return torch.optim.RMSprop(groups, lr=settings.lr, alpha=settings.alpha, eps=settings.eps, momentum=settings.momentum)
    return _of_timm(groups, settings.algorithm, settings.lr)


def _of_timm(groups: list[dict[str, Any]], algorithm: str, lr: float) -> torch.optim.Optimizer:
    name, known = algorithm.removeprefix("lookahead_"), [str(each) for each in list_optimizers()]
    if name not in known:
        raise InputError(f"optim.algorithm: timm has no optimiser {algorithm!r}{suggest(name, known)}", hint=f"It has {', '.join(known)}.")
    if name in _UNFIT:
        raise InputError(f"optim.algorithm: {algorithm} cannot be used: {_UNFIT[name]}", hint="Choose another.")
    try:
        return create_optimizer_v2(groups, opt=algorithm, lr=lr)
    except (ImportError, AssertionError) as error:
        raise InputError(f"optim.algorithm: {algorithm} cannot be used here: {error}", hint="Choose another.") from error


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
