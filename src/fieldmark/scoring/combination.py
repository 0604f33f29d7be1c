"""How the answers of several networks become one.

Logits of the members are float (n, C) each, in the order of the members; a row with a logit that is not finite stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
import safetensors.numpy

from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file
from fieldmark.scoring.predictions import Predictions

Of = Literal["probabilities", "logits"]


@dataclass(frozen=True, eq=False)
class Mean:
    """The weighted mean of probabilities, as their logarithm, or of logits. `weights` are float64 (members,), at least 0, of sum 1."""

    of: Of
    weights: np.ndarray

    def __call__(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The logits of all members as one: float32 (n, C)."""
        stacked = np.stack(logits).astype(np.float64)
        if self.of == "probabilities":
            return log_mixture(log_probabilities(stacked), self.weights).astype(np.float32)
        return np.einsum("m,mnc->nc", self.weights, stacked).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Stack:
    """A linear layer on the members' logits side by side: `weight` float32 (C, inputs * C), `bias` float32 (C,).

    `inputs` holds for each member the input that it belongs to; members of one input, the folds of one recipe, are averaged first.
    """

    inputs: tuple[int, ...]
    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The logits of all members as one: float32 (n, C)."""
        return (side_by_side(logits, self.inputs) @ self.weight.T.astype(np.float64) + self.bias).astype(np.float32)


Combination = Mean | Stack


def side_by_side(logits: Sequence[np.ndarray], inputs: Sequence[int]) -> np.ndarray:
    """What a stack sees: the mean logits of the members of each input, side by side: float64 (n, inputs * C)."""
    belongs = np.array(inputs)
    stacked = np.stack(logits).astype(np.float64)
    return np.concatenate([stacked[belongs == each].mean(axis=0) for each in range(belongs.max() + 1)], axis=1)


def combined(parts: Sequence[Predictions], combination: Combination) -> Predictions:
    """The predictions of several networks of the same images as one; images that some of them lack are left out.

    The features are what the combination saw: the members' logits side by side, float32 (n, members * C).
    """
    places = [{each: row for row, each in enumerate(part.ids.tolist())} for part in parts]
    kept = [each for each in places[0] if all(each in of_part for of_part in places)]
    rows = [np.array([of_part[each] for each in kept], np.int64) for of_part in places]
    logits = [part.logits[chosen] for part, chosen in zip(parts, rows, strict=True)]
    return replace(parts[0].take(rows[0]), logits=combination(logits), features=np.concatenate(logits, axis=1))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax over the last axis, float64; NaN in rows that are not finite."""
    finite = np.where(np.isfinite(logits).all(axis=-1, keepdims=True), logits, np.nan).astype(np.float64)
    shifted = finite - finite.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def log_mixture(logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Logarithm of the weighted mean of probabilities, of which `logs` (members, …) are the logarithms."""
    weighted = logs[weights > 0] + np.log(weights[weights > 0]).reshape(-1, *[1] * (logs.ndim - 1))
    highest = weighted.max(axis=0)
    return np.asarray(highest + np.log(np.exp(weighted - highest).sum(axis=0)))


def save_stack(stack: Stack, path: Path) -> None:
    content = safetensors.numpy.save({"weight": stack.weight, "bias": stack.bias})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def load_combination(record: EnsembleRecord, stack_file: Path, classes: int) -> Combination:
    """Of a mean or a stack, whose layer is in a file of its own. Raises InputError if that is damaged."""
    if record.method == "mean":
        assert record.of is not None and record.weights is not None
        return Mean(record.of, np.array(record.weights, np.float64))
    assert record.inputs is not None
    inputs = max(record.inputs) + 1
    try:
        tensors = safetensors.numpy.load_file(stack_file)
        weight, bias = tensors["weight"], tensors["bias"]
        if weight.shape != (classes, inputs * classes) or bias.shape != (classes,):
            raise ValueError(f"its layer is {weight.shape} and {bias.shape} for {inputs} inputs of {classes} classes")
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{stack_file} is missing or damaged: {error}", hint="Make the ensemble again.") from error
    return Stack(tuple(record.inputs), weight, bias)
