"""Networks in int8 for ExecuTorch: which operations, within which ranges."""

from __future__ import annotations

import numpy as np
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from torch import Tensor, fx, nn
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationConfig, QuantizationSpec

from fieldmark.exports.calibration import HISTOGRAM_IMAGES, in_batches
from fieldmark.exports.eight_bits import Operation, Role, rounded
from fieldmark.exports.exporter import Cures, FloatPart
from fieldmark.exports.graph_parts import GraphParts, Kind, Node
from fieldmark.exports.network import Deployed

_ROLES: dict[Role, frozenset[str]] = {
    "convolution": frozenset({"conv1d", "conv2d", "conv_transpose2d", "convolution"}),
    "follows": frozenset({"adaptive_avg_pool2d", "add", "hardtanh", "mean", "mul", "relu"}),
    "moves": frozenset({"cat", "flatten", "max_pool2d", "permute", "slice", "squeeze", "view"}),
    "passes": frozenset(
        {
            "avg_pool2d",
            "clamp",
            "constant_pad_nd",
            "dropout",
            "elu",
            "gelu",
            "hardsigmoid",
            "hardswish",
            "leaky_relu",
            "pad",
            "reshape",
            "sigmoid",
            "silu",
            "tanh",
        }
    ),
}
"""By the name of the operator in PyTorch, without what tells its variants apart."""
_FUSED = frozenset({"hardtanh", "relu"})
"""They are a part of the convolution before them, if nothing else takes its result."""
_ANNOTATION = "quantization_annotation"


def quantised(network: Deployed, example: Tensor, images: np.ndarray, cures: Cures, combines: bool) -> nn.Module:
    """The network with its roundings, weights in int8 per channel; images: uint8 (n, 3, S, S); combines: whether it is an ensemble."""
    traced = torch.export.export(network, (example,)).module()
    prepared = prepare_pt2e(traced, _Quantizer(cures, network.outputs, combines))
    with torch.inference_mode():
        for given in in_batches(images[:HISTOGRAM_IMAGES] if cures.percentile else images, len(example)):
            prepared(torch.from_numpy(given))
    converted = convert_pt2e(prepared)
    _dequantise_for_each(converted)
    return converted


def _dequantise_for_each(model: fx.GraphModule) -> None:
    """Let what takes a result that was rounded have it in float32 by a node of its own.

    XNNPACK's rearranging of channels, if one of several takers needs it, is done to all of them.
    """
    for node in list(model.graph.nodes):
        if _operator(node) == "dequantize_per_tensor":
            for taker in list(node.users)[1:]:
                with model.graph.inserting_before(taker):
                    taker.replace_input_with(node, model.graph.node_copy(node))
    model.recompile()


def has_part(network: Deployed, example: Tensor, part: FloatPart, combines: bool) -> bool:
    """Whether there is anything in it."""
    traced = torch.export.export(network, (example,)).module()
    assert isinstance(traced, fx.GraphModule)
    return bool(Graph(traced).parts(network.outputs, combines).of(part))


class _Quantizer(XNNPACKQuantizer):
    """What `eight_bits` says; ExecuTorch's own rule rounds the logits, the features and the normalised pixels as well."""

    def __init__(self, cures: Cures, outputs: tuple[str, ...], combines: bool):
        super().__init__()
        self.cures, self.outputs, self.combines = cures, outputs, combines
        fixed, moving = (get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic) for dynamic in (False, True))
        observer = HistogramObserver if cures.percentile else MinMaxObserver
        self.activations = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=observer.with_args(eps=2**-12),
        )
        self.set_global(QuantizationConfig(self.activations, self.activations, fixed.weight, fixed.bias, False))
        self.set_operator_type(torch.ops.aten.linear.default, moving)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        graph = Graph(model)
        in_float = graph.parts(self.outputs, self.combines).in_float(self.cures.in_float)
        fixed = rounded(graph.operations, in_float)
        chosen = fixed | {each.name for each in graph.operations if each.role == "matrix" and each.name not in in_float}
        self.set_filter_function(lambda node: node.op != "call_function" or node.name in chosen)
        super().annotate(model)
        for node in model.graph.nodes:
            if node.op == "call_function" and node.name not in chosen:
                node.meta.pop(_ANNOTATION, None)
            elif node.name in chosen and _is_fused(node) and node.args[0].name in chosen:
                node.args[0].meta[_ANNOTATION].output_qspec = None
                node.meta[_ANNOTATION] = QuantizationAnnotation(output_qspec=self.activations, _annotated=True)
        return model


class Graph:
    """A traced network as operations in order."""

    def __init__(self, model: fx.GraphModule):
        self.nodes: list[fx.Node] = []
        known = {node for node in model.graph.nodes if node.op == "placeholder"}
        for node in model.graph.nodes:
            if node.op == "call_function" and not known.isdisjoint(node.all_input_nodes):
                known.add(node)
                self.nodes.append(node)
        (self.output,) = (node for node in model.graph.nodes if node.op == "output")
        self._inputs = {
            node: tuple(each.name for each in node.all_input_nodes if each in known and each.op != "placeholder") for node in self.nodes
        }

    @property
    def operations(self) -> list[Operation]:
        return [Operation(node.name, _role(node), self._inputs[node]) for node in self.nodes]

    def parts(self, outputs: tuple[str, ...], combines: bool) -> GraphParts:
        nodes = [Node(node.name, _kind(node, len(self._inputs[node])), self._inputs[node]) for node in self.nodes]
        results = dict(zip(outputs, (node.name for node in self.output.all_input_nodes), strict=True))
        return GraphParts(nodes, results, combines)


def _operator(node: fx.Node) -> str:
    """Its name: "relu" of `aten.relu_.default`."""
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else schema.name.rpartition("::")[2].removesuffix("_")


def _is_fused(node: fx.Node) -> bool:
    """Whether it is an activation that the convolution before it computes as well; only its result is rounded."""
    given = node.args[0] if _operator(node) in _FUSED else None
    return isinstance(given, fx.Node) and _operator(given) in _ROLES["convolution"] and len(given.users) == 1


def _role(node: fx.Node) -> Role:
    operator = _operator(node)
    if operator == "linear":
        weights = node.args[1]
        assert isinstance(weights, fx.Node)
        return "matrix" if weights.op == "get_attr" and len(weights.users) == 1 else "float"
    if _is_fused(node):
        return "convolution"
    return next((role for role, operators in _ROLES.items() if operator in operators), "float")


def _kind(node: fx.Node, inputs: int) -> Kind:
    operator = _operator(node)
    if operator == "linear" or operator in _ROLES["convolution"]:
        return "layer"
    if operator in ("adaptive_avg_pool2d", "mean"):
        return "mean"
    if operator in ("matmul", "scaled_dot_product_attention") and inputs > 1:
        return "attention"
    return "product" if operator == "mul" and inputs > 1 else "other"
