"""Parameter groups: backbone and head apart, and what weight decay leaves alone."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, weight_decay: float, lr: float, head_lr_factor: float, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser, each with name, params, lr and weight_decay; empty ones are left out.

    Names: backbone.decay, backbone.no-decay, head.decay, head.no-decay, in this order. Biases and one-dimensional tensors (those of
    normalisation) are not decayed unless `decay_norm_and_bias`. Every parameter is in one group, frozen ones too.
    `model` is a Classifier: its parts are `backbone` and `head`.
    """
    groups: dict[str, list[nn.Parameter]] = {f"{part}.{kind}": [] for part in ("backbone", "head") for kind in ("decay", "no-decay")}
    for name, parameter in model.named_parameters():
        decays = decay_norm_and_bias or (parameter.ndim > 1 and not name.endswith(".bias"))
        groups[f"{name.partition('.')[0]}.{'decay' if decays else 'no-decay'}"].append(parameter)
    return [
        {
            "name": name,
            "params": members,
            "lr": lr * head_lr_factor if name.startswith("head.") else lr,
            "weight_decay": 0.0 if name.endswith(".no-decay") else weight_decay,
        }
        for name, members in groups.items()
        if members
    ]
