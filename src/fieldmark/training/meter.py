"""The running figures of an epoch: loss, accuracy and speed."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.position import Position
from fieldmark.training.step import StepResult


class Meter:
    """Continues from the position's sums of the epoch. Sums stay on the device until `settle`, to avoid waiting for a GPU."""

    def __init__(self, at: Position, checkpoints: Checkpoints, device: torch.device):
        self._at, self._checkpoints = at, checkpoints
        self._loss_sum = torch.tensor(at.loss_sum, dtype=torch.float64, device=device)
        self._correct = torch.tensor(at.correct, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), device=device)
        self.mean_loss = math.nan
        """Over the epoch, when it was last settled."""
        self.learning_rate = math.nan
        """Of the last step."""
        self._started = time.perf_counter()

    def add(self, result: StepResult, learning_rate: float) -> None:
        """Raises TrainingFailed as settle does, though on a GPU only later."""
        self._loss, self.learning_rate = result.loss, learning_rate
        self._loss_sum += result.loss * result.images
        self._correct += result.correct
        if self._loss.device.type == "cpu":
            self.settle()

    def settle(self) -> None:
        """Write the sums and the time so far into the position. Raises TrainingFailed if the loss is not finite."""
        self._at.loss_sum, self._at.correct = self._loss_sum.item(), self._correct.item()
        now = time.perf_counter()
        self._at.epoch_seconds, self._started = self._at.epoch_seconds + now - self._started, now
        if not math.isfinite(self._at.loss_sum):
            what = f"the loss is not finite ({self._at.loss_sum}), at a learning rate of {self.learning_rate:g}"
            raise self._checkpoints.failure(what, self._at)
        self.mean_loss = self._at.loss_sum / self._at.samples

    @property
    def step_loss(self) -> float:
        """Of the last step."""
        return self._loss.item()

    @property
    def images_per_second(self) -> float:
        return self._at.samples / (self._at.epoch_seconds + time.perf_counter() - self._started)

    def row(self) -> dict[str, Any]:
        """Mean loss and accuracy in per cent over the epoch; settled first."""
        return {"train_loss": self.mean_loss, "train_top1": 100 * self._at.correct / self._at.samples}

    def speed(self) -> dict[str, Any]:
        """Images/s and seconds of the epoch; settled first."""
        seconds = self._at.epoch_seconds
        return {"images_per_second": round(self._at.samples / seconds, 1), "seconds": round(seconds, 3)}
