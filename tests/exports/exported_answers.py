"""Answers of other programs beside those of Fieldmark, both as `fieldmark predict --json` prints them."""

import pytest


def same_answers(found: dict, expected: dict) -> None:
    """Everything equal, probabilities to five digits."""
    assert list(found) == list(expected)
    said = [[(each["class"]) for each in answer["classes"]] for answer in (found, expected)]
    assert said[0] == said[1]
    shares = [[each["probability"] for each in answer["classes"]] for answer in (found, expected)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-5)
    for key in ("path", "unknown", "among", "coarser", "note"):
        assert found[key] == expected[key], key
