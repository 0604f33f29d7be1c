from dataclasses import replace

import pytest

from fieldmark.exports import cures
from fieldmark.exports.exporter import Cures

ALL = {"percentile", "seven_bits", "in_float", "fine_tuned"}
PARTS = ("squeeze-excite", "stem", "head")


def chain(known, has=lambda part: True, helps=lambda found: True) -> list[Cures]:
    """As they are tried one after the other, where some help."""
    kept, tried = Cures(), []
    for cure in cures.in_order(known, has):
        tried.append(cure(kept))
        kept = tried[-1] if helps(tried[-1]) else kept
    return tried


@pytest.mark.parametrize("saturates", [True, False])
def test_cures_are_tried_from_the_cheapest_on_top_of_each_other(saturates, monkeypatch):
    monkeypatch.setattr(cures, "multiplies_int8", lambda: not saturates)
    first = Cures(percentile=True)
    weights = [replace(first, seven_bits=True)] if saturates else []
    last = (weights or [first])[-1]
    in_float = [replace(last, in_float=PARTS[:count]) for count in (1, 2, 3)]
    assert chain(ALL) == [first, *weights, *in_float, replace(in_float[-1], fine_tuned=True)]


def test_only_those_that_a_quantiser_and_a_network_have_are_tried():
    assert chain({"in_float"}) == [Cures(in_float=PARTS[:count]) for count in (1, 2, 3)]
    assert chain({"in_float"}, lambda part: part == "stem") == [Cures(in_float=("stem",))]
    assert chain(set()) == []


def test_what_did_not_help_is_left_out_of_those_that_follow():
    tried = chain({"percentile", "in_float"}, helps=lambda found: not found.percentile and "stem" not in found.in_float)
    assert tried[0] == Cures(percentile=True)
    assert tried[1:] == [Cures(in_float=parts) for parts in (PARTS[:1], PARTS[:2], ("squeeze-excite", "head"))]
