"""What is tried, in order, when an int8 graph does not answer as the run does."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from fieldmark.core.processor import instruction_sets
from fieldmark.exports.exporter import Cure, Cures, FloatPart

_PARTS: tuple[FloatPart, ...] = ("squeeze-excite", "stem", "head")


def multiplies_int8() -> bool:
    """Whether the processor sums products of 8 bits without saturating (VNNI, AMX, or Arm's dot product)."""
    return any("vnni" in name or name in ("amx_int8", "asimddp", "i8mm") for name in instruction_sets())


def after(cures: Cures, known: Collection[Cure]) -> Iterator[Cures]:
    """Each further cure of those that are `known`, on top of these, from the cheapest to the dearest."""
    if not cures.percentile and "percentile" in known:
        yield replace(cures, percentile=True)
    if not cures.bias_correction and "bias_correction" in known:
        yield replace(cures, bias_correction=True)
    if not cures.seven_bits and "seven_bits" in known and not multiplies_int8():
        yield replace(cures, seven_bits=True)
    if "in_float" in known:
        for place, part in enumerate(_PARTS):
            if part not in cures.in_float:
                yield replace(cures, in_float=_PARTS[: place + 1])
    if not cures.fine_tuned and "fine_tuned" in known:
        yield replace(cures, fine_tuned=True)
