"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from fieldmark.core.schema import Constant, Cosine


def factor(schedule: Cosine | Constant, step: int, steps_per_epoch: int, epochs: int) -> float:
    """What the peak learning rate is multiplied by at `step` (the first is 0): a linear warmup, then the schedule.

    The cosine (Loshchilov and Hutter, 2017, without restarts) reaches its floor at the last step.
    """
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return schedule.warmup_factor + (1 - schedule.warmup_factor) * step / warmup
    if isinstance(schedule, Constant):
        return 1.0
    last = epochs * steps_per_epoch - 1
    progress = min((step - warmup) / max(last - warmup, 1), 1.0)
    return schedule.floor_factor + (1 - schedule.floor_factor) * (1 + math.cos(math.pi * progress)) / 2
