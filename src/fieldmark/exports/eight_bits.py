"""What of a network is computed in 8 bits by runtimes that rest on XNNPACK, as LiteRT and ExecuTorch do on processors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["convolution", "matrix", "follows", "moves", "passes", "float"]
"""How an operation takes part.

A convolution has its input and output rounded within ranges that were calibrated. A matrix of weights has its input rounded within the
range that it has at the moment, and returns float32: so the logits are not rounded, nor the tokens of a transformer, whose ranges differ
by far. What follows a convolution is rounded as well, if all that it takes is and something that takes its result is: additions,
activations, pooling. What only moves values, such as padding, is rounded too if all that take its result are. What passes is as what
follows, but computed in float32 between two roundings, because XNNPACK has no kernel for it. Everything else is float32: normalising the
pixels, layer norms, what comes after the last convolution.
"""


@dataclass(frozen=True)
class Operation:
    """`inputs` are the names of those whose results it takes; constants have none."""

    name: str
    role: Role
    inputs: tuple[str, ...]


def rounded(operations: Sequence[Operation], in_float: Collection[str] = ()) -> frozenset[str]:
    """The convolutions, and what goes with them, that are computed in 8 bits; `in_float` names those that must not."""
    takers = defaultdict[str, list[str]](list)
    for each in operations:
        for name in each.inputs:
            takers[name].append(each.name)
    found = {each.name for each in operations if each.role not in ("matrix", "float") and each.name not in in_float}

    def belongs(each: Operation) -> bool:
        if each.role == "convolution":
            return True
        if each.role == "moves" and takers[each.name] and found.issuperset(takers[each.name]):
            return True
        return bool(each.inputs) and found.issuperset(each.inputs) and not found.isdisjoint(takers[each.name])

    while apart := {each.name for each in operations if each.name in found and not belongs(each)}:
        found -= apart
    return frozenset(each.name for each in operations if each.name in found and each.role != "passes")
