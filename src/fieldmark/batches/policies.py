"""Random operations beyond crop, flip and jitter: TrivialAugment, RandAugment and AutoAugment.

The operations, the ranges of their strengths and how often each is drawn are those of torchvision's TrivialAugmentWide, RandAugment and
AutoAugment (the ImageNet policy). Two things differ, because a view is resampled only once: if several operations are drawn, those that
move pixels come before those that change colours; and a view that is moved shows the image beyond the crop, and grey only outside the
image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
import torch

from fieldmark.core.recipe.augment import AutoAugment, NoPolicy, Policy, RandAugment, TrivialAugment


class Operation(IntEnum):
    """An operation on a view. The strength of each, as drawn:

    shears: the slope, about the upper left corner; shifts: whole pixels of the view; rotation: degrees, counter-clockwise; brightness,
    colour, contrast and sharpness: the factor less one; posterize: the bits kept; solarize: the share of 255 from which grey levels are
    inverted. The others have none.
    """

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTO_CONTRAST = 12
    EQUALIZE = 13
    INVERT = 14


_WITHOUT_INVERT = tuple(Operation)[:-1]
_LAST_SIGNED = Operation.SHARPNESS
_BINS = 31
_AUTO_BINS = 10
_WIDEST = {
    Operation.SHEAR_X: 0.99,
    Operation.SHEAR_Y: 0.99,
    Operation.TRANSLATE_X: 32.0,
    Operation.TRANSLATE_Y: 32.0,
    Operation.ROTATE: 135.0,
    Operation.BRIGHTNESS: 0.99,
    Operation.COLOR: 0.99,
    Operation.CONTRAST: 0.99,
    Operation.SHARPNESS: 0.99,
}
_IMAGENET = """
    posterize .4 8, rotate .6 9       | solarize .6 5, auto_contrast .6 | equalize .8, equalize .6        | posterize .6 7, posterize .6 6
    equalize .4, solarize .2 4        | equalize .4, rotate .8 8        | solarize .6 3, equalize .6      | posterize .8 5, equalize 1
    rotate .2 3, solarize .6 8        | equalize .6, posterize .4 6     | rotate .8 8, color .4 0         | rotate .4 9, equalize .6
    equalize 0, equalize .8           | invert .6, equalize 1           | color .6 4, contrast 1 8        | rotate .8 8, color 1 2
    color .8 8, solarize .8 7         | sharpness .4 7, invert .6       | shear_x .6 5, equalize 1        | color .4 0, equalize .6
    equalize .4, solarize .2 4        | solarize .6 5, auto_contrast .6 | invert .6, equalize 1           | color .6 4, contrast 1 8
    equalize .8, equalize .6
"""
"""AutoAugment's 25 pairs: operation, probability and, if it has a strength, its bin."""


@dataclass(frozen=True)
class Drawn:
    """The operations of n views, one column for each successive operation."""

    operations: np.ndarray
    """Values of Operation, int64 (n, steps)."""
    strengths: np.ndarray
    """float64 (n, steps), signed."""


def steps_of(policy: Policy) -> int:
    """The largest number of operations on a view."""
    if isinstance(policy, RandAugment):
        return policy.operations
    return {TrivialAugment: 1, AutoAugment: 2, NoPolicy: 0}[type(policy)]


def draws_of(policy: Policy) -> int:
    """How many random numbers a view needs."""
    return 1 + 2 * steps_of(policy)


def draw(policy: TrivialAugment | RandAugment | AutoAugment, size: int, draws: np.ndarray) -> Drawn:
    """The operations of n views of `size` pixels; `draws` are float64 (n, draws_of(policy)) in [0, 1)."""
    steps = steps_of(policy)
    first, second, third = draws[:, 0], draws[:, 1 : 1 + steps], draws[:, 1 + steps :]
    if isinstance(policy, AutoAugment):
        operations, probabilities, strengths = (table[_index(first, 25)] for table in _auto_tables(size))
        operations = np.where(second < probabilities, operations, Operation.IDENTITY)
    else:
        operations = _index(second, len(_WITHOUT_INVERT))
        if isinstance(policy, TrivialAugment):
            strengths = _wide_strengths()[operations, _index(first, _BINS)[:, None]]
        else:
            strengths = _milder_strengths(size, _BINS)[operations, policy.magnitude]
    signed = np.where((operations <= _LAST_SIGNED) & (third < 0.5), -strengths, strengths)
    return Drawn(operations, np.where(operations == Operation.IDENTITY, 0.0, signed))


