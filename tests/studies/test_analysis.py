from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import branched, grid, independent, ladder, synthetic_study

from fieldmark.core.summary import Summary
from fieldmark.scoring.predictions import Predictions
from fieldmark.studies.analysis import study_table
from fieldmark.studies.columns import rung_columns
from fieldmark.studies.explanations import about, limits
from fieldmark.studies.formats import csv_text
from fieldmark.studies.plan import Rung, StudyPlan
from fieldmark.studies.results import read_results
from fieldmark.studies.statistics import gains, smallest_gain
from fieldmark.studies.table import DatasetTable, Row, SplitSize, change_in_words, one_line

FACTORS = {
    "crop": {"none": {"augment.crop.name": "none"}, "padded": {"augment.crop.name": "padded"}},
    "rate": {"low": {"optim.lr": 0.001}, "middle": {"optim.lr": 0.01}, "high": {"optim.lr": 0.1}},
}


def found(plan: StudyPlan) -> DatasetTable:
    return study_table(plan, read_results(plan)).datasets[0]


def hits(plan: StudyPlan) -> list[np.ndarray]:
    """Read independently of read_results, in the order of rows."""
    loaded = []
    for rung in plan.rungs:
        files = [np.load(plan.run_path(plan.datasets[0], rung, seed) / "predictions" / "test.npz") for seed in plan.seeds]
        loaded.append(np.stack([file["logits"].argmax(axis=1) == file["labels"] for file in files]))
    return loaded


def figures(plan: StudyPlan, rung: int) -> list[dict[str, Any]]:
    return [json.loads((plan.run_path(plan.datasets[0], plan.rungs[rung], seed) / "summary.json").read_text()) for seed in plan.seeds]


def change(plan: StudyPlan, rung: int, seed: int, file: str, **values: Any) -> None:
    path = plan.run_path(plan.datasets[0], plan.rungs[rung], seed) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_ladder_is_compared_with_the_rung_before_and_with_the_base(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(3), [60, 66, 65, 70], images=300)
    table = found(plan)
    steps = np.array([[-1, 1, 0, 0], [0, -1, 1, 0], [0, 0, -1, 1], [-1, 0, 1, 0], [-1, 0, 0, 1]], float)
    expected = gains(hits(plan), steps)
    assert table.sensitivity.comparisons == 5, "the first change is one comparison, though it stands in both columns"
    for row, before, base in zip(table.rows[1:], expected[:3], [expected[0], *expected[3:]], strict=True):
        assert row.over_before is not None and row.over_base is not None
        assert (row.over_before.value, row.over_before.low, row.over_before.p) == pytest.approx((before.value, before.low, before.p))
        assert (row.over_base.value, row.over_base.high, row.over_base.p) == pytest.approx((base.value, base.high, base.p))
    assert table.rows[0].over_before is None and table.rows[0].over_base is None
    assert table.sensitivity.smallest == pytest.approx(smallest_gain(hits(plan), steps))


def test_independent_changes_are_compared_with_the_base_alone(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, independent(3), [60, 66, 65, 70], arrangement="independent", images=300)
    table = found(plan)
    expected = gains(hits(plan), np.array([[-1, 1, 0, 0], [-1, 0, 1, 0], [-1, 0, 0, 1]], float))
    assert table.sensitivity.comparisons == 3 and all(row.over_before is None for row in table.rows)
    assert [row.over_base.low for row in table.rows[1:] if row.over_base] == pytest.approx([gain.low for gain in expected])


def test_options_of_a_grid_are_averaged_over_the_other_factors(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path / "whole", grid(FACTORS), [60, 62, 61, 66, 68, 64], arrangement="grid", images=300)
    table = found(plan)
    means = 100 * np.array([each.mean() for each in hits(plan)]).reshape(2, 3)
    by_crop, by_rate = means.mean(axis=1), means.mean(axis=0)
    effects = {(effect.factor, effect.option, effect.against): effect.gain.value for effect in table.effects}
    assert effects == {
        ("crop", "padded", "none"): pytest.approx(by_crop[1] - by_crop[0]),
        ("rate", "middle", "low"): pytest.approx(by_rate[1] - by_rate[0]),
        ("rate", "high", "low"): pytest.approx(by_rate[2] - by_rate[0]),
    }
    assert table.sensitivity.comparisons == 5 + 3
    assert table.conclusions.verdicts[0].startswith("crop padded: ") and len(table.conclusions.verdicts) == 3

    cell = plan.rungs[3]
    for seed in plan.seeds:
        shutil.rmtree(plan.run_path(plan.datasets[0], cell, seed))
    table = found(plan)
    assert table.effects == () and table.sensitivity.comparisons == 4, "with a cell missing, an average would compare unlike things"
    single = synthetic_study(tmp_path / "single", grid({"rate": FACTORS["rate"]}), [60, 62, 61], arrangement="grid", images=50)
    assert found(single).effects == (), "one factor has nothing to average over"


