"""Answers of other programs beside those of Fieldmark, both as `fieldmark predict --json` prints them."""

from pathlib import Path

import numpy as np
import pytest

import fieldmark


def with_wall(bundle: fieldmark.Bundle, out: Path) -> fieldmark.Bundle:
    """The bundle with a class that was enrolled from images of grey."""
    grey = [np.full((50, 50, 3), value, np.uint8) for value in (120, 125, 130, 135)]
    return fieldmark.enroll(bundle, "Wall", grey, out, quiet=True).bundle


def same_answers(found: dict, expected: dict) -> None:
    """Everything equal, probabilities to five digits."""
    assert list(found) == list(expected)
    said = [[(each["class"]) for each in answer["classes"]] for answer in (found, expected)]
    assert said[0] == said[1]
    shares = [[each["probability"] for each in answer["classes"]] for answer in (found, expected)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-5)
    for key in ("path", "unknown", "among", "coarser", "note"):
        assert found[key] == expected[key], key
