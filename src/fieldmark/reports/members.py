"""The part of a report that an ensemble has: its members, and whether it is better than the best of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from fieldmark.core.ensemble_record import EnsembleRecord, val_notes
from fieldmark.core.summary import EnsembleSummary
from fieldmark.reports.pages import fixed


@dataclass(frozen=True)
class Member:
    """`weight` in the mean is empty if there is none; `used` is false for what a soup left out. Figures are written out, in per cent."""

    name: str
    model: str
    size: int
    weight: str
    used: bool
    val: str
    test: str
    interval: str


@dataclass(frozen=True)
class EnsemblePart:
    """`method`, `how` and `notes` in words; `verdict`: whether it is better than its best member."""

    method: str
    how: str
    members: list[Member]
    weighted: bool
    verdict: str
    notes: list[str]


def ensemble_part(record: EnsembleRecord, summary: EnsembleSummary) -> EnsemblePart:
    """From what the manifest and the summary of an ensemble say."""
    members = [
        Member(
            name=member.name,
            model=member.model,
            size=member.size,
            weight=f"{record.weights[index]:.3f}" if record.weights else "",
            used=member.used,
            val=fixed(figures.val),
            test=fixed(figures.test),
            interval=f"{fixed(figures.test_low)}–{fixed(figures.test_high)}",
        )
        for index, (member, figures) in enumerate(zip(record.members, summary.members, strict=True))
    ]
    over = summary.over_best_member
    interval = f"95\u00a0% interval {fixed(over.low)} to {fixed(over.high)}"
    by = f"{over.points:+.1f} points, {interval}, p = {over.p:.2g} (McNemar), on the same {over.n:,} images"
    verdict = f"Over {summary.best_member}, the member with the best val: {by}{'' if over.shown else ': not significant'}."
    return EnsemblePart(record.method, _how(record), members, record.weights is not None, verdict, val_notes(record))


def _how(record: EnsembleRecord) -> str:
    if record.method == "mean":
        return f"The mean of the members’ {record.of}, {'equally weighted' if record.fitted_on is None else 'with weights fitted on val'}."
    if record.method == "stack":
        return f"A linear layer on the logits of all members, fitted on {record.fitted_on}."
    which = "all members" if record.ingredients == "all" else "the members that, the best first, do not lower val"
    return f"One network with the mean of the weights of {which}."


def ensemble_command(record: EnsembleRecord) -> str:
    """The command that makes the ensemble again."""
    options: dict[str, list[str]] = {
        "mean": ["--of", str(record.of), "--weights", "equal" if record.fitted_on is None else "fitted"],
        "stack": ["--fit-on", "train" if record.fitted_on == "train" else "val"],
        "soup": ["--ingredients", str(record.ingredients)],
    }
    sources = (member.source for member in record.members)
    return shlex.join(["fieldmark", "ensemble", *sources, "--method", record.method, *options[record.method], "--out", "OUT"])
