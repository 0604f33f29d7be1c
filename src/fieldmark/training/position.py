"""How far training has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Weights = Literal["trained", "averaged"]


@dataclass
class Position:
    """How far training has come; with the weights and the optimiser, everything that the next step depends on."""

    phase: str = "fit"
    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    steps: int = 0
    """Steps done in all phases."""
    loss_sum: float = 0.0
    correct: float = 0.0
    samples: int = 0
    samples_in_all: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    best_weights: Weights = "trained"
    """Which weights were best; with an average, the trained ones or the averaged."""
    stale_epochs: int = 0
    drops: list[int] = field(default_factory=list)
    """Epochs, counted from 0, at which the plateau schedule lowered the rate."""
    plateau_best: float | None = None
    plateau_epochs: int = 0
    """Epochs without a better figure, as the plateau schedule counts them."""
    metric_lines: int = 0
    step_lines: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    """Time spent in training steps so far."""

    def advance(self, images: int) -> None:
        """Count a step on this many images."""
        self.step, self.steps = self.step + 1, self.steps + 1
        self.samples, self.samples_in_all = self.samples + images, self.samples_in_all + images

    def next_epoch(self) -> None:
        self.seconds += self.epoch_seconds
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.correct, self.samples, self.epoch_seconds = 0.0, 0.0, 0, 0.0
