"""What is asked of an export, checked before any work is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fieldmark.bundles.parity import Limits
from fieldmark.bundles.record import Precision
from fieldmark.core.errors import InputError, Problem
from fieldmark.exports.exporter import Exporter
from fieldmark.exports.exporters import exporter_of

Part = Literal["enroll", "neighbours"]
PARTS: tuple[Part, ...] = ("enroll", "neighbours")


@dataclass(frozen=True, eq=False)
class Request:
    """`batches`: the sizes that graphs are written for. `parts`: what the bundle holds besides."""

    exporter: Exporter
    precision: Precision
    batches: tuple[int, ...]
    limits: Limits
    parts: tuple[Part, ...] = ()

    @classmethod
    def of(cls, format: str, int8: bool, batches: Sequence[int], limits: Limits, parts: Sequence[str] = ()) -> Request:
        """Raises InputError with everything that is wrong, and if a library is missing."""
        exporter, problems = exporter_of(format), list[Problem]()
        if int8 and not exporter.tool:
            problems.append(Problem(f"{format} bundles are float32", place="--int8", remedy="choose another format than torch"))
        if not batches or not all(isinstance(batch, int) and batch >= 1 for batch in batches):
            problems.append(Problem("expected numbers of images, from 1", place="--batch"))
        for name, limit in (("--max-loss", limits.loss), ("--max-changed", limits.changed)):
            if not (math.isfinite(limit) and 0 <= limit <= 100):
                problems.append(Problem(f"expected a number from 0 to 100, got {limit:g}", place=name))
        if unknown := [each for each in parts if each not in PARTS]:
            problems.append(Problem(f"there is no {', '.join(map(repr, unknown))}", place="--with", remedy=f"choose {', '.join(PARTS)}"))
        if problems:
            raise InputError(*problems)
        exporter.require()
        return cls(
            exporter, "int8" if int8 else "float32", tuple(sorted(set(batches))), limits, tuple(each for each in PARTS if each in parts)
        )
