"""Saves the state of training when it is due, whole and finite, and restores it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from fieldmark.core.errors import Interrupted
from fieldmark.training.average import Averaging
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.meter import Meter
from fieldmark.training.position import Position


class Keeper:
    """Saves model, optimiser, average and position after each epoch, every `minutes` meanwhile, and before it obeys an interrupt."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        averaging: Averaging,
        interrupt: Interrupt,
        minutes: float,
    ):
        self.checkpoints = checkpoints
        self._model, self._optimizer, self._averaging = model, optimizer, averaging
        self._interrupt, self._seconds = interrupt, minutes * 60
        self._saved_at = time.monotonic()

    def after_step(self, at: Position, meter: Meter) -> None:
        """Raises Interrupted if a stop is requested, TrainingFailed if the loss or a weight is not finite."""
        if not self._interrupt.requested and time.monotonic() - self._saved_at <= self._seconds:
            return
        meter.settle()
        self.save(at)
        if self._interrupt.requested:
            raise Interrupted(f"stopped in epoch {at.epoch + 1} after step {at.step}; the state is saved")

    def after_epoch(self, at: Position) -> None:
        """Raises as after_step does."""
        self.save(at)
        if self._interrupt.requested:
            raise Interrupted(f"stopped after epoch {at.epoch}; the state is saved")

    def save(self, at: Position) -> None:
        """Raises TrainingFailed if a weight is not finite."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self._model.parameters()):
            raise self.checkpoints.failure("a weight is not finite", at)
        state = {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict(), "position": asdict(at)}
        self.checkpoints.save(at.steps, state | self._averaging.state())
        self._saved_at = time.monotonic()

    def restore(self, state: dict[str, Any]) -> Position:
        """Restore a saved state; returns its position."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._averaging.load_state(state)
        return Position(**state["position"])
