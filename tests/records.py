"""Whole records with plausible values, for tests that need some run's."""

from datetime import UTC, datetime
from typing import Any

from fieldmark.core.manifest import Manifest, Origin, Preprocessing


def a_manifest(**values: Any) -> Manifest:
    given: dict[str, Any] = {
        "status": "finished",
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "versions": {"fieldmark": "0.1.0", "torch": "2.11.0", "platform": "Linux"},
        "device": "a processor, 2 threads",
        "given": "cars",
        "data": Origin(name="cars", root="/data/cars", layout="class-folders"),
        "fingerprint": "0123",
        "class_names": ("lark", "pipit"),
        "levels": {},
        "preprocess": Preprocessing(size=32, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        "notes": ("weights: random",),
    }
    return Manifest(**given | values)
