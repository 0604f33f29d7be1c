from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import ladder, synthetic_study

from fieldmark.studies.analysis import study_table
from fieldmark.studies.plan import Rung, StudyPlan
from fieldmark.studies.results import read_results
from fieldmark.studies.stages import stage_rows

GRADUAL = {
    "train.epochs": 8,
    "schedule.warmup_epochs": 0.5,
    "stages": [{"epochs": 3, "trainable": ["head"]}, {"epochs": 2, "trainable": ["head", "last-block"]}, {}],
}


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    """Two rungs that are trained in three stages, between two that are not."""
    gradual = Rung("gradual", GRADUAL, "base")
    rungs = (*ladder(0), gradual, Rung("more", {"augment.flip": 0.25}, "gradual"), Rung("aside", {"on": "base", "data.size": 64}, "base"))
    return synthetic_study(tmp_path, rungs, [60, 65, 66, 61], images=50)


def rows_of(plan: StudyPlan, rung: int, seed: int) -> list[dict[str, float]]:
    text = (plan.run_path(plan.datasets[0], plan.rungs[rung], seed) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_each_stage_has_its_last_figures_and_its_best_over_the_seeds(plan: StudyPlan) -> None:
    dip = plan.run_path(plan.datasets[0], plan.rungs[1], 0) / "metrics.jsonl"
    dip.write_text("".join(json.dumps(row | ({"val_top1": 99.0} if row["epoch"] == 2 else {})) + "\n" for row in rows_of(plan, 1, 0)))
    table = study_table(plan, read_results(plan)).datasets[0]
    assert [(row.rung, row.name, row.number, row.stages) for row in table.stages] == [
        (rung, name, number, 3) for rung, name in ((1, "gradual"), (2, "more")) for number in (1, 2, 3)
    ]
    first, second, third = table.stages[:3]
    assert [row.stage.epochs for row in (first, second, third)] == [(1, 3), (4, 5), (6, 8)]
    assert [row.stage.trainable for row in (first, second, third)] == [("head",), ("head", "last-block"), ("all",)]
    assert [row.stage.trainable_parameters for row in (first, second, third)] == [1_333_333, 2_666_666, 4_000_000]
    for row, end in zip((first, second, third), (3, 5, 8), strict=True):
        for spread, measure in ((row.train, "train_top1"), (row.val, "val_top1")):
            values = [next(each[measure] for each in rows_of(plan, 1, seed) if each["epoch"] == end) for seed in plan.seeds]
            assert spread is not None and (spread.mean, spread.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    best = [max(each["val_top1"] for each in rows_of(plan, 1, seed)[:3]) for seed in plan.seeds]
    assert best[0] == 99 and first.best is not None and first.best.mean == pytest.approx(np.mean(best))


def test_last_stage_that_stopped_early_or_was_not_measured(plan: StudyPlan) -> None:
    results = read_results(plan)
    run = next(outcome for outcome in results.outcomes if outcome.rung.name == "gradual")
    short = replace(run.curve, epochs=run.curve.epochs - 1)  # epochs 0 to 7: the last one is missing, epoch 0 belongs to no stage
    (*_, last) = stage_rows(1, "gradual", [replace(run, curve=short)])
    assert last.val is not None and last.val.mean == run.curve.val_top1[-1] and last.val.sd is None
    nothing = replace(run.curve, val_top1=np.full(8, np.nan))
    for row in stage_rows(1, "gradual", [replace(run, curve=nothing)]):
        assert row.val is None and row.best is None and row.train is not None


def test_runs_in_one_stage_and_those_of_older_versions_have_no_rows(plan: StudyPlan) -> None:
    results = read_results(plan)
    by_rung = {rung.name: results.of(plan.datasets[0], rung) for rung in plan.rungs}
    assert [len(outcome.summary.training.stages) for outcome in by_rung["base"]] == [1, 1, 1]
    assert stage_rows(0, "base", by_rung["base"]) == []
    older = []
    for outcome in by_rung["gradual"]:
        training = outcome.summary.training.model_copy(update={"stages": ()})
        older.append(replace(outcome, summary=outcome.summary.model_copy(update={"training": training})))
    assert stage_rows(1, "gradual", older) == stage_rows(1, "gradual", []) == []
    first = stage_rows(1, "gradual", [*older[:2], by_rung["gradual"][2]])[0]
    assert first.val is not None and first.val.sd is None, "of the one run that says what its stages were"
