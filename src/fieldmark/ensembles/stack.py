"""Fitting a stack: a linear layer on the logits of several networks, side by side (stacked generalisation, Wolpert, 1992)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.console import Advance
from fieldmark.core.randomness import key, permutation
from fieldmark.scoring.combination import log_probabilities
from fieldmark.scoring.crossfit import FOLDS, cross_fitted

_PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3)
_STEPS = 100
_EPOCHS, _BATCH, _RATE, _LAST_RATE, _MOMENTUM = 20, 32, 1e-3, 1e-6, 0.9

Layer = tuple[np.ndarray, np.ndarray]
"""Weight float32 (C, inputs * C) and bias float32 (C,)."""


def fit_stack(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, advance: Advance
) -> tuple[Layer, float, np.ndarray]:
    """A stack for images that the networks were not trained on.

    There are few of these and many weights, so the layer is a weighted sum of the networks' logits plus a deviation from it, whose squares
    are penalised. The penalty is chosen by cross-validation; the largest amounts to the weighted sum, so a stack is never far below that.

    Args:
        logits: the stack's inputs, float (n, inputs * C); rows that are not finite are ignored.
        labels: int (n,) in [0, C).
        groups: int (n,); images that are alike share a group.

    Returns:
        the layer; the penalty; and each image's logits from a stack with this penalty that was fitted without it, float32 (n, C).
    """
    sound = np.isfinite(logits).all(axis=1)
    seen, wanted = torch.from_numpy(logits[sound].astype(np.float32)), torch.from_numpy(labels[sound].astype(np.int64))
    scores: dict[float, tuple[float, np.ndarray]] = {}
    for done, penalty in enumerate(_PENALTIES):

        def answer(fitted: np.ndarray, held: np.ndarray, penalty: float = penalty) -> np.ndarray:
            weight, bias = _fit(seen[fitted], wanted[fitted], classes, penalty)
            return (seen[held] @ weight.T + bias).numpy()

        held_out = cross_fitted(answer, groups[sound])
        loss = -log_probabilities(held_out)[np.arange(len(seen)), wanted.numpy()].mean()
        scores[penalty] = (float(loss), held_out)
        advance((done + 1) * FOLDS, len(_PENALTIES) * FOLDS)
    penalty = min(scores, key=lambda each: scores[each][0])
    weight, bias = _fit(seen, wanted, classes, penalty)
    answers = np.full((len(logits), classes), np.nan, np.float32)
    answers[sound] = scores[penalty][1]
    return (weight.numpy(), bias.numpy()), penalty, answers


def _fit(seen: Tensor, labels: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    inputs = seen.shape[1] // classes
    each = seen.view(len(seen), inputs, classes)
    scale = torch.full((inputs,), 1 / inputs, requires_grad=True)
    deviation = torch.zeros(classes, seen.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, deviation, bias], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = F.cross_entropy(torch.einsum("nic,i->nc", each, scale) + seen @ deviation.T + bias, labels)
        value = value + penalty / 2 * (deviation.square().sum() + bias.square().sum())
        value.backward()
        return value.item()

    optimizer.step(loss)
    weighted = torch.cat([torch.eye(classes) * factor for factor in scale.detach()], dim=1)
    return weighted + deviation.detach(), bias.detach()


def train_stack(logits: np.ndarray, labels: np.ndarray, classes: int, advance: Callable[[int, int], None]) -> Layer:
    """A stack as in a published competition entry: a fresh linear layer, trained for 20 epochs on the training images.

    The networks' answers on images that they have learnt say little about their errors on others. Batches of 32, SGD with momentum 0.9 and
    a cosine from 1e-3 to 1e-6 are those of the entry's networks; for the stack it states none.
    """
    sound = np.isfinite(logits).all(axis=1)
    seen, wanted = torch.from_numpy(logits[sound].astype(np.float32)), torch.from_numpy(labels[sound].astype(np.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Linear(seen.shape[1], classes)
    optimizer = torch.optim.SGD(layer.parameters(), _RATE, momentum=_MOMENTUM)
    steps = max(len(seen) // _BATCH, 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * steps, _LAST_RATE)
    for epoch in range(_EPOCHS):
        order = torch.from_numpy(permutation(key(0, "stack", epoch), len(seen)))
        for chosen in order[: steps * _BATCH].split(_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(layer(seen[chosen]), wanted[chosen]).backward()
            optimizer.step()
            schedule.step()
        advance(epoch + 1, _EPOCHS)
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()
