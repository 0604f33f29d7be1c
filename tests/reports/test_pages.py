from __future__ import annotations

import math

import pytest

from fieldmark.reports.pages import count, fixed, probability


def test_numbers_are_written_out() -> None:
    assert (count(1234567), fixed(1.25), fixed(2, 3), fixed(None)) == ("1,234,567", "1.2", "2.000", "–")


@pytest.mark.parametrize("value, text", [(0.5, "50.0"), (1.0, ">99.9"), (0.9994, "99.9"), (0.0, "<0.1"), (0.0006, "0.1")])
def test_probabilities_are_never_certain(value: float, text: str) -> None:
    assert probability(value) == f"{text}\u00a0%"


def test_a_probability_that_is_no_number_is_a_dash() -> None:
    assert probability(math.nan) == "–"