def moved(matrices: np.ndarray, drawn: Drawn, size: int) -> np.ndarray:
    """Views after the operations that move pixels: float64 (n, 3, 3) from view to tile coordinates, as `matrices` are."""
    for operations, strengths in zip(drawn.operations.T, drawn.strengths.T, strict=True):
        moving = np.flatnonzero((operations >= Operation.SHEAR_X) & (operations <= Operation.ROTATE))
        if len(moving):
            matrices = matrices.copy()
            matrices[moving] = matrices[moving] @ _back(operations[moving], strengths[moving], size)
    return matrices


def _back(operations: np.ndarray, strengths: np.ndarray, size: int) -> np.ndarray:
    """From the view after an operation to the one before it."""
    result = np.tile(np.eye(3), (len(operations), 1, 1))
    for axis, shear, shift in ((0, Operation.SHEAR_X, Operation.TRANSLATE_X), (1, Operation.SHEAR_Y, Operation.TRANSLATE_Y)):
        sheared, shifted = operations == shear, operations == shift
        result[sheared, axis, 1 - axis] = result[sheared, axis, 2] = strengths[sheared]
        result[shifted, axis, 2] = -2 * np.trunc(strengths[shifted]) / size
    turned = operations == Operation.ROTATE
    angle = np.deg2rad(strengths[turned])
    result[turned, 0, 0] = result[turned, 1, 1] = np.cos(angle)
    result[turned, 0, 1], result[turned, 1, 0] = -np.sin(angle), np.sin(angle)
    return result


def _index(draws: np.ndarray, count: int) -> np.ndarray:
    return (draws * count).astype(np.int64)


@cache
def _wide_strengths() -> np.ndarray:
    """TrivialAugment's."""
    return _strengths(_WIDEST, 2, _BINS)


@cache
def _milder_strengths(size: int, bins: int) -> np.ndarray:
    """RandAugment's and AutoAugment's, whose shifts are shares of the side."""
    shift = 150 / 331 * size
    changed = {Operation.SHEAR_X: 0.3, Operation.SHEAR_Y: 0.3, Operation.TRANSLATE_X: shift, Operation.TRANSLATE_Y: shift}
    return _strengths(dict.fromkeys(_WIDEST, 0.9) | changed | {Operation.ROTATE: 30.0}, 4, bins)


def _strengths(largest: dict[Operation, float], fewest_bits: int, bins: int) -> np.ndarray:
    """Strength of each operation in each bin, float64 (operations, bins), without sign.

    In single precision, as in torchvision: a threshold that is off by a rounding error inverts one grey level more or less.
    """
    table = np.zeros((len(Operation), bins))
    for operation, most in largest.items():
        table[operation] = torch.linspace(0.0, most, bins).numpy()
    table[Operation.POSTERIZE] = np.round(8 - np.arange(bins) / ((bins - 1) / (8 - fewest_bits)))
    table[Operation.SOLARIZE] = torch.linspace(1.0, 0.0, bins).numpy()
    return table


@cache
def _auto_tables(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operation, probability and strength of the pairs, each (25, 2)."""
    strengths = _milder_strengths(size, _AUTO_BINS)
    pairs = [[each.split() for each in pair.split(",")] for line in _IMAGENET.strip().splitlines() for pair in line.split("|")]
    operations = np.array([[Operation[name.upper()] for name, *_ in pair] for pair in pairs])
    probabilities = np.array([[float(probability) for _, probability, *_ in pair] for pair in pairs])
    bins = np.array([[int(bin_[0]) if bin_ else 0 for _, _, *bin_ in pair] for pair in pairs])
    return operations, probabilities, strengths[operations, bins]
