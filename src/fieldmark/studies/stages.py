"""Runs trained in stages: what each stage of a rung trained, and the accuracies it reached. Pure: nothing is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldmark.core.summary import StageSummary
from fieldmark.studies.results import Outcome
from fieldmark.studies.statistics import Spread, spread


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of a rung; `rung` is the number of the rung, `number` that of the stage, from 1 to `stages`.

    train, val: top-1 in per cent at the end of the stage, over the seeds; None if nothing was measured
    best: the highest val top-1 within it
    """

    rung: int
    name: str
    number: int
    stages: int
    stage: StageSummary
    train: Spread | None
    val: Spread | None
    best: Spread | None


def stage_rows(rung: int, name: str, outcomes: Sequence[Outcome]) -> list[StageRow]:
    """The stages of a rung, from its finished runs; none if it was trained in one stage, or if its runs do not record them."""
    stages = next((stages for outcome in outcomes if len(stages := outcome.summary.training.stages) > 1), ())
    runs = [outcome for outcome in outcomes if outcome.summary.training.stages == stages]
    rows = []
    for number, stage in enumerate(stages, 1):
        train, val = ([_within(run, stage, measure) for run in runs] for measure in ("train_top1", "val_top1"))
        rows.append(
            StageRow(
                rung=rung,
                name=name,
                number=number,
                stages=len(stages),
                stage=stage,
                train=_spread([values[-1] for values in train if len(values)]),
                val=_spread([values[-1] for values in val if len(values)]),
                best=_spread([values.max() for values in val if len(values)]),
            )
        )
    return rows


def _within(run: Outcome, stage: StageSummary, measure: str) -> np.ndarray:
    """The values measured in the epochs of a stage, in order: float64 (E,)."""
    values: np.ndarray = getattr(run.curve, measure)
    first, last = stage.epochs
    found: np.ndarray = values[(run.curve.epochs >= first) & (run.curve.epochs <= last) & ~np.isnan(values)]
    return found


def _spread(values: Sequence[float]) -> Spread | None:
    return spread(values) if values else None
