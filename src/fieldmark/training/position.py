"""Where training stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Weights = Literal["trained", "averaged"]


@dataclass
class Position:
    """Where training stands; with the weights and the optimiser it is all that the next step depends on."""

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
    """Epochs, from 0, from which on the plateau schedule is lower than before."""
    plateau_best: float | None = None
    plateau_epochs: int = 0
    """Epochs without a better figure, as the plateau schedule counts them."""
    metric_lines: int = 0
    step_lines: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    """Time spent in training steps so far."""
