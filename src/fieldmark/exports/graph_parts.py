"""Parts of a graph that int8 may harm, found by how the graph is built and not by the names of one network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fieldmark.exports.exporter import FloatPart

Kind = Literal["layer", "mean", "product", "attention", "other"]
"""A layer multiplies by weights (a convolution, a matrix product with a constant); a mean is that over places, as pooling takes it; a
product is that of two results, element by element, and attention that of two results as matrices."""


@dataclass(frozen=True)
class Node:
    """An operation, and the names of those whose results it takes; constants, and what is computed of them alone, are no nodes."""

    name: str
    kind: Kind
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GraphParts:
    """`nodes` come after their inputs. `outputs`: by the name of an output, that of the node that computes it. combines: an ensemble's.

    Sets of nodes are the bits of a number.
    """

    nodes: Sequence[Node]
    outputs: Mapping[str, str]
    combines: bool = False

    def of(self, part: FloatPart) -> list[str]:
        """The nodes of a part, in order.

        squeeze-excite: what scales a map by layers on its own mean. stem: the first layers. head: the last layers of each network.
        """
        if part == "squeeze-excite":
            found = self._squeeze_excite
        elif part == "stem":
            found = sum(1 << place for place in _bits(self._layers) if not self._before[place] & self._layers)
        else:
            found = self._layers & self._last(self._scores)
        return self._names(found & ~self._beside)

    @property
    def beside(self) -> list[str]:
        """What is no part of a network: the class-activation map, and how an ensemble combines its members."""
        return self._names(self._beside)

    @property
    def pooling(self) -> list[str]:
        """The means of places that are the features, with no layer after them."""
        return self._names(self._of_kind("mean") & self._last(self._to("features")))

    def in_float(self, cured: Iterable[FloatPart]) -> list[str]:
        """The nodes that are not quantised: those of the parts, and what costs nothing: the features, and what is beside."""
        return sorted({*self.beside, *self.pooling, *(name for part in cured for name in self.of(part))})

    @property
    def attends(self) -> bool:
        """Whether it is a transformer's."""
        return bool(self._of_kind("attention"))

    @cached_property
    def _place(self) -> dict[str, int]:
        return {node.name: place for place, node in enumerate(self.nodes)}

    @cached_property
    def _before(self) -> list[int]:
        """For each node, all that it depends on."""
        before: list[int] = []
        for node in self.nodes:
            found = 0
            for place in (self._place[name] for name in node.inputs):
                found |= before[place] | 1 << place
            before.append(found)
        return before

    @cached_property
    def _layers(self) -> int:
        return self._of_kind("layer")

    def _of_kind(self, kind: Kind) -> int:
        return sum(1 << place for place, node in enumerate(self.nodes) if node.kind == kind)

    def _to(self, output: str) -> int:
        """An output and all that it depends on."""
        if output not in self.outputs:
            return 0
        place = self._place[self.outputs[output]]
        return self._before[place] | 1 << place

    @property
    def _scores(self) -> int:
        """What leads to the logits of each network; an ensemble's features are the logits of its members."""
        return self._to("features" if self.combines else "logits")

    @cached_property
    def _beside(self) -> int:
        only_map = self._to("map") & ~self._to("logits") & ~self._to("features")
        return only_map | (self._to("logits") & ~self._to("features") if self.combines else 0)

    def _last(self, within: int) -> int:
        """Those of a set that no layer of it comes after."""
        followed = 0
        for place in _bits(self._layers & within):
            followed |= self._before[place]
        return within & ~followed

    @cached_property
    def _squeeze_excite(self) -> int:
        means, found = self._of_kind("mean"), 0
        for place in _bits(self._of_kind("product") & ~self._beside):
            first, second = (self._place[name] for name in self.nodes[place].inputs)
            for scaled, gate in ((first, second), (second, first)):
                between = sum(
                    1 << each for each in _bits(self._before[gate] | 1 << gate) if each > scaled and self._before[each] & 1 << scaled
                )
                if between & means and between & self._layers:
                    found |= between | 1 << place
        return found

    def _names(self, found: int) -> list[str]:
        return [self.nodes[place].name for place in _bits(found)]


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
