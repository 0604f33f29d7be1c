"""One training step: forward and backward for each part of a batch, clipping, the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fieldmark.batches.train_batches import Batch
from fieldmark.training.objective import Network, Objective


@dataclass(frozen=True)
class StepResult:
    images: int
    loss: Tensor
    """Mean over the images, a scalar without gradients."""
    correct: Tensor
    """Correct predictions, float64; as in Outcome."""


@dataclass(frozen=True)
class Step:
    """Updates the weights from a batch.

    parameters: of the network, in its order, in which the norm of the gradient is summed
    micro_batch: images per forward pass; gradients are accumulated over the batch. None for all at once.
    clip_norm: the largest norm of the gradient; None for no limit.
    """

    network: Network
    objective: Objective
    optimizer: torch.optim.Optimizer
    parameters: Sequence[nn.Parameter]
    micro_batch: int | None
    clip_norm: float | None

    def __call__(self, batch: Batch) -> StepResult:
        images, device = len(batch.labels), batch.labels.device
        loss, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.float64, device=device)
        for part in batch.split(self.micro_batch or images):
            outcome = self.objective(self.network, part)
            share = outcome.loss * (len(part.labels) / images)
            share.backward()
            loss += share.detach()
            correct += outcome.correct
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(images, loss, correct)
