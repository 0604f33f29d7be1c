"""The base of our own convolutional networks: averaged features, a linear classifier as timm expects it, initial weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from timm.layers.classifier import create_classifier
from torch import Tensor, nn


class Convolutional(nn.Module, ABC):
    """Subclasses build their layers, call `finish` and define `forward_features`: float (B, 3, S, S) -> a map of num_features channels."""

    num_features: int

    def finish(self, num_features: int, num_classes: int, global_pool: str) -> None:
        """Add the classifier and initialise the convolutions (He et al., ICCV 2015)."""
        self.num_features = self.head_hidden_size = num_features
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        self.num_classes = num_classes
        self.global_pool, self.head = create_classifier(self.num_features, num_classes, pool_type=global_pool)

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.global_pool(self.forward_features(x)))
        return logits


def config(size: int, pool_size: int, first_conv: str) -> dict[str, Any]:
    """timm's configuration of a network without pretrained weights; `size` and `pool_size` in pixels."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, size, size),
        "pool_size": (pool_size, pool_size),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": first_conv,
        "classifier": "head",
    }


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
