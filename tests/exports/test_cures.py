from dataclasses import replace

import pytest

from fieldmark.exports import cures
from fieldmark.exports.exporter import Cures

ALL = {"percentile", "bias_correction", "seven_bits", "in_float", "fine_tuned"}
PARTS = ("squeeze-excite", "stem", "head")


def chain(known) -> list[Cures]:
    """As they are tried one after the other."""
    found = [Cures()]
    while (following := next(cures.after(found[-1], known), None)) is not None:
        found.append(following)
    return found[1:]


@pytest.mark.parametrize("saturates", [True, False])
def test_cures_are_tried_from_the_cheapest_on_top_of_each_other(saturates, monkeypatch):
    monkeypatch.setattr(cures, "multiplies_int8", lambda: not saturates)
    first = Cures(percentile=True)
    second = replace(first, bias_correction=True)
    weights = [replace(second, seven_bits=True)] if saturates else []
    last = (weights or [second])[-1]
    in_float = [replace(last, in_float=PARTS[:count]) for count in (1, 2, 3)]
    assert chain(ALL) == [first, second, *weights, *in_float, replace(in_float[-1], fine_tuned=True)]


def test_only_those_that_a_quantiser_has_are_tried():
    assert chain({"in_float"}) == [Cures(in_float=PARTS[:count]) for count in (1, 2, 3)]
    assert chain(set()) == []
