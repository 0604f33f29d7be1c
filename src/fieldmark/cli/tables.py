"""What commands find, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fieldmark.core.console import table

if TYPE_CHECKING:
    from fieldmark.scoring.decisions import Decisions


def unknown_table(found: Sequence[dict[str, Any]]) -> Table:
    """Each score against each set of unknown images, for the console. `found`: what UnknownFigures.to_dict gives."""
    rows = []
    for each in found:
        for score in each["scores"]:
            chosen = score["name"] == each["score"]
            auroc = f"{score['auroc']:.1f}  [{score['auroc_low']:.1f}, {score['auroc_high']:.1f}]"
            done = (f"{each['accepted']:.1f}", f"{each['rejected']:.1f}") if chosen else ("", "")
            name = score["name"] + (" *" if chosen else "")
            rows.append((each["name"], name, auroc, f"{score['aupr']:.1f}", f"{score['fpr']:.1f}", f"{score['oscr']:.1f}", *done))
    columns = ("unknown", "score", "AUROC %", "AUPR %", "FPR95 %", "OSCR %", "test accepted %", "unknown rejected %")
    return table(None, columns, rows, ("score",))


def robustness_table(measured: dict[str, Any]) -> Table:
    """One row for each corruption, one column for each severity that was measured, for the console."""
    columns = sorted({severity for each in measured["corruptions"].values() for severity in each})
    rows = [
        (name, *(f"{each[severity]:.1f}" if severity in each else "" for severity in columns))
        for name, each in measured["corruptions"].items()
    ]
    title = f"test top-1 %; {measured['none']:.1f} as the images are"
    return table(title, ("corruption", *(f"severity {severity}" for severity in columns)), rows)


def decisions_table(decisions: Decisions) -> Table:
    """The scores of rejection, for the console."""
    rejection = decisions.record.rejection
    rows = [
        (
            name + (" *" if name == rejection.score else ""),
            "all" if each.threshold is None else f"{each.threshold:.4g}",
            "" if each.held_out_auroc is None else f"{100 * each.held_out_auroc:.1f}",
            "" if each.auroc is None else f"{100 * each.auroc:.1f}",
        )
        for name, each in rejection.scores.items()
    ]
    columns = ("score", "threshold", "AUROC %, classes of val held out", "AUROC %, given unknown images")
    return table(None, columns[: 4 if any(row[3] for row in rows) else 3], [row[: 4 if any(row[3] for row in rows) else 3] for row in rows])
