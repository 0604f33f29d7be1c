"""robustness.json: how much a run loses under corruptions of the images of test."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fieldmark.core.errors import InputError
from fieldmark.evaluation.run import Run


@dataclass(frozen=True)
class Robustness:
    """Top-1 in per cent on the `n` images of test: as they are (`none`), and by corruption and severity."""

    n: int
    none: float
    corruptions: dict[str, dict[str, float]]

    @property
    def severities(self) -> list[str]:
        """Those that were measured of any corruption."""
        return sorted({severity for each in self.corruptions.values() for severity in each}, key=int)


def read_robustness(run: Run) -> Robustness | None:
    """What robustness.json holds; None where nothing was measured. Raises InputError where it is damaged."""
    if not run.folder.robustness_file.is_file():
        return None
    try:
        found = json.loads(run.folder.robustness_file.read_text(encoding="utf-8"))
        measured = Robustness(int(found["n"]), float(found["none"]), found["corruptions"])
        if not all(float(value) >= 0 for each in measured.corruptions.values() for value in each.values()):
            raise ValueError("a share below 0")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{run.folder.robustness_file} is damaged", hint="Delete it, and measure again.") from None
    return measured
