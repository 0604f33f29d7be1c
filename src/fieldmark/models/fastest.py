"""The execution that trains a network fastest on this machine: a few timed steps of each, remembered for the next training."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from fieldmark.core.console import Advance, Console
from fieldmark.core.files import write_json
from fieldmark.core.processor import computes_bfloat16, instruction_sets
from fieldmark.core.randomness import key
from fieldmark.datasets.content import make_folder
from fieldmark.models.device import synchronise
from fieldmark.models.execution import Execution, Layout, Precision
from fieldmark.models.other_programs import BUSY, OtherPrograms
from fieldmark.models.spinning import spin_only_if_idle

_SECONDS, _SHARE = 5.0, 0.01
"""The time that measuring may take: the larger of these seconds and this share of the training."""
_FIRST_BATCH, _BATCH = 2, 32
_ROUNDS = 3
_FAR_BEHIND = 0.5
"""Of the fastest one's speed: slower candidates are not measured further."""


@dataclass(frozen=True)
class Choice:
    """speeds: images/s of each candidate in forward and backward passes; empty if the recipe left nothing to choose."""

    execution: Execution
    speeds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in self.speeds.items())
        return f"{self.execution.precision}, {self.execution.layout}" + (f" (images/s: {speeds})" if speeds else "")


def choose_execution(
    model: nn.Module,
    size: int,
    batch: int,
    images: int,
    device: torch.device,
    precision: Literal["auto"] | Precision,
    layout: Literal["auto"] | Layout,
    memory: Path,
    name: str,
    console: Console,
) -> Choice:
    """The execution that trains `model` fastest among those that the recipe allows.

    bfloat16 is a candidate only if the processor computes it. Takes at most 5 s or 1 % of the training, whichever is longer, beyond
    the first step of each candidate on two images.

    Args:
        images: of the whole training, all epochs together.
        precision, layout: as in the recipe; `auto` leaves it open.
        memory: folder in which speeds are remembered, unless other programs kept the processor busy when they were measured.
        name: identifies the network with everything that its speed depends on.
    """
    native: tuple[Precision, ...] = ("bfloat16", "float32") if _has_bfloat16(device) else ("float32",)
    precisions = native if precision == "auto" else (precision,)
    layouts: tuple[Layout, ...] = ("channels-last", "contiguous") if layout == "auto" else (layout,)
    candidates = [Execution(device, p, m) for p in precisions for m in layouts]
    if len(candidates) == 1:
        return Choice(candidates[0])
    stored = memory / "execution" / f"{key(_capabilities(device), torch.__version__, name, size, batch):016x}.json"
    speeds = _read(stored)
    if any(str(candidate) not in speeds for candidate in candidates):
        others = OtherPrograms()
        speeds |= _race(model, size, batch, images, candidates, console)
        if (used := others.cores()) > BUSY:
            console.say(f"other programs used {used:.1f} cores while precision and memory format were measured: not remembered")
        else:
            make_folder(stored.parent)
            write_json(stored, speeds)
    return Choice(max(candidates, key=lambda candidate: speeds[str(candidate)]), speeds)


def _has_bfloat16(device: torch.device) -> bool:
    return computes_bfloat16() if device.type == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)


def _capabilities(device: torch.device) -> str:
    """What decides which execution is fastest. Not the processor's name: processors with and without bfloat16 share theirs."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{' '.join(sorted(instruction_sets()))}, {torch.get_num_threads()} threads"


def _read(path: Path) -> dict[str, float]:
    try:
        return {str(name): float(speed) for name, speed in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _race(model: nn.Module, size: int, batch: int, images: int, candidates: Sequence[Execution], console: Console) -> dict[str, float]:
    """Images/s of each candidate: first on two images, then, without those far behind, on more of them as the time allows."""
    started = time.perf_counter()
    title = "measuring which precision and memory format are fastest"
    with torch.random.fork_rng(devices=[]), spin_only_if_idle(), console.progress(title, "steps") as advance:
        torch.manual_seed(0)
        runners = [_Runner(candidate, model, size, advance) for candidate in candidates]
        for runner in runners:
            runner.step(min(_FIRST_BATCH, batch))
        for runner in runners:
            runner.time(min(_FIRST_BATCH, batch))
        best = max(runner.speed for runner in runners)
        ahead = [runner for runner in runners if runner.speed >= _FAR_BEHIND * best]
        ends = started + max(_SECONDS, _SHARE * images / best)
        count = min(batch, _BATCH, int(best * (ends - time.perf_counter()) / (len(ahead) * (1 + _ROUNDS))))
        if len(ahead) > 1 and count > _FIRST_BATCH:
            for runner in ahead:
                runner.step(count)
                runner.seconds_per_image.clear()
            for attempt in range(_ROUNDS):
                for runner in ahead:
                    if attempt == 0 or time.perf_counter() < ends:
                        runner.time(count)
    return {str(runner.execution): round(runner.speed, 2) for runner in runners}


class _Runner:
    """A copy of the model in one execution, and the times of its forward and backward passes."""

    def __init__(self, execution: Execution, model: nn.Module, size: int, advance: Advance):
        self.execution, self.seconds_per_image = execution, list[float]()
        self._model, self._size = execution.prepare(copy.deepcopy(model).train()), size
        self._advance, self._steps = advance, 0

    @property
    def speed(self) -> float:
        """Images/s, the median of what was timed."""
        return 1 / statistics.median(self.seconds_per_image)

    def time(self, images: int) -> None:
        self.seconds_per_image.append(self.step(images) / images)

    def step(self, images: int) -> float:
        """The seconds of a forward and a backward pass; the first of a size takes longer, because it also prepares the kernels."""
        execution = self.execution
        self._steps += 1
        self._advance(self._steps, None, str(execution))
        pixels = torch.randn(images, 3, self._size, self._size).to(device=execution.device, memory_format=execution.memory_format)
        synchronise(execution.device)
        started = time.perf_counter()
        with execution.autocast():
            logits = self._model(pixels)
        F.cross_entropy(logits.float(), torch.zeros(images, dtype=torch.long, device=execution.device)).backward()
        synchronise(execution.device)
        return time.perf_counter() - started
