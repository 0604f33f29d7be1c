"""A small residual network of our own, for small pictures and training from scratch on a CPU; registered with timm as `small_cnn`.

Plain 3 x 3 convolutions with batch norm and ReLU: no depthwise ones, which CPUs train slowly. After a stem of stride 2, each of three
stages halves the side, doubles the width and adds one residual block (He et al., CVPR 2016); features are averaged over the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

default_cfgs = {
    "small_cnn": {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 96, 96),
        "pool_size": (6, 6),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.0",
        "classifier": "head",
    }
}


class SmallCnn(nn.Module):
    """float (B, 3, S, S), S at least 16 -> logits (B, num_classes), or pooled features (B, num_features) where num_classes is 0."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", width: int = 32):
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 8 * width
        self.stem = _conv(in_chans, width, stride=2)
        self.stages = nn.Sequential(*(_Stage(width * 2**stage) for stage in range(3)))
        self.global_pool, self.head = create_classifier(self.num_features, num_classes, pool_type=global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        self.num_classes = num_classes
        self.global_pool, self.head = create_classifier(self.num_features, num_classes, pool_type=global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.global_pool(self.forward_features(x)))
        return logits


class _Stage(nn.Module):
    """Twice as wide, half the side."""

    def __init__(self, width: int):
        super().__init__()
        self.down = _conv(width, 2 * width, stride=2)
        self.residual = nn.Sequential(_conv(2 * width, 2 * width), _conv(2 * width, 2 * width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return torch.add(x, self.residual(x))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


@register_model
def small_cnn(pretrained: bool = False, **options: Any) -> SmallCnn:
    model: SmallCnn = build_model_with_cfg(SmallCnn, "small_cnn", pretrained, **options)
    return model
