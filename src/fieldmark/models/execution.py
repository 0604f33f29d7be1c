"""How a network is executed: device, precision and memory format, chosen by a few timed steps.

The choice is remembered for the machine and the model, and is written into the run's recipe so that a resumed run uses the same.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from fieldmark.core.files import write_json
from fieldmark.core.randomness import key
from fieldmark.models.device import device_name, synchronise

Precision = Literal["float32", "bfloat16"]
Layout = Literal["contiguous", "channels-last"]
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
_ROUNDS = 3


@dataclass(frozen=True)
class Execution:
    device: torch.device
    precision: Precision
    layout: Layout

    @classmethod
    def of(cls, device: torch.device, precision: Literal["auto"] | Precision, layout: Literal["auto"] | Layout) -> Execution:
        """The recipe's execution; `auto` becomes float32 and contiguous."""
        return cls(device, "float32" if precision == "auto" else precision, "contiguous" if layout == "auto" else layout)

    @property
    def memory_format(self) -> torch.memory_format:
        return _LAYOUTS[self.layout]

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move the model to the device and layout."""
        model.to(device=self.device)
        model.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # an overload that torch does not declare
        if self.device.type == "cpu" and self.precision == "bfloat16":
            _keep_strided_depthwise_in_float32(model)
        return model


def choose_execution(
    model: nn.Module,
    size: int,
    batch: int,
    device: torch.device,
    precision: str,
    layout: str,
    memory: Path,
    name: str,
    announce: Callable[[str], None],
) -> tuple[Execution, dict[str, float]]:
    """The execution that trains `model` fastest among those that the recipe allows.

    Args:
        precision, layout: as in the recipe; `auto` leaves it open.
        memory: folder in which choices are remembered.
        name: identifies the network with everything that its speed depends on.
        announce: called with a message when measuring begins.

    Returns:
        the choice, and images/s of each candidate, timed now or earlier.
    """
    candidates = [
        Execution(device, p, m)
        for p in (("bfloat16", "float32") if precision == "auto" else (precision,))
        for m in (("channels-last", "contiguous") if layout == "auto" else (layout,))
    ]
    if len(candidates) == 1:
        return candidates[0], {}
    stored = memory / "arithmetic" / f"{key(device_name(device), torch.__version__, name, size, batch):016x}.json"
    speeds = _read(stored)
    if any(_label(candidate) not in speeds for candidate in candidates):
        announce("measuring which precision and memory format are fastest (once for this machine, model and size)")
        speeds = {**speeds, **_measure(model, size, min(batch, 32), candidates)}
        stored.parent.mkdir(parents=True, exist_ok=True)
        write_json(stored, speeds)
    return max(candidates, key=lambda candidate: speeds[_label(candidate)]), speeds


def _label(execution: Execution) -> str:
    return f"{execution.precision} {execution.layout}"


def _read(path: Path) -> dict[str, float]:
    try:
        return {str(name): float(speed) for name, speed in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _measure(model: nn.Module, size: int, batch: int, candidates: list[Execution]) -> dict[str, float]:
    """Median images/s of forward and backward passes, candidates interleaved; the model's weights and statistics do not change."""
    times: dict[str, list[float]] = {_label(candidate): [] for candidate in candidates}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = torch.randn(batch, 3, size, size)
        for attempt in range(_ROUNDS + 1):
            for candidate in candidates:
                trial = candidate.prepare(copy.deepcopy(model).train())
                images = noise.to(device=candidate.device, memory_format=candidate.memory_format)
                synchronise(candidate.device)
                started = time.perf_counter()
                with candidate.autocast():
                    logits = trial(images)
                F.cross_entropy(logits.float(), torch.zeros(batch, dtype=torch.long, device=candidate.device)).backward()
                synchronise(candidate.device)
                if attempt:
                    times[_label(candidate)].append(time.perf_counter() - started)
    return {name: round(batch / statistics.median(seconds), 2) for name, seconds in times.items()}


def _keep_strided_depthwise_in_float32(model: nn.Module) -> None:
    """Run strided depthwise convolutions in float32 inside a bfloat16 CPU model.

    The CPU library has no fast bfloat16 kernel for the gradient of their input and falls back to one that is ten times slower; in
    MobileNetV2 four such layers take 40 % of a training step.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or "forward" in vars(module):
            continue
        if module.groups == module.in_channels > 1 and max(module.stride) > 1:
            module.forward = types.MethodType(_float32_forward, module)  # type: ignore[method-assign]  # of this one module


def _float32_forward(module: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(module).forward(module, x.float()).to(x.dtype)
