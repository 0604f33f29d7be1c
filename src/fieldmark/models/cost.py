"""The cost of a network: parameters and multiply-accumulates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fieldmark.core.errors import CheckFailed
from fieldmark.models.evaluating import evaluating
from fieldmark.models.factory import Classifier

_WARM_UP, _TIMED = 3, 15
_CONTAINERS = ("blocks", "features", "layers", "levels", "stages")


def parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters and of trainable parameters."""
    return sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model.parameters() if p.requires_grad)


def macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of one image of `size` x `size` in convolutions, linear layers and attention (half of PyTorch's count of
    floating-point operations). The model is not changed.
    """
    return _measure(model, size, [])[0][""]


def check_budget(model: nn.Module, max_parameters: int, name: str) -> None:
    """Raise CheckFailed if the model has more parameters than the budget; `name` is the model with its number of classes."""
    total = parameters(model)[0]
    if total > max_parameters:
        raise CheckFailed(
            f"{name} has {_millions(total, max_parameters)} parameters, "
            f"over the budget of {_millions(max_parameters, total)} (model.max_parameters)"
        )


def latency_ms(model: nn.Module, size: int) -> float:
    """Milliseconds for one image of `size` x `size` in evaluation mode, float32 on the CPU with the threads that PyTorch has: the median of
    some, after a few that do not count. The model is not changed.
    """
    images = torch.zeros(1, 3, size, size)
    taken = []
    with evaluating(model), torch.inference_mode():
        for _ in range(_WARM_UP + _TIMED):
            begun = perf_counter()
            model(images)
            taken.append(1000 * (perf_counter() - begun))
    return statistics.median(taken[_WARM_UP:])


def check_latency(model: nn.Module, size: int, max_latency_ms: float, name: str) -> None:
    """Raise CheckFailed if the model takes longer for one image than the limit; `name` as in check_budget."""
    taken = latency_ms(model, size)
    if taken > max_latency_ms:
        raise CheckFailed(
            f"{name} takes {taken:.1f} ms for one image of {size} pixels on this machine, over the limit of {max_latency_ms:g} "
            "(model.max_latency_ms)",
            hint="Choose a smaller data.size or model.name. Exported to int8, a network is several times faster: `fieldmark export`.",
        )


def summary(model: Classifier, size: int) -> str:
    """A table of the network's stages: name, output shape for one image, parameters, multiply-accumulates."""
    stages = {name: module for name, module in _stages(model) if parameters(module)[0]}
    counts, shapes = _measure(model, size, list(stages))
    total, trainable = parameters(model)
    rows = [(name, shapes.get(name, ""), parameters(module)[0], counts.get(name, 0)) for name, module in stages.items()]
    loose = (total - sum(row[2] for row in rows), counts[""] - sum(row[3] for row in rows))
    if any(loose):
        rows.append(("outside these stages", "", *loose))
    rows.append(("total", "", total, counts[""]))
    cells = [("stage", "output", "parameters", "MACs"), *((name, shape, f"{count:,}", f"{work:,}") for name, shape, count, work in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in cells]
    title = f"{model.architecture}, {model.num_classes:,} classes, images of {size} x {size}, {trainable:,} parameters trained"
    return "\n".join([title, *lines])


def _stages(model: Classifier) -> Iterator[tuple[str, nn.Module]]:
    """The parts of the backbone, with containers of stages expanded, and the head."""
    for name, part in model.backbone.named_children():
        if name in _CONTAINERS and isinstance(part, (nn.Sequential, nn.ModuleList)):
            yield from ((f"backbone.{name}.{index}", stage) for index, stage in part.named_children())
        else:
            yield f"backbone.{name}", part
    yield "head", model.head


def _measure(model: nn.Module, size: int, names: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Multiply-accumulates by module name ("" is the whole), and output shapes of the named modules, for one image."""
    shapes: dict[str, str] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = " x ".join(str(side) for side in output.shape[1:])

        return hook

    first = next(model.parameters())
    hooks = [model.get_submodule(name).register_forward_hook(remember(name)) for name in names]
    try:
        # PyTorch does not count its fused attention on the CPU; plain attention does the same multiplications.
        with evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size, device=first.device, dtype=first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    prefix = f"{type(model).__name__}."
    counts = {name.removeprefix(prefix): sum(by_operator.values()) // 2 for name, by_operator in counter.get_flop_counts().items()}
    return counts | {"": counter.get_total_flops() // 2}, shapes


def _millions(count: int, other: int) -> str:
    """`count` in millions with enough decimals to differ from `other`."""
    decimals = next(digits for digits in range(2, 7) if digits == 6 or round(count / 1e6, digits) != round(other / 1e6, digits))
    return f"{count / 1e6:.{decimals}f}".rstrip("0").rstrip(".") + " M"
