"""int8 for ONNX: what ONNX Runtime quantises after training, with its ranges from images of train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.quiet import quiet
from fieldmark.exports.calibration import HISTOGRAM_IMAGES, in_batches
from fieldmark.exports.exporter import Cures
from fieldmark.exports.onnx_structure import Structure

if TYPE_CHECKING:
    from onnx import ModelProto

_PERCENTILE = 99.999
_AT_ONCE = 8
"""Images whose activations are held in memory together, for histograms."""


def prepare(float32: Path, prepared: Path) -> None:
    """Simplify a graph: constants folded, shapes inferred, and the mean over all places as the operator that can be quantised."""
    import onnx
    from onnx import numpy_helper
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet(native=True):
        quant_pre_process(str(float32), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    constants = {each.name: each for each in model.graph.initializer}
    for place, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{place}"
        if node.op_type == "ReduceMean" and len(node.input) > 1 and node.input[1] in constants:
            keeps = next((each.i for each in node.attribute if each.name == "keepdims"), 1)
            if keeps and sorted(numpy_helper.to_array(constants[node.input[1]]).tolist()) in ([2, 3], [-2, -1]):
                node.op_type = "GlobalAveragePool"
                del node.input[1:], node.attribute[:]
    onnx.save(model, prepared)


def quantise(prepared: Path, images: np.ndarray, batch: int, cures: Cures, ranges: Path, out: Path) -> None:
    """Write the int8 graph of a prepared one, for exactly `batch` images.

    images: uint8 (n, 3, S, S), to calibrate on. ranges: a folder that keeps the ranges of activations from one attempt to the next.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    original = onnx.load(prepared)
    structure = Structure(original)
    chosen = structure.quantised().difference(*(structure.part(part) for part in cures.in_float))
    batches = in_batches(images[:HISTOGRAM_IMAGES] if cures.percentile else images, batch)
    method = CalibrationMethod.Percentile if cures.percentile else CalibrationMethod.MinMax
    options = {"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": _divisor(len(batches), max(1, _AT_ONCE // batch))}
    with quiet(native=True):
        quantize_static(
            str(prepared),
            str(out),
            _Reader(batches),
            per_channel=True,
            reduce_range=cures.seven_bits,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=sorted(chosen),
            calibrate_method=method,
            extra_options=options if cures.percentile else None,
            calibration_cache_path=ranges / f"{method.name}-{batch}.json",
        )
    model = onnx.load(out)
    _return_floats(model)
    used = {node.domain for node in model.graph.node}
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)


class _Reader:
    """Batches of images, as ONNX Runtime draws them: all of them, or those of a range."""

    def __init__(self, batches: np.ndarray):
        self._batches = batches
        self.set_range(0, len(batches))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self._left, None)
        return None if images is None else {"images": images}


def _divisor(n: int, at_most: int) -> int:
    """The largest number up to `at_most` that divides n."""
    return next(each for each in range(at_most, 0, -1) if n % each == 0)


def _return_floats(model: ModelProto) -> None:
    """Let the outputs be what was computed, not what is left of it in 256 steps."""
    graph = model.graph
    maker = {tensor: node for node in graph.node for tensor in node.output}
    for output in graph.output:
        rounded = maker.get(output.name)
        if rounded is None or rounded.op_type != "DequantizeLinear":
            continue
        rounding = maker[rounded.input[0]]
        exact, name = rounding.input[0], output.name
        for node in graph.node:
            for tensors in (node.input, node.output):
                for place, tensor in enumerate(tensors):
                    if tensor in (exact, name):
                        tensors[place] = name if tensor == exact else f"{name} rounded"
        if not any(f"{name} rounded" in node.input for node in graph.node):
            graph.node.remove(rounded)
        if not any(rounding.output[0] in node.input for node in graph.node):
            graph.node.remove(rounding)
