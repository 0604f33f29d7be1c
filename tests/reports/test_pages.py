from __future__ import annotations

import math

import pytest

from fieldmark.reports.pages import accuracy, count, fixed, probability, promise, with_interval


def test_numbers_are_written_out() -> None:
    assert (count(1234567), fixed(1.25), fixed(2, 3), fixed(None)) == ("1,234,567", "1.2", "2.000", "–")


@pytest.mark.parametrize("value, text", [(0.5, "50.0"), (1.0, ">99.9"), (0.9994, "99.9"), (0.0, "<0.1"), (0.0006, "0.1")])
def test_probabilities_are_never_certain(value: float, text: str) -> None:
    assert probability(value) == f"{text}\u00a0%"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_a_dash(value: float) -> None:
    assert fixed(value) == "–"


def test_a_figure_has_its_interval_and_one_that_is_not_defined_has_none() -> None:
    assert with_interval((0.5, 0.25, 1), 2, " nats") == ("0.50 nats", "0.25–1.00")
    assert with_interval((None, None, None), 2, " nats") == ("–", "")


@pytest.mark.parametrize("value, text", [(100, "100.0"), (99.94, "99.9"), (99.99, "99.99"), (99.9996, "99.9996"), (0, "0.0")])
def test_an_accuracy_is_perfect_only_where_all_are_right(value: float, text: str) -> None:
    assert accuracy(value) == text


@pytest.mark.parametrize("share, text", [(0.995, "99.5"), (0.56, "56"), (0.9, "90"), (0.9999, "99.99")])
def test_a_promise_is_written_as_it_was_asked_for(share: float, text: str) -> None:
    assert promise(share) == text


def test_a_probability_that_is_no_number_is_a_dash() -> None:
    assert probability(math.nan) == "–"