def test_means_and_costs(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(2), [60, 66, 65], images=200)
    change(plan, 1, 2, "summary.json", training=figures(plan, 1)[2]["training"] | {"epochs": 5, "steps": 100})
    table = found(plan)
    for number, row in enumerate(table.rows):
        summaries = figures(plan, number)
        assert row.number == number and (row.finished, row.planned) == (3, 3)
        assert row.measured is not None
        for spread, split in ((row.measured.val, "val"), (row.measured.test, "test")):
            values = [summary[split]["top1"] for summary in summaries]
            assert (spread.mean, spread.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        cost = row.measured.cost
        for name in ("epochs", "steps", "seconds", "images_per_second"):
            assert getattr(cost, name) == pytest.approx(np.mean([summary["training"][name] for summary in summaries]))
        assert cost.parameters == summaries[0]["model"]["parameters"] and cost.macs == summaries[0]["model"]["macs"]
        (alone,) = gains(hits(plan), np.eye(3)[[number]])
        assert (row.measured.low, row.measured.high) == pytest.approx((alone.low, alone.high))
    variances = [np.var([summary["test"]["top1"] for summary in figures(plan, number)], ddof=1) for number in range(3)]
    assert table.sensitivity.noise == pytest.approx(np.sqrt(np.mean(variances)))
    best = max(table.rows, key=lambda row: row.measured.val.mean if row.measured else 0)
    assert table.chosen is best
    assert table.rows[1].change == "augment.crop.name=padded" and table.rows[0].change == ""
    assert table.test == SplitSize(images=200, classes=10)


def test_clear_gains_are_called_significant_and_others_not(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(3), [50, 75, 75, 55], images=800, seed_sd=0.2)
    table = found(plan)
    crop, flips, smoothing = table.conclusions.verdicts
    first, second, third = (str(row.over_before) for row in table.rows[1:])
    assert crop == f"random crop: {first} over the rung before, significantly better"
    assert flips == f"flips: no significant difference ({second})"
    assert smoothing == f"label smoothing: {third} over the rung before, significantly worse"
    assert table.conclusions.headline == "Of 3 changes, 1 helps significantly"
    assert table.conclusions.answer.startswith(
        "Of 3 changes, 1 helps significantly: random crop; 1 harms significantly: label smoothing. All together: +"
    )
    chosen = table.chosen
    assert isinstance(chosen, Row) and chosen.measured is not None
    tested = f"{chosen.measured.test.mean:.1f} ± {chosen.measured.test.sd:.1f} % on test, over 3 seeds"
    assert table.conclusions.answer.endswith(f"Chosen on validation: {chosen.name}, {tested}.")
    assert table.conclusions.notes == ()


def test_a_side_branch_is_compared_with_the_rung_that_it_is_on_and_is_not_part_of_the_climb(tmp_path: Path) -> None:
    rungs = branched(2, aside="random crop", another="base")
    plan = synthetic_study(tmp_path, (*rungs[:2], rungs[3], rungs[2], rungs[4]), [50, 60, 80, 70, 40], images=800, seed_sd=0.2)
    table = found(plan)
    names = [row.name for row in table.rows]
    assert names == ["base", "random crop", "aside", "flips", "another"]
    steps = {"random crop": "base", "aside": "random crop", "flips": "random crop", "another": "base"}
    for row in table.rows[1:]:
        weights = np.array([[(name == row.name) - (name == steps[row.name]) for name in names]], float)
        assert row.over_before is not None and row.over_before.value == pytest.approx(gains(hits(plan), weights)[0].value)
    assert table.sensitivity.comparisons == 6, "another over base is one comparison, as is random crop over base"
    assert [row.on for row in table.rows] == [None, None, "random crop", None, "base"]
    assert table.rows[2].change == "on=random crop, optim.weight_decay=0.001"
    together = table.rows[3].over_base
    assert together is not None and f"All together: {together} over the base, significant." in table.conclusions.answer
    assert " over random crop, significantly better" in table.conclusions.verdicts[1]
    assert " over the rung before, significantly better" in table.conclusions.verdicts[2]
    assert table.conclusions.verdicts[3].endswith(" over base, significantly worse")
    assert table.conclusions.headline == "Of 4 changes, 3 help significantly"


def test_one_step_with_a_side_branch_has_nothing_together(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, branched(1, aside="base"), [50, 60, 80], images=100)
    assert "All together" not in found(plan).conclusions.answer


def test_a_rung_that_extends_a_recipe_says_so(tmp_path: Path) -> None:
    rungs = (Rung("base"), Rung("theirs", {"extends": "demo", "train.epochs": 20}))
    plan = synthetic_study(tmp_path, rungs, [50, 60], images=100, arrangement="independent")
    row = found(plan).rows[1]
    assert row.change == "extends=demo, train.epochs=20" and row.over_base is not None and row.on is None


@pytest.mark.parametrize("accuracy, effect", [(80, "helps"), (50, "does not help")])
def test_a_single_change(tmp_path: Path, accuracy: int, effect: str) -> None:
    plan = synthetic_study(tmp_path, independent(1), [50, accuracy], arrangement="independent", images=400)
    assert found(plan).conclusions.headline == f"The one change {effect} significantly"


def test_one_seed_shows_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(2), [50, 90, 70], seeds=(0,))
    table = found(plan)
    assert table.conclusions.headline == "With one seed each, no gain can be distinguished from chance"
    assert any("Run the study again with --seeds 3" in note for note in table.conclusions.notes)
    gain = table.rows[1].over_before
    assert gain is not None and gain.significant is None and gain.value == pytest.approx(40, abs=2)
    measured = table.rows[1].measured
    assert measured is not None and (table.sensitivity.noise, table.sensitivity.smallest) == (None, None)
    summary = Summary.read(plan.run_path(plan.datasets[0], plan.rungs[1], 0) / "summary.json")
    assert (measured.low, measured.high) == (summary.test.top1_low, summary.test.top1_high), "the run's own, for new images alone"
    assert about(table)[0].startswith("Accuracies in per cent, of one seed; the intervals")
    assert table.conclusions.verdicts[0] == f"random crop: {gain.words()}"


