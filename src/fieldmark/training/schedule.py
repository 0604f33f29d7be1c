"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from fieldmark.core.recipe.schedule import Constant, Cosine, MultiStep, OneCycle, Plateau, Polynomial, Schedule, Step


def factor(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int, drops: int = 0) -> float:
    """The factor of the peak learning rate at `step` (the first is 0) of a stretch of `epochs`: a linear warmup, then the schedule.

    The cosine (Loshchilov and Hutter, 2017, without restarts), the polynomial and the one cycle reach their end at the last step. The steps
    of `step` and `multi-step` are at epochs counted from the start of the stretch (Goyal et al., 2017).

    Args:
        drops: how often `plateau` has lowered the rate so far; others ignore it.
    """
    last = epochs * steps_per_epoch - 1
    if isinstance(schedule, OneCycle):
        return _one_cycle(schedule, step, last)
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return schedule.warmup_factor + (1 - schedule.warmup_factor) * step / warmup
    progress = min((step - warmup) / max(last - warmup, 1), 1.0)
    epoch = step // steps_per_epoch
    match schedule:
        case Constant():
            return 1.0
        case Cosine():
            return schedule.floor_factor + (1 - schedule.floor_factor) * (1 + math.cos(math.pi * progress)) / 2
        case Polynomial():
            return schedule.floor_factor + (1 - schedule.floor_factor) * (1 - progress) ** schedule.power
        case Step():
            return schedule.gamma ** (epoch // schedule.every)
        case MultiStep():
            return schedule.gamma ** sum(epoch >= after for after in schedule.after)
        case Plateau():
            return max(schedule.gamma**drops, schedule.floor_factor)


def _one_cycle(schedule: OneCycle, step: int, last: int) -> float:
    peak = max(schedule.rise * (last + 1) - 1, 0.0)
    if step <= peak and peak > 0:
        return _half_cosine(schedule.start_factor, 1.0, step / peak)
    return _half_cosine(1.0, schedule.floor_factor, min((step - peak) / max(last - peak, 1), 1.0))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
