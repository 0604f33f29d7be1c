"""The part of a report that an ensemble has: its members beside it, and whether it is better than the best of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from fieldmark.reports.pages import fixed


@dataclass(frozen=True)
class Member:
    """`weight` in the mean is empty where there is none; `used` is false for what a soup left out. Figures are written out, in per cent."""

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
    how: str
    members: list[Member]
    weighted: bool
    verdict: str


def ensemble_part(ensemble: dict[str, Any], summary: dict[str, Any]) -> EnsemblePart:
    """From what the manifest says of an ensemble and from its summary."""
    weights = ensemble.get("weights")
    members = [
        Member(
            name=described["name"],
            model=described["model"],
            size=described["size"],
            weight=f"{weights[index]:.3f}" if weights else "",
            used=described.get("used", True),
            val=fixed(figures["val"]),
            test=fixed(figures["test"]),
            interval=f"{fixed(figures['test_low'])}–{fixed(figures['test_high'])}",
        )
        for index, (described, figures) in enumerate(zip(ensemble["members"], summary["ensemble"]["members"], strict=True))
    ]
    over = summary["ensemble"]["over_best_member"]
    interval = f"95\u00a0% interval {fixed(over['low'])} to {fixed(over['high'])}"
    by = f"{over['points']:+.1f} points, {interval}, on the same {over['n']:,} pictures"
    verdict = (
        f"Over {summary['ensemble']['best_member']}, the member with the best val: {by}{'' if over['shown'] else ': no difference shown'}."
    )
    return EnsemblePart(_how(ensemble), members, weights is not None, verdict)


def _how(ensemble: dict[str, Any]) -> str:
    match ensemble["method"]:
        case "mean":
            how = (
                f"The mean of the members’ {ensemble['of']}, {'weighted alike' if ensemble['fitted_on'] is None else 'with fitted weights'}"
            )
        case "stack":
            how = "A linear layer on the logits of all members"
        case _:
            how = "One network with the mean of the weights of " + (
                "those members that do not lower val" if ensemble["ingredients"] == "greedy" else "all members"
            )
    fitted = {
        "val": "; fitted on val",
        "out-of-fold": "; fitted on what each fold left out",
        "train": "; fitted on the pictures that the members were trained on, and are surer of than of others",
    }
    return how + fitted.get(ensemble["fitted_on"], "") + "."


def ensemble_command(ensemble: dict[str, Any]) -> str:
    """What makes the ensemble again."""
    method = ensemble["method"]
    options: list[str] = []
    if method == "mean":
        options = ["--of", ensemble["of"], "--weights", "equal" if ensemble["fitted_on"] is None else "fitted"]
    elif method == "stack":
        options = ["--fit-on", "train" if ensemble["fitted_on"] == "train" else "val"]
    else:
        options = ["--ingredients", ensemble["ingredients"]]
    return shlex.join(
        ["fieldmark", "ensemble", *(each["source"] for each in ensemble["members"]), "--method", method, *options, "--out", "OUT"]
    )
