"""What is tried, in order, when an int8 graph does not answer as the run does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial

from fieldmark.core.processor import instruction_sets
from fieldmark.exports.exporter import Cure, Cures, FloatPart

_PARTS: tuple[FloatPart, ...] = ("squeeze-excite", "stem", "head")


def multiplies_int8() -> bool:
    """Whether the processor sums products of 8 bits without saturating (VNNI, AMX, or Arm's dot product)."""
    return any("vnni" in name or name in ("amx_int8", "asimddp", "i8mm") for name in instruction_sets())


def in_order(known: Collection[Cure], has: Callable[[FloatPart], bool]) -> Iterator[Callable[[Cures], Cures]]:
    """Each further cure of those that are `known`, to be added to those that helped, from the cheapest to the dearest.

    has: whether the network has a part, which is asked when it is its turn.
    """
    if "percentile" in known:
        yield lambda cures: replace(cures, percentile=True)
    if "seven_bits" in known and not multiplies_int8():
        yield lambda cures: replace(cures, seven_bits=True)
    if "in_float" in known:
        for part in filter(has, _PARTS):
            yield partial(_in_float, part)
    if "fine_tuned" in known:
        yield lambda cures: replace(cures, fine_tuned=True)


def _in_float(part: FloatPart, cures: Cures) -> Cures:
    return replace(cures, in_float=(*cures.in_float, part))
