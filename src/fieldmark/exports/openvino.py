"""Export to OpenVINO, and int8 by NNCF."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from fieldmark.bundles.openvino_graph import load_openvino, without_telemetry
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.quiet import quiet
from fieldmark.exports.calibration import in_batches
from fieldmark.exports.cures import multiplies_int8
from fieldmark.exports.exporter import Cures, Exporter, FloatPart, Source
from fieldmark.exports.graph_parts import GraphParts, Kind, Node
from fieldmark.exports.onnx import write_onnx

_KINDS: dict[str, Kind] = {
    "Convolution": "layer",
    "GroupConvolution": "layer",
    "MatMul": "layer",
    "ScaledDotProductAttention": "attention",
    "ReduceMean": "mean",
    "AvgPool": "mean",
    "AdaptiveAvgPool": "mean",
    "Multiply": "product",
}


class OpenVinoExporter(Exporter):
    """By way of ONNX."""

    format = "openvino"
    packages = ("nncf", "onnx", "openvino")
    settings: ClassVar[Mapping[Literal["INFERENCE_PRECISION_HINT"], Literal["f32"]]] = {"INFERENCE_PRECISION_HINT": "f32"}
    """Of itself OpenVINO computes in bfloat16 where the processor has it."""
    tool = "NNCF"

    def require(self) -> None:
        load_openvino("exporting to OpenVINO")
        with needed_for("exporting to OpenVINO"):
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401

            _load_nncf()

    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        return _save(_graph(source, batch), batch, folder)

    def quantise(self, source: Source, batch: int, folder: Path, cures: Cures) -> list[str]:
        graph = _graph(source, batch)
        images = _Images(source.calibration, batch, source.console)
        parts = parts_of(graph, source.combines)
        with quiet(progress=True):
            quantised = _quantised(graph, images, cures, parts)
        return _save(quantised, batch, folder)

    def has(self, source: Source, part: FloatPart) -> bool:
        return bool(parts_of(_graph(source, 1), source.combines).of(part))


def parts_of(graph: Any, combines: bool) -> GraphParts:
    """The parts of an OpenVINO graph; combines: whether it is of an ensemble."""
    nodes = []
    known = set[str]()
    for each in graph.get_ordered_ops():
        inputs = tuple(given.get_source_output().get_node().get_friendly_name() for given in each.inputs())
        of_images = tuple(dict.fromkeys(name for name in inputs if name in known))
        name, kind = each.get_friendly_name(), _KINDS.get(each.get_type_name(), "other")
        if not of_images and each.get_type_name() != "Parameter":
            continue
        known.add(name)
        if kind == "layer" and len(of_images) > 1:
            kind = "attention"
        elif kind == "product" and len(of_images) < 2:
            kind = "other"
        nodes.append(Node(name, kind, of_images))
    outputs = {output.get_any_name(): output.get_node().input(0).get_source_output().get_node() for output in graph.outputs}
    return GraphParts(nodes, {name: node.get_friendly_name() for name, node in outputs.items()}, combines)


def _graph(source: Source, batch: int) -> Any:
    """In float32."""
    import openvino

    path = source.work / f"openvino-{batch}.onnx"
    if not path.is_file():
        write_onnx(source.network, batch, path)
    try:
        graph = openvino.convert_model(path)
    except Exception as error:  # its errors share no base of their own
        raise InputError(f"OpenVINO cannot express this network: {str(error).strip().splitlines()[-1]}") from error
    _rename(graph)
    return graph


def _rename(graph: Any) -> None:
    """Number nodes that the library named from 0 on; it counts from the beginning of the process, and no two exports would be alike."""
    nodes = graph.get_ordered_ops()
    taken, numbers = {each.get_friendly_name() for each in nodes}, count()
    for each in nodes:
        if re.fullmatch(r"[A-Z][A-Za-z]*_\d+", each.get_friendly_name()):
            each.set_friendly_name(next(name for number in numbers if (name := f"{each.get_type_name()}.{number}") not in taken))


def _save(graph: Any, batch: int, folder: Path) -> list[str]:
    import openvino

    path = folder / f"model-{batch}.xml"
    _rename(graph)
    try:
        openvino.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:  # all that it says of a full disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    return [path.name, path.with_suffix(".bin").name]


def _quantised(graph: Any, images: _Images, cures: Cures, parts: GraphParts) -> Any:
    """Weights per channel and symmetric, activations per tensor with a zero point.

    Ranges of activations are from the least to the greatest value that any image shows. NNCF's own, the mean of the images' extremes, cost
    MobileNetV3 a tenth of its accuracy; percentile ranges are those that lose least, by a histogram of the values.
    """
    nncf = _load_nncf()
    ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet
    if cures.seven_bits:
        narrow = nncf.OverflowFix.ENABLE
    else:
        narrow = nncf.OverflowFix.DISABLE if multiplies_int8() else nncf.OverflowFix.FIRST_LAYER
    in_float = parts.in_float(cures.in_float)
    return nncf.quantize(
        graph,
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        model_type=nncf.ModelType.TRANSFORMER if parts.attends else None,
        ignored_scope=nncf.IgnoredScope(names=in_float) if in_float else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=narrow,
            disable_bias_correction=True,
            activations_range_estimator_params=ranges.HISTOGRAM if cures.percentile else ranges.MINMAX,
        ),
    )


@dataclass(frozen=True, eq=False)
class _Images:
    """Images in batches, however often they are gone through."""

    images: np.ndarray
    batch: int
    console: Console

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch)

    def __iter__(self) -> Iterator[np.ndarray]:
        with self.console.progress("calibrating", "images") as advance:
            for number, given in enumerate(in_batches(self.images, self.batch), 1):
                yield given
                advance(min(number * self.batch, len(self.images)), len(self.images))


def _load_nncf() -> Any:
    with quiet():
        import torch.utils.cpp_extension  # noqa: F401  (which reports on CUDA)
    with without_telemetry():
        import nncf
    return nncf
