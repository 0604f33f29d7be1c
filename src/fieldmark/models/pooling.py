"""Features as the average of the last feature map alone, whatever the architecture does with it (`model.pooling=average`).

VGG, for one, then has a small classifier instead of fully connected layers with a hundred million parameters: network in network (Lin et
al., ICLR 2014).
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

from fieldmark.core.errors import InputError


def average_last_features(backbone: nn.Module, name: str, size: int) -> frozenset[str]:
    """Make a timm backbone return the average of its last feature map or tokens; drop the layers between that and the classifier.

    Tokens without a place in the image, such as a class token, are left out of the average.

    Returns:
        the names of the tensors that were dropped.

    Raises InputError if it would change nothing or there is no single feature map. The backbone is in training mode before and after.
    """
    nothing = InputError(
        f"model.pooling: {name} already averages its last feature map, so average would change nothing", hint="Leave model.pooling out."
    )
    if not hasattr(backbone, "forward_features"):  # those of torchvision, which do
        raise nothing
    images = torch.rand(1, 3, size, size)
    names = set(backbone.state_dict())
    backbone.eval()
    with torch.no_grad():
        own, features = backbone(images), _last_features(backbone, images)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise InputError(
                f"model.pooling: {name} does not end in one feature map that could be averaged", hint="Leave model.pooling out."
            )
    backbone.forward = types.MethodType(_averaged, backbone)
    averaged = backbone(images)
    parameters = dict(backbone.named_parameters())
    gradients = torch.autograd.grad(averaged.sum(), list(parameters.values()), allow_unused=True)
    backbone.train()
    if averaged.shape == own.shape and torch.allclose(averaged, own, rtol=1e-4, atol=1e-5):
        raise nothing
    _drop(backbone, "", {each for each, gradient in zip(parameters, gradients, strict=True) if gradient is None})
    return frozenset(names - set(backbone.state_dict()))


def _last_features(backbone: Any, images: Tensor) -> Any:
    return backbone.forward_features(images)


def _averaged(backbone: nn.Module, images: Tensor) -> Tensor:
    features: Tensor = _last_features(backbone, images)
    if features.ndim == 3:
        has_class_token = getattr(backbone, "cls_token", None) is not None
        return features[:, int(getattr(backbone, "num_prefix_tokens", has_class_token)) :].mean(1)
    channels_last = "NHWC" in str(getattr(backbone, "output_fmt", ""))
    return features.mean((1, 2) if channels_last else (2, 3))


def _drop(module: nn.Module, name: str, unused: set[str]) -> None:
    """Replace the modules whose parameters are all unused."""
    for each, child in list(module.named_children()):
        inside = {f"{name}{each}.{parameter}" for parameter, _ in child.named_parameters()}
        if inside and inside <= unused:
            setattr(module, each, nn.Identity())
        else:
            _drop(child, f"{name}{each}.", unused)
