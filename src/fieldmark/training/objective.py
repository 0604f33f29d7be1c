"""What training minimises: an objective runs the network on a batch and returns the loss and the number of correct predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fieldmark.batches.train_batches import Batch
from fieldmark.core.recipe.loss import CrossEntropy
from fieldmark.models.execution import Execution
from fieldmark.training.loss import loss_of


@dataclass(frozen=True)
class Network:
    """A network as objectives call it: in the precision of the run, from images or, in a stage with cached features, from features."""

    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    """Classifier.forward_with_features, or its substitute."""
    execution: Execution

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (n, C)."""
        return self.with_features(images)[0]

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, C) and pooled features (n, D)."""
        with self.execution.autocast():
            return self.forward(images)


@dataclass(frozen=True)
class Outcome:
    loss: Tensor
    """Mean over the images of a batch, a scalar with gradients."""
    correct: Tensor
    """Correct predictions, a scalar; a mixed image counts the weight of the predicted label."""


class Objective(Protocol):
    """Owns the forward pass, the loss and the labels of mixed images.

    It may draw from PyTorch's global generator, which the loop seeds for each step.
    """

    def __call__(self, network: Network, batch: Batch) -> Outcome: ...


@dataclass(frozen=True)
class Classification:
    """A loss on the logits."""

    loss: CrossEntropy

    def __call__(self, network: Network, batch: Batch) -> Outcome:
        logits = network(batch.images)
        return Outcome(loss_of(self.loss, logits, batch.labels, batch.other_labels, batch.shares), correct(logits.detach(), batch))


def objective_of(loss: CrossEntropy) -> Objective:
    """The objective that a recipe's loss names."""
    return Classification(loss)


def correct(logits: Tensor, batch: Batch) -> Tensor:
    """Correct predictions; a mixed image counts the weight of the predicted label."""
    predicted = logits.argmax(dim=1)
    if batch.other_labels is None or batch.shares is None:
        return (predicted == batch.labels).sum()
    return (batch.shares * (predicted == batch.labels) + (1 - batch.shares) * (predicted == batch.other_labels)).sum()
