"""robustness.json: how much a run loses under corruptions of the images of test."""

from __future__ import annotations

from typing import ClassVar

from fieldmark.core.record import Count, Percent, RecordFile
from fieldmark.evaluation.run import Run


class Robustness(RecordFile):
    """Top-1 in per cent on the `n` images of test: as they are (`none`), and by corruption and severity, "1" to "5"."""

    REMEDY: ClassVar[str | None] = "Delete it, and measure again."

    n: Count
    none: Percent
    corruptions: dict[str, dict[str, Percent]]

    @property
    def severities(self) -> list[str]:
        """Those that were measured of any corruption."""
        return sorted({severity for each in self.corruptions.values() for severity in each}, key=int)


def read_robustness(run: Run) -> Robustness | None:
    """What robustness.json holds; None if nothing was measured. Raises InputError if it is damaged."""
    return Robustness.read(run.folder.robustness_file) if run.folder.robustness_file.is_file() else None
