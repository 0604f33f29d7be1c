"""How a network is executed: device, precision and memory format."""

from __future__ import annotations

import types
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from fieldmark.core.processor import computes_bfloat16

Precision = Literal["float32", "bfloat16"]
Layout = Literal["contiguous", "channels-last"]
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


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
    def is_emulated(self) -> bool:
        """Whether the processor has to emulate the precision, which is far slower than float32."""
        return self.precision == "bfloat16" and self.device.type == "cpu" and not computes_bfloat16()

    def native(self) -> Execution:
        """This one, in float32 if its own precision would be emulated. Results are equal but for rounding."""
        return replace(self, precision="float32") if self.is_emulated else self

    def __str__(self) -> str:
        return f"{self.precision} {self.layout}"

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
