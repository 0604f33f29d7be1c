"""A moving average of the weights during training (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fieldmark.core.recipe.ema import ExponentialAverage, NoAverage
from fieldmark.training.position import Weights


class AveragedWeights:
    """The average begins with the model's weights, on their device and in their dtype and layout.

    Update n (the first is 0) keeps `decay` of the average and takes the rest from the model; with `warmup` it keeps no more than (1 + n) /
    (10 + n). Running statistics of batch norm are averaged too, or copied; counters are copied.
    """

    def __init__(self, settings: ExponentialAverage, model: nn.Module):
        self.settings = settings
        self.updates = 0
        self._tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = self.settings.decay
        if self.settings.warmup:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        averaged, newest = [], []
        weights = {name for name, _ in model.named_parameters()}
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and (name in weights or self.settings.buffers == "averaged"):
                averaged.append(self._tensors[name])
                newest.append(tensor)
            else:
                self._tensors[name].copy_(tensor)
        torch._foreach_lerp_(averaged, newest, 1 - decay)
        self.updates += 1

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Inside the `with` block the model has the averaged weights; before the first update these are its own."""
        if not self.updates:
            yield
            return
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    def _exchange(self, model: nn.Module) -> None:
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, average in self._tensors.items():
            own[name].data, self._tensors[name] = average, own[name].data

    def state(self) -> dict[str, Any]:
        return {"tensors": self._tensors, "updates": self.updates}

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        tensors: dict[str, Tensor] = state["tensors"]
        for name, tensor in self._tensors.items():
            tensor.copy_(tensors[name])


class Averaging:
    """The trained weights of a model and, if the recipe asks for it, their average."""

    def __init__(self, settings: NoAverage | ExponentialAverage, model: nn.Module):
        self._model = model
        self._average = AveragedWeights(settings, model) if isinstance(settings, ExponentialAverage) else None

    @property
    def kinds(self) -> tuple[Weights, ...]:
        """The weights that are evaluated on val; the first win a tie."""
        if self._average is None:
            return ("trained",)
        return ("averaged", "trained") if self._average.settings.use == "better" else ("averaged",)

    @property
    def is_kept(self) -> bool:
        return self._average is not None

    def after_step(self, step: int) -> None:
        """`step` counts from 1 over the epochs of a phase."""
        if self._average is not None and step % self._average.settings.every == 0:
            self._average.update(self._model)

    @contextmanager
    def in_model(self, kind: Weights) -> Iterator[None]:
        """Inside the `with` block the model has the trained or the averaged weights."""
        if kind == "trained":
            yield
            return
        assert self._average is not None
        with self._average.in_place_of(self._model):
            yield

    def state(self) -> dict[str, Any]:
        return {} if self._average is None else {"average": self._average.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        if self._average is not None:
            self._average.load_state(state["average"])
