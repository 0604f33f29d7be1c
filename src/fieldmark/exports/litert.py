"""Export to LiteRT, and int8 by ai-edge-quantizer."""

from __future__ import annotations

import copy
import os
import re
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from fieldmark.core.environment import kept_environment
from fieldmark.core.errors import InputError, reason_of
from fieldmark.core.extras import needed_for
from fieldmark.core.quiet import quiet
from fieldmark.exports.exporter import Cures, Exporter, FloatPart, Source
from fieldmark.exports.network import Deployed, DeployedNetwork, Normalise


class LiteRtExporter(Exporter):
    """Images are channels-last, as cameras and decoders of phones have them."""

    format = "litert"
    layout = "NHWC"
    packages = ("ai-edge-litert", "ai-edge-quantizer", "litert-torch")
    tool = "ai-edge-quantizer"
    cures = frozenset({"percentile", "in_float", "fine_tuned"})

    def require(self) -> None:
        with needed_for("exporting to LiteRT"), kept_environment(), quiet(native=True):
            import ai_edge_litert  # noqa: F401
            import ai_edge_quantizer  # noqa: F401
            import litert_torch  # noqa: F401

    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        return [shutil.copyfile(_graph(source, batch), folder / f"model-{batch}.tflite").name]

    def quantise(self, source: Source, batch: int, folder: Path, cures: Cures) -> list[str]:
        from fieldmark.exports.litert_int8 import quantised

        path, images = folder / f"model-{batch}.tflite", source.calibration
        with source.console.waiting("calibrating"):
            path.write_bytes(quantised(_graph(source, batch), images, cures, source.work, source.combines))
        return [path.name]

    def has(self, source: Source, part: FloatPart) -> bool:
        from fieldmark.exports.litert_int8 import Graph

        with quiet(native=True):
            return bool(Graph.read(_graph(source, 1)).parts(source.combines).of(part))


def _graph(source: Source, batch: int) -> Path:
    """In float32; it is made once."""
    path = source.work / f"litert-{batch}.tflite"
    if not path.is_file():
        write_litert(source.network, batch, path)
    return path


def write_litert(network: Deployed, batch: int, path: Path) -> None:
    """The graph for exactly `batch` images, its input `images` (batch, size, size, 3). The same network makes the same bytes.

    Raises InputError, naming the operator, where LiteRT cannot express the network.
    """
    example = torch.zeros(batch, network.size, network.size, 3, dtype=torch.uint8)
    try:
        with kept_environment(), quiet(native=True):
            os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
            import litert_torch

            litert_torch.convert(_ChannelsLast(network).eval(), sample_kwargs={"images": example}).export(str(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the converter's errors share no base of their own
        raise InputError(f"LiteRT cannot express this network: {_reason(error)}", hint="torch bundles take any network.") from error


def _reason(error: Exception) -> str:
    """The operator that is missing, or the first line of what went wrong."""
    if missing := re.search(r"Lowering not found: (\S+)", str(error)):
        return f"it has no operator for {missing[1]}"
    return reason_of(error)


class _ChannelsLast(nn.Module):
    """The same network for uint8 (B, S, S, 3); its outputs by name."""

    def __init__(self, network: Deployed):
        super().__init__()
        self.network = copy.deepcopy(network)
        for each in self.network.modules():
            if isinstance(each, DeployedNetwork) and isinstance(each.normalise, Normalise):
                each.normalise = _NormaliseRows(each.normalise, network.size)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.network.outputs, self.network(images), strict=True))


class _NormaliseRows(nn.Module):
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S), with the factors of a whole row: those of three channels alone are multiplied slowly."""

    scale: Tensor
    shift: Tensor

    def __init__(self, normalise: Normalise, size: int):
        super().__init__()
        self.size = size
        self.register_buffer("scale", normalise.scale.flatten().repeat(size))
        self.register_buffer("shift", normalise.shift.flatten().repeat(size))

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(2).float() * self.scale + self.shift
        return rows.unflatten(2, (self.size, 3)).permute(0, 3, 1, 2)
