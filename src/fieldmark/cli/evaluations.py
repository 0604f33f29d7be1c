"""What `evaluate` returns, as JSON and as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table

from fieldmark.core.console import table
from fieldmark.core.names import typed
from fieldmark.evaluation.evaluate import Evaluation
from fieldmark.evaluation.robustness import Robustness
from fieldmark.evaluation.unknowns import UnknownEvaluation, UnknownFigures
from fieldmark.scoring.summary import metrics_table

_UNSEEN = "unseen"
_SEEN = {None: "", "none": ", whole", "box": ", boxes"}
_Found = Evaluation | tuple[Evaluation, ...] | Robustness | UnknownEvaluation


def as_json(found: _Found) -> dict[str, Any]:
    """Evaluations with several crops are keyed by crop."""
    if isinstance(found, tuple):
        return {str(each.crop): each.to_dict() for each in found}
    return found.model_dump() if isinstance(found, Robustness) else found.to_dict()


def as_text(found: _Found) -> list[RenderableType]:
    """A table, what other data have in common with the run's own, and where the predictions are."""
    if isinstance(found, Robustness):
        return [robustness_table(found)]
    if isinstance(found, UnknownEvaluation):
        return [unknown_table(found.figures), *_of_unknown(found.figures), f"predictions: {found.predictions}"]
    listed = found if isinstance(found, tuple) else (found,)
    metrics = {each.split + _SEEN[each.crop]: each.metrics for each in listed}
    unseen = {f"{each.split}{_SEEN[each.crop]}, {_UNSEEN}": each.unseen for each in listed if each.unseen is not None}
    return [
        metrics_table(metrics | unseen, listed[0].classes),
        *(f"{name}: {said}" if len(listed) > 1 else said for name, each in zip(metrics, listed, strict=True) for said in _absent(each)),
        *_learnt_from(listed[0]),
        *(
            f"{what}: {file}"
            for each in listed
            for what, file in (("predictions", each.predictions), ("answers", each.answers))
            if file is not None
        ),
    ]


def _absent(found: Evaluation) -> list[str]:
    """What macro F1 makes of classes that no image has."""
    number, predicted, of_others = found.absent
    if not predicted:
        return []
    if number == 1:
        has, what = "has", "it was predicted, and macro F1 counts it as 0"
    else:
        has, what = "have", f"macro F1 counts {predicted} of them, which {'was' if predicted == 1 else 'were'} predicted, as 0"
    return [f"{number} of {found.classes} classes {has} no image here: {what}; over the classes that are here it is {100 * of_others:.1f}."]


def _learnt_from(found: Evaluation) -> list[str]:
    """How many images of other data the run has learnt from."""
    if not found.in_train + found.in_val:
        return []
    said = f"{found.in_train:,} of the {found.metrics.n:,} images {_were(found.in_train)} trained on"
    said += f", and {found.in_val:,} {_were(found.in_val)} of the run's val" if found.in_val else ""
    column = f"{found.split}{_SEEN[found.crop]}, {_UNSEEN}"
    them = "it" if found.in_train + found.in_val == 1 else "them"
    rest = f"the column {column!r} leaves {them} out" if found.unseen is not None else "no image is left that would test the run"
    lines = [f"caution: {said}, byte for byte; {rest}."]
    if found.moved:
        command = f"fieldmark evaluate {typed(found.run)} --moved-to {typed(found.data or '')}"
        lines.append(f"These seem to be the run's own data. If they were moved: {command}")
    return lines


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _of_unknown(found: UnknownFigures) -> list[str]:
    """What the table's columns mean, and whether the run tells these images at all."""
    return [
        "* the score that the run rejects by. AUROC: pairs of a known and an unknown image that a score ranks correctly, by chance 50 %. "
        "AUPR: average precision of detecting the unknown. FPR95: unknown images accepted where 95 % of test is. "
        "OSCR: area under correctly classified known images against accepted unknown ones.",
        *([] if found.blindness is None else [f"caution: {found.blindness}"]),
    ]


def unknown_table(found: UnknownFigures) -> Table:
    """Each rejection score on a set of unknown images, the run's marked with a star."""
    rows = []
    for score in found.scores:
        chosen = score.name == found.score
        auroc = f"{score.auroc:.1f}  [{score.auroc_low:.1f}, {score.auroc_high:.1f}]"
        done = (f"{found.accepted:.1f}", f"{found.rejected:.1f}") if chosen else ("", "")
        name = score.name + (" *" if chosen else "")
        rows.append((name, auroc, f"{score.aupr:.1f}", f"{score.fpr:.1f}", f"{score.oscr:.1f}", *done))
    columns = ("score", "AUROC %", "AUPR %", "FPR95 %", "OSCR %", "test accepted %", "unknown rejected %")
    return table(f"unknown images: {found.name}", columns, rows)


def robustness_table(measured: Robustness) -> Table:
    """One row for each corruption, one column for each severity that was measured."""
    columns = measured.severities
    rows = [
        (name, *(f"{each[severity]:.1f}" if severity in each else "" for severity in columns))
        for name, each in measured.corruptions.items()
    ]
    title = f"test top-1 %; {measured.none:.1f} as the images are"
    return table(title, ("corruption", *(f"severity {severity}" for severity in columns)), rows)
