"""A small residual network of our own, for small images and training from scratch on a CPU; registered with timm as `small_cnn`.

Plain 3 x 3 convolutions with batch norm and ReLU: no depthwise ones, which CPUs train slowly. After a stem of stride 2, each of three
stages halves the side, doubles the width and adds one residual block (He et al., CVPR 2016); features are averaged over the image.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from fieldmark.models.convolutional import Convolutional, config, conv

default_cfgs = {"small_cnn": config(96, 6, "stem.0")}


class SmallCnn(Convolutional):
    """float (B, 3, S, S), S at least 16 -> logits (B, num_classes), or pooled features (B, num_features) if num_classes is 0."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", width: int = 32):
        super().__init__()
        self.stem = conv(in_chans, width, stride=2)
        self.stages = nn.Sequential(*(_Stage(width * 2**stage) for stage in range(3)))
        self.finish(8 * width, num_classes, global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(x))
        return features


class _Stage(nn.Module):
    """Twice as wide, half the side."""

    def __init__(self, width: int):
        super().__init__()
        self.down = conv(width, 2 * width, stride=2)
        self.residual = nn.Sequential(conv(2 * width, 2 * width), conv(2 * width, 2 * width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return torch.add(x, self.residual(x))


@register_model
def small_cnn(pretrained: bool = False, **options: Any) -> SmallCnn:
    model: SmallCnn = build_model_with_cfg(SmallCnn, "small_cnn", pretrained, **options)
    return model
