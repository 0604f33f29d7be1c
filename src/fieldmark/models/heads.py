"""Classifiers on pooled features, each a variant of `model.head`.

Each is the linear layer of the class outputs, so that its `weight` and `bias` have the same names in every head; layers before or after it
are its submodules.
"""

from __future__ import annotations

from torch import Tensor, nn

from fieldmark.core.recipe import model as recipe_model

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "gelu": nn.GELU}


def build_head(settings: recipe_model.Head, num_features: int, num_classes: int) -> nn.Linear:
    """The head of a recipe: float (B, num_features) -> logits (B, num_classes). Its random weights are PyTorch's own."""
    if isinstance(settings, recipe_model.HiddenHead):
        return HiddenHead(num_features, settings.width, num_classes, _ACTIVATIONS[settings.activation](), settings.dropout)
    if isinstance(settings, recipe_model.ActivatedLogits):
        return ActivatedLogits(num_features, num_classes, _ACTIVATIONS[settings.activation](), settings.dropout)
    return nn.Linear(num_features, num_classes)


class HiddenHead(nn.Linear):
    """`hidden` (Linear, D -> width), an activation, dropout, then the layer itself (width -> C)."""

    def __init__(self, num_features: int, width: int, num_classes: int, activation: nn.Module, dropout: float):
        super().__init__(width, num_classes)
        self.hidden = nn.Linear(num_features, width)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(self.dropout(self.activation(self.hidden(features))))


class ActivatedLogits(nn.Linear):
    """The layer itself (D -> C), then an activation and dropout of the class outputs; in evaluation only the activation remains."""

    def __init__(self, num_features: int, num_classes: int, activation: nn.Module, dropout: float):
        super().__init__(num_features, num_classes)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.dropout(self.activation(super().forward(features)))
        return logits
