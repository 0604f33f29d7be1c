"""Parameter groups: parts with their own learning rates, and parameters without weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from fieldmark.core.recipe.optim import Optimizer
from fieldmark.models.factory import Classifier
from fieldmark.models.parts import named_parts

_KEY = "optim.lr_factors: parameters"


def parameter_groups(model: Classifier, settings: Optimizer) -> list[dict[str, Any]]:
    """Groups for a torch optimiser, each with name, params, lr and weight_decay; empty ones are left out.

    Names: backbone.decay, backbone.no-decay, head.decay, head.no-decay, in this order; parameters whose learning rate has a factor are in
    groups such as `head.decay x10`, which come after those of the same part without one, the smallest factor first. Factors of the same
    parameter are multiplied. Biases and one-dimensional tensors (those of normalisation) are not decayed unless `decay_norm_and_bias`.
    Every parameter is in exactly one group, even if it is frozen. Raises InputError for parts that the model does not have.
    """
    factors = {name: 1.0 for name, _ in model.named_parameters()}
    named_parts(model, [given.parameters for given in settings.lr_factors], _KEY)  # reports all unknown parts at once
    for given in settings.lr_factors:
        for name in named_parts(model, [given.parameters], _KEY):
            factors[name] *= given.factor
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = settings.decay_norm_and_bias or (parameter.ndim > 1 and not name.endswith(".bias"))
        groups.setdefault((name.partition(".")[0], factors[name], decays), []).append(parameter)
    return [
        {
            "name": f"{part}.{'decay' if decays else 'no-decay'}{'' if factor == 1 else f' x{factor:g}'}",
            "params": groups[part, factor, decays],
            "lr": settings.lr * factor,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for part, factor, decays in sorted(groups, key=lambda group: (group[0], group[1] != 1, group[1], not group[2]))
    ]
