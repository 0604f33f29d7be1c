"""Bias correction of an int8 ONNX graph: each layer's outputs have the mean that they have in float32.

Rounding shifts the mean of a channel, and the shifts of many layers add up (Nagel et al., Data-Free Quantization, ICCV 2019). Layers are
corrected one after the other, each on what the corrected layers before it return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

IMAGES = 64
_INT32 = np.iinfo(np.int32)


def correct_biases(quantised: ModelProto, original: ModelProto, images: np.ndarray) -> None:
    """Change the biases of `quantised`; nodes have the same names in both. `images`: uint8 (n, batch, 3, S, S)."""
    from onnx import numpy_helper

    stored = {each.name: each for each in quantised.graph.initializer}
    maker = {node.output[0]: node for node in quantised.graph.node}
    layers = [node for node in quantised.graph.node if _has_bias(node) and node.input[2] in maker]
    outputs = {node.name: node.output[0] for node in original.graph.node}
    expected = _means(original, [outputs[node.name] for node in layers], images)
    for layer in layers:
        (found,) = _means(quantised, [layer.output[0]], images).values()
        shift = found - expected[outputs[layer.name]]
        number, step, *_ = (stored[name] for name in maker[layer.input[2]].input)
        bias = numpy_helper.to_array(number) - np.round(shift / numpy_helper.to_array(step))
        number.CopyFrom(numpy_helper.from_array(bias.clip(_INT32.min, _INT32.max).astype(np.int32), number.name))


def _has_bias(node: NodeProto) -> bool:
    return node.op_type in ("Conv", "Gemm") and len(node.input) > 2


def _means(model: ModelProto, tensors: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """Of each channel over images and places, float64 (channels,): channels are the second dimension of maps, and the last of others."""
    import onnxruntime
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    graph.initializer.extend(numpy_helper.from_array(np.array(axes, np.int64), name) for name, axes in _AXES.items())
    del graph.output[:]
    convolutions = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    for tensor in tensors:
        axes = "of maps" if tensor in convolutions else "of rows"
        graph.node.append(helper.make_node("ReduceMean", [tensor, axes], [f"mean {tensor}"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(f"mean {tensor}", TensorProto.FLOAT, None))
    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(changed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [session.run(None, {"images": batch}) for batch in images]
    return {tensor: np.stack([each[place] for each in found]).mean(axis=0, dtype=np.float64) for place, tensor in enumerate(tensors)}


_AXES = {"of maps": [0, 2, 3], "of rows": [0]}
