"""A plain convolutional network of our own, for small pictures and training from scratch; registered with timm as `plain_cnn`.

Each stage is two 3 x 3 convolutions with batch norm and ReLU, then 2 x 2 max-pooling, and is twice as wide as the stage before; features
are averaged over the picture. With its own width and depth (64 channels, 4 stages: 4.7 million parameters) it takes pictures from 16
pixels.
"""

from __future__ import annotations

import itertools
from typing import Any

from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

default_cfgs = {
    "plain_cnn": {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 32, 32),
        "pool_size": (2, 2),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stages.0.0.0",
        "classifier": "head",
    }
}


class PlainCnn(nn.Module):
    """float (B, 3, S, S), S at least 2 ** depth -> logits (B, num_classes), or pooled features (B, num_features) where num_classes is 0."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", width: int = 64, depth: int = 4):
        super().__init__()
        widths = [in_chans, *(width * 2**stage for stage in range(depth))]
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = widths[-1]
        self.stages = nn.Sequential(*(_stage(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)))
        self.feature_info = [
            {"module": f"stages.{stage}", "num_chs": channels, "reduction": 2 ** (stage + 1)} for stage, channels in enumerate(widths[1:])
        ]
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
        features: Tensor = self.stages(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.global_pool(self.forward_features(x)))
        return logits


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs), nn.MaxPool2d(2))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


@register_model
def plain_cnn(pretrained: bool = False, **options: Any) -> PlainCnn:
    model: PlainCnn = build_model_with_cfg(PlainCnn, "plain_cnn", pretrained, **options)
    return model
