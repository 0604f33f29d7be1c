"""Graphs of LiteRT in int8: which operations, within which ranges."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.files import write_json
from fieldmark.core.processor import available_cores
from fieldmark.core.quiet import quiet
from fieldmark.exports.calibration import in_batches
from fieldmark.exports.eight_bits import Operation, Role, rounded
from fieldmark.exports.exporter import Cures
from fieldmark.exports.graph_parts import GraphParts, Kind, Node

_CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
_FOLLOWING = frozenset(["ADD", "AVERAGE_POOL_2D", "LOGISTIC", "MAXIMUM", "MEAN", "MUL", "RELU", "RESIZE_BILINEAR", "TANH"])
_MOVING = frozenset(
    ["CONCATENATION", "MAX_POOL_2D", "PAD", "PADV2", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT", "STRIDED_SLICE", "TRANSPOSE"]
)
_PASSING = frozenset(["ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "PRELU", "RELU6", "RELU_N1_TO_1"])
_ROLES: dict[Role, frozenset[str]] = {"follows": _FOLLOWING, "moves": _MOVING, "passes": _PASSING}
_LARGEST = 3e38
"""Beyond it are no values, but what pooling is padded with."""
_OUTSIDE = 1e-5
"""Of the values of an activation over all images, the share above, and that below, its percentile range."""
_LEAST_OF_HARD_SWISH = -3.0
"""What is smaller becomes zero."""


def quantised(path: Path, images: np.ndarray, cures: Cures, work: Path, combines: bool) -> bytes:
    """A graph in float32 with weights in int8 per channel.

    images: uint8 (n, 3, S, S), to calibrate on. work: a folder that keeps the ranges of activations from one attempt to the next.
    combines: whether it is of an ensemble.
    """
    with quiet(native=True):
        from ai_edge_quantizer import qtyping, quantizer

        graph = Graph.read(path)
        in_float = graph.parts(combines).in_float(cures.in_float)
        fixed = rounded(graph.operations, in_float)
        ranges = _ranges(graph, images, cures.percentile, work)
        weights = qtyping.TensorQuantizationConfig(8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE)
        activations = qtyping.TensorQuantizationConfig(8, symmetric=False)
        tool = quantizer.Quantizer(str(path))
        for role, given in (("matrix", None), ("fixed", activations)):
            names = defaultdict[str, list[str]](list)
            for each in graph.nodes:
                if (each.name in fixed) if given else (each.role == role and each.name not in in_float):
                    names[each.kind].append(each.scope)
            for kind, scopes in names.items():
                tool.update_quantization_recipe(
                    f"^(?:{'|'.join(re.escape(scope) for scope in scopes)})$",
                    qtyping.TFLOperationName("CONV_2D_TRANSPOSE" if kind == "TRANSPOSE_CONV" else kind),
                    qtyping.OpQuantizationConfig(given, weights, qtyping.ComputePrecision.INTEGER),
                )
        done = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(done.quantized_model)


@dataclass(frozen=True)
class _Node:
    """An operation: its kind in LiteRT, the indices of its tensors, what the quantiser calls it, and how many multiplications it takes."""

    name: str
    kind: str
    role: Role
    scope: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    multiplications: int
    in_int8: bool


@dataclass(frozen=True, eq=False)
class Graph:
    """A file as operations in order. An operation is called by its first result, and so are those that it takes."""

    path: Path
    nodes: tuple[_Node, ...]
    tensors: tuple[Any, ...]
    images: int
    results: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> Graph:
        from ai_edge_quantizer import qtyping
        from ai_edge_quantizer.utils import tfl_flatbuffer_utils

        model: Any = tfl_flatbuffer_utils.read_model(str(path))
        (graph,), (signature,) = model.subgraphs, model.signatureDefs
        kinds = {code: kind for kind, code in vars(qtyping.BuiltinOperator).items() if isinstance(code, int)}
        taken = Counter(index for each in graph.operators for index in each.inputs)
        made, nodes = set(graph.inputs), []
        for each in graph.operators:
            kind = kinds[model.operatorCodes[each.opcodeIndex].builtinCode]
            inputs, outputs = [index for index in each.inputs if index >= 0], list(each.outputs)
            of_images = tuple(index for index in inputs if index in made)
            if not of_images:
                continue
            made.update(outputs)
            own_weights = len(inputs) > 1 and inputs[1] not in made and taken[inputs[1]] == 1
            weights = graph.tensors[inputs[1]] if len(inputs) > 1 else None
            nodes.append(
                _Node(
                    name=str(outputs[0]),
                    kind=kind,
                    role=_role(kind, own_weights),
                    scope=tfl_flatbuffer_utils.get_op_scope(each, graph.tensors),
                    inputs=of_images,
                    outputs=tuple(outputs),
                    multiplications=_multiplications(kind, graph.tensors[outputs[0]].shape, weights),
                    in_int8=weights is not None and weights.type == qtyping.TensorType.INT8,
                )
            )
        results = {each.name.decode(): each.tensorIndex for each in signature.outputs}
        return cls(path, tuple(nodes), tuple(graph.tensors), graph.inputs[0], results)

    @cached_property
    def _maker(self) -> dict[int, str]:
        """By tensor, the operation that it comes from."""
        return {index: node.name for node in self.nodes for index in node.outputs}

    def _inputs(self, node: _Node) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._maker[index] for index in node.inputs if index in self._maker))

    def takers(self, tensor: int) -> set[str]:
        """The kinds of the operations that take it."""
        return {node.kind for node in self.nodes if tensor in node.inputs}

    @property
    def operations(self) -> list[Operation]:
        return [Operation(node.name, node.role, self._inputs(node)) for node in self.nodes]

    def parts(self, combines: bool) -> GraphParts:
        nodes = [Node(node.name, _kind(node, len(self._inputs(node))), self._inputs(node)) for node in self.nodes]
        return GraphParts(nodes, {name: self._maker[index] for name, index in self.results.items()}, combines)

    @property
    def share_in_int8(self) -> float:
        """Of the multiplications of convolutions and matrices."""
        return sum(node.multiplications for node in self.nodes if node.in_int8) / sum(node.multiplications for node in self.nodes)


def _role(kind: str, own_weights: bool) -> Role:
    """own_weights: whether there are any, and nothing else takes them; those that the map takes too would be stored in both precisions."""
    if kind in _CONVOLUTIONS and own_weights:
        return "convolution"
    if kind == "FULLY_CONNECTED":
        return "matrix" if own_weights else "float"
    return next((role for role, kinds in _ROLES.items() if kind in kinds), "float")


def _kind(node: _Node, inputs: int) -> Kind:
    if node.kind in _CONVOLUTIONS or node.kind == "FULLY_CONNECTED":
        return "layer"
    if node.kind == "BATCH_MATMUL":
        return "attention" if inputs > 1 else "layer"
    if node.kind == "MEAN":
        return "mean"
    return "product" if node.kind == "MUL" and inputs > 1 else "other"


def _multiplications(kind: str, shape: Any, weights: Any) -> int:
    if kind in _CONVOLUTIONS:
        return prod(shape[:3]) * prod(weights.shape)
    if kind == "FULLY_CONNECTED":
        return prod(shape) * weights.shape[-1]
    return prod(shape) * weights.shape[-2] if kind == "BATCH_MATMUL" else 0


def _ranges(graph: Graph, images: np.ndarray, percentile: bool, work: Path) -> dict[str, dict[str, np.ndarray]]:
    """The smallest and the largest value of each activation that may be rounded, by its name; they are found once."""
    batch = int(graph.tensors[graph.images].shape[0])
    path = work / f"litert-{batch}-{'percentiles' if percentile else 'extremes'}.json"
    if not path.is_file():
        write_json(path, _observed(graph, images, batch, percentile))
    return {name: {"min": np.array([low]), "max": np.array([high])} for name, (low, high) in json.loads(path.read_text()).items()}


def _observed(graph: Graph, images: np.ndarray, batch: int, percentile: bool) -> dict[str, tuple[float, float]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    fixed = rounded(graph.operations)
    observed = sorted({index for node in graph.nodes if node.name in fixed for index in (*node.inputs, *node.outputs)})
    interpreter: Any = Interpreter(
        str(graph.path),
        num_threads=available_cores(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    batches = in_batches(images, batch)
    kept = [1 + int(_OUTSIDE * percentile * len(batches) * prod(graph.tensors[index].shape)) for index in observed]
    tails = [(_Tail(keep), _Tail(keep)) for keep in kept]
    for given in batches:
        interpreter.set_tensor(graph.images, np.ascontiguousarray(given.transpose(0, 2, 3, 1)))
        interpreter.invoke()
        for index, (low, high) in zip(observed, tails, strict=True):
            values = interpreter.get_tensor(index).ravel()
            low.add(values)
            high.add(-values)
    ranges = {}
    for index, (low, high) in zip(observed, tails, strict=True):
        least = max(low.end, _LEAST_OF_HARD_SWISH) if graph.takers(index) == {"HARD_SWISH"} else low.end
        ranges[graph.tensors[index].name.decode()] = (least, -high.end)
    return ranges


@dataclass
class _Tail:
    """The `keep` smallest of many values."""

    keep: int
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def add(self, values: np.ndarray) -> None:
        near = values[values < self.end] if len(self.kept) == self.keep else values
        both = np.concatenate([self.kept, near[np.abs(near) < _LARGEST]])
        self.kept = np.partition(both, self.keep - 1)[: self.keep] if len(both) > self.keep else both

    @property
    def end(self) -> float:
        """The largest of them."""
        return float(self.kept.max())
