"""A plain convolutional network of our own, for small images and training from scratch; registered with timm as `plain_cnn`.

Each stage is two 3 x 3 convolutions with batch norm and ReLU, then 2 x 2 max-pooling, and is twice as wide as the stage before; features
are averaged over the image. With its own width and depth (64 channels, 4 stages: 4.7 million parameters) it takes images from 16
pixels.
"""

from __future__ import annotations

import itertools
from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from fieldmark.models.convolutional import Convolutional, config, conv

default_cfgs = {"plain_cnn": config(32, 2, "stages.0.0.0")}


class PlainCnn(Convolutional):
    """float (B, 3, S, S), S at least 2 ** depth -> logits (B, num_classes), or pooled features (B, num_features) if num_classes is 0."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", width: int = 64, depth: int = 4):
        super().__init__()
        widths = [in_chans, *(width * 2**stage for stage in range(depth))]
        self.stages = nn.Sequential(*(_stage(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)))
        self.feature_info = [
            {"module": f"stages.{stage}", "num_chs": channels, "reduction": 2 ** (stage + 1)} for stage, channels in enumerate(widths[1:])
        ]
        self.finish(widths[-1], num_classes, global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.stages(x)
        return features


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs), conv(outputs, outputs), nn.MaxPool2d(2))


@register_model
def plain_cnn(pretrained: bool = False, **options: Any) -> PlainCnn:
    model: PlainCnn = build_model_with_cfg(PlainCnn, "plain_cnn", pretrained, **options)
    return model