def test_a_tie_on_val_is_said_and_how_it_was_decided(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, independent(3), [60, 66, 65, 70], arrangement="independent", images=200)
    for rung, values in ((1, (80, 90.1, 70)), (3, (70, 80, 90.1))):
        for seed, value, summary in zip(plan.seeds, values, figures(plan, rung), strict=True):
            change(plan, rung, seed, "summary.json", val=summary["val"] | {"top1": value})
    for rung in (0, 2):
        for seed, summary in zip(plan.seeds, figures(plan, rung), strict=True):
            change(plan, rung, seed, "summary.json", val=summary["val"] | {"top1": 50})
    table = found(plan)
    assert table.chosen is table.rows[1] and table.tied == (table.rows[3],)
    assert table.conclusions.answer.endswith(" On val it is tied with label smoothing; of equals, the first in the study is chosen.")


def test_a_rung_with_another_test_has_no_gain_and_a_note(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(3), [60, 66, 99, 70], images=200)
    for seed in plan.seeds:
        file = plan.run_path(plan.datasets[0], plan.rungs[2], seed) / "predictions" / "test.npz"
        own = Predictions.load(file)
        replace(own, class_names=(*own.class_names[:-1], "another")).save(file)
    table = found(plan)
    assert "flips is not compared: its classes are different." in table.conclusions.notes
    assert table.rows[2].over_base is None and table.rows[2].measured is not None
    assert table.rows[3].over_before is None and table.rows[3].over_base is not None
    assert table.sensitivity.comparisons == 2, "random crop and label smoothing over the base"
    assert table.chosen is not None and table.chosen.name != "flips", "its 99 % are of another test"
    assert table.conclusions.verdicts[1] == "flips: cannot be compared yet"
    assert "1 cannot be compared yet" not in table.conclusions.headline and "2 cannot be compared yet" in table.conclusions.answer


