"""What the nodes of an ONNX graph are for, told from its structure: which are quantised, and which are its stem, its gates, its head."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from fieldmark.exports.exporter import FloatPart

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_WEIGHED = ("Conv", "Gemm", "MatMul")
_POOLS = ("GlobalAveragePool", "ReduceMean")


class Structure:
    """Of a graph with inferred shapes, whose nodes have names of their own and come in the order in which they are computed."""

    def __init__(self, model: ModelProto):
        graph = model.graph
        self.nodes = list(graph.node)
        self._constants = {each.name for each in graph.initializer}
        self._maker = {tensor: node for node in self.nodes for tensor in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for tensor in node.input:
                self._readers.setdefault(tensor, []).append(node)
        values = (*graph.input, *graph.value_info, *graph.output)
        self._shapes = {each.name: tuple(side.dim_value for side in each.type.tensor_type.shape.dim) for each in values}

    def quantised(self) -> set[str]:
        """Names of the nodes that are worth quantising: those with weights, and what only passes feature maps on.

        Not those behind the class-activation map, nor the pooling that makes the features: what is decided with stays exact.
        """
        wanted = self._behind(("logits", "features"))
        weighed = {node.name for node in self.nodes if self._is_weighed(node)}
        last = {node.name for node in self._without_places("features")} - weighed
        return (weighed | self._on_maps) & wanted - last

    def part(self, part: FloatPart) -> set[str]:
        """Names of the nodes of a part; none where the network has no such part."""
        if part == "stem":
            return self._stem
        return self._gates if part == "squeeze-excite" else self._head

    @cached_property
    def _on_maps(self) -> set[str]:
        """What changes feature maps between convolutions: elementwise, by moving or joining them, or by pooling."""
        maps, found = set[str](), set[str]()
        for node in self.nodes:
            (first, *_) = node.output
            changes = node.op_type not in (*_WEIGHED, "Softmax") and any(tensor in maps for tensor in node.input)
            if len(self._shapes.get(first, ())) >= 4 and (node.op_type == "Conv" or changes):
                maps.update(node.output)
                if changes:
                    found.add(node.name)
        return found

    @cached_property
    def _stem(self) -> set[str]:
        """The convolutions that see the image itself."""
        seen = {"images"}
        found = set[str]()
        for node in self.nodes:
            if any(tensor in seen for tensor in node.input):
                if self._is_weighed(node):
                    found.add(node.name)
                else:
                    seen.update(node.output)
        return found

    @cached_property
    def _head(self) -> set[str]:
        """What makes the logits of what was pooled."""
        return {node.name for node in self._without_places("logits")}

    @cached_property
    def _gates(self) -> set[str]:
        """From pooling a map to the factors of its channels, whose product with the map is none of it."""
        found = set[str]()
        for pool in self.nodes:
            if pool.op_type in _POOLS and pool.name not in self._head and not self._has_places(pool.output[0]):
                waiting = [pool]
                while waiting:
                    node = waiting.pop()
                    if node.name not in found and not any(map(self._has_places, node.output)):
                        found.add(node.name)
                        waiting += [reader for tensor in node.output for reader in self._readers.get(tensor, ())]
        return found

    def _is_weighed(self, node: NodeProto) -> bool:
        return node.op_type in _WEIGHED and node.input[1] in self._constants

    def _has_places(self, tensor: str) -> bool:
        """Whether it has more than one value per image and channel."""
        shape = self._shapes.get(tensor)
        return shape is None or math.prod(shape[2:]) > 1

    def _without_places(self, output: str) -> Iterator[NodeProto]:
        """The nodes before an output, back to the pooling."""
        return self._back([output], lambda node: not any(map(self._has_places, node.output)))

    def _behind(self, outputs: Iterable[str]) -> set[str]:
        return {node.name for node in self._back(outputs, lambda node: True)}

    def _back(self, tensors: Iterable[str], keep: Callable[[NodeProto], bool]) -> Iterator[NodeProto]:
        """The nodes that tensors are made by, those that these are made by, and so on, as far as they are to be kept."""
        waiting, seen = list(tensors), set[str]()
        while waiting:
            node = self._maker.get(waiting.pop())
            if node is not None and node.name not in seen and keep(node):
                seen.add(node.name)
                waiting += node.input
                yield node