def test_a_seed_with_another_test_is_left_out_of_the_comparison(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(1), [60, 66], images=200)
    file = plan.run_path(plan.datasets[0], plan.rungs[0], 0) / "predictions" / "test.npz"
    own = Predictions.load(file)
    replace(own, ids=np.array([f"other/{name}" for name in own.ids])).save(file)
    table = found(plan)
    assert table.conclusions.notes == ("base is compared without seed 0: its test images are different.",)
    kept = [summary["test"]["top1"] for summary in figures(plan, 0)[1:]]
    base = table.rows[0]
    assert base.measured is not None and base.measured.test.mean == pytest.approx(np.mean(kept)) and base.finished == 3
    expected = gains([hits(plan)[0][1:], hits(plan)[1]], np.array([[-1.0, 1.0]]))[0]
    assert table.rows[1].over_base is not None and table.rows[1].over_base.low == pytest.approx(expected.low)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(3), [60, 66, 67, 70], images=100)
    dataset = plan.datasets[0]
    shutil.rmtree(plan.run_path(dataset, plan.rungs[1], 0))
    change(plan, 1, 1, "manifest.json", status="running")
    change(plan, 2, 0, "manifest.json", status="failed", reason="the loss is\n not finite")
    (plan.run_path(dataset, plan.rungs[3], 2) / "summary.json").unlink()
    (plan.run_path(dataset, plan.rungs[3], 1) / "report.html").unlink()
    table = found(plan)
    assert table.conclusions.notes == (
        "One seed of random crop: gains of it or over it cannot be distinguished from chance and have no verdict.",
        "3 of 12 runs are not finished: random crop, seed 0 (not begun); random crop, seed 1 (interrupted); "
        "label smoothing, seed 1 (trained, its report is missing).",
        "Left out: label smoothing, seed 2: summary.json is missing",
        "Failed: flips, seed 0: the loss is not finite",
    )
    assert [row.finished for row in table.rows] == [3, 1, 2, 2]
    assert [row.over_base is not None and row.over_base.significant is not None for row in table.rows[1:]] == [False, True, True]


def test_a_rung_with_one_seed_among_others(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(3), [50, 75, 75, 90], images=400, seed_sd=0.2)
    for seed in (0, 1):
        shutil.rmtree(plan.run_path(plan.datasets[0], plan.rungs[1], seed))
    table = found(plan)
    assert [row.measured is not None and row.measured.test.sd is None for row in table.rows] == [False, True, False, False]
    crop, flips, smoothing = (row.over_before for row in table.rows[1:])
    assert crop is not None and flips is not None and smoothing is not None
    assert crop.low is None and flips.low is None and smoothing.significant
    assert table.sensitivity.comparisons == 5, "all are corrected for, those without an interval too"
    assert table.sensitivity.smallest is not None
    assert (
        table.conclusions.notes[0]
        == "One seed of random crop: gains of it or over it cannot be distinguished from chance and have no verdict."
    )
    assert table.conclusions.headline == "Of 3 changes, 1 helps significantly"
    assert table.conclusions.answer.startswith(
        f"{table.conclusions.headline}: label smoothing; 2 cannot be distinguished from chance with one seed. All together: +"
    )
    assert table.conclusions.verdicts[:2] == (f"random crop: {crop.words()}", f"flips: {flips.words()}") and crop.words().endswith(
        "no verdict"
    )
    assert about(table)[-1].startswith("The gain of a rung with one seed, or over such a rung, has no such interval. In parentheses: ")


def test_a_base_with_one_seed_is_no_measure(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, independent(2), [50, 75, 75], arrangement="independent", images=100)
    for seed in (0, 1):
        shutil.rmtree(plan.run_path(plan.datasets[0], plan.rungs[0], seed))
    table = found(plan)
    assert table.conclusions.headline == "With so few seeds, no gain can be distinguished from chance"
    assert table.sensitivity.smallest is None and table.conclusions.notes[0].startswith("One seed of base: ")
    assert about(table)[-1].startswith("Gains in points; none has an interval")


def test_a_study_that_has_not_begun_has_a_table(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(12), [60] * 13, images=20)
    shutil.rmtree(tmp_path / "runs")
    table = found(plan)
    assert (table.conclusions.headline, table.conclusions.answer) == ("No run has finished yet", "No run has finished yet.")
    assert table.chosen is None and table.test is None and len(table.rows) == 13
    assert table.conclusions.notes[0].endswith("and 31 more.")
    assert table.conclusions.verdicts[0] == "random crop: cannot be compared yet"


def test_without_a_base_a_ladder_still_compares_its_steps(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(2), [60, 66, 67], images=100)
    shutil.rmtree(tmp_path / "runs" / "cars" / "base")
    table = found(plan)
    assert table.rows[1].over_before is None and table.rows[2].over_before is not None and table.rows[2].over_base is None
    assert table.sensitivity.comparisons == 1


def test_runs_made_differently_are_noted(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(1), [60, 66], images=100)
    change(plan, 1, 1, "summary.json", training=figures(plan, 1)[1]["training"] | {"precision": "bfloat16", "device": "another"})
    change(plan, 0, 0, "manifest.json", versions={"torch": "2.12.0"})
    notes = found(plan).conclusions.notes
    assert "The runs differ in precision (float32 in 5, bfloat16 in 1), which may account for part of a difference." in notes
    assert "The runs differ in device (a processor, 2 threads in 5, another in 1), which may account for part of a difference." in notes
    assert "The runs differ in the version of torch (2.11.0 in 5, 2.12.0 in 1), which may account for part of a difference." in notes


def test_each_dataset_has_its_own_table(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(1), [60, 66], images=100, datasets=("cars", "birds"))
    shutil.rmtree(tmp_path / "runs" / "birds")
    cars, birds = study_table(plan, read_results(plan)).datasets
    assert (cars.name, cars.conclusions.notes, birds.name, birds.test) == ("cars", (), "birds", None)


def test_words() -> None:
    settings = {"optim.lr": 0.01, "augment.crop.area": [0.5, 1.0], "train.refit": True, "model.name": "b0", "data.level": None}
    assert change_in_words(settings) == "optim.lr=0.01, augment.crop.area=[0.5, 1.0], train.refit=true, model.name=b0, data.level=null"
    assert one_line("a\n b\x00\t\u2028c\u202ed\ud800") == "a b cd\ufffd"
    assert len(one_line("x" * 10_000)) == 500
    assert one_line("فارسی é 猫") == "فارسی é 猫"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_metrics_that_few_images_bias_are_shown_as_runs_show_them(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    plan = replace(synthetic_study(tmp_path, ladder(1), [60, 66], seeds=seeds), metrics=("ece", "nll"))
    for rung in range(2):
        for seed in seeds:
            test = figures(plan, rung)[seed]["test"]
            new = {"ece": 4.8, "ece_low": 10 + seed, "ece_high": 30.0, "ece_corrected": 20.0 + seed}
            change(plan, rung, seed, "summary.json", test=test | new)
    table = study_table(plan, read_results(plan))
    cell = next(column for column in rung_columns(table) if column.title == "test ECE %").cell(table.datasets[0].rows[0])
    assert cell == ("20.0 [10.0, 30.0]" if len(seeds) == 1 else "20.5 ± 0.7")
    record = dict(zip(*(line.split(",") for line in csv_text(table).splitlines()[:2]), strict=True))
    assert record["test_ece_as_computed_percent"] == "4.8" and "test_nll_as_computed" not in record
    assert "ECE corrected for few images, as in the reports; as computed: table.csv." in about(table.datasets[0])


def test_seeds_without_a_difference_do_not_tell_what_the_study_would_find(tmp_path: Path) -> None:
    table = found(synthetic_study(tmp_path, ladder(1), [50, 50], seed_sd=0.0))
    assert table.sensitivity.smallest is None and table.sensitivity.noise == 0
    assert any("cannot be estimated" in sentence for sentence in limits(table))
    assert any("with a 95 % interval for new seeds" in sentence for sentence in about(table))
