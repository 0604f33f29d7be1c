from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import ladder, synthetic_study

from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import StageSummary
from fieldmark.scoring.predictions import Predictions
from fieldmark.studies.plan import StudyPlan
from fieldmark.studies.results import Absent, Outcome, Results, read_results


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    return synthetic_study(tmp_path_factory.mktemp("made") / "study", ladder(2), [60, 65, 63], images=50)


@pytest.fixture
def plan(made: StudyPlan, tmp_path: Path) -> StudyPlan:
    shutil.copytree(made.folder, tmp_path / "study")
    return replace(made, folder=tmp_path / "study")


def one(plan: StudyPlan, rung: int = 1, seed: int = 1) -> Path:
    return plan.run_path(plan.datasets[0], plan.rungs[rung], plan.seeds[seed])


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def only_absent(plan: StudyPlan) -> Absent:
    results = read_results(plan)
    assert len(results.outcomes) == 8
    (absent,) = results.absent
    assert (absent.rung, absent.seed, absent.path) == (plan.rungs[1], plan.seeds[1], one(plan))
    return absent


def test_all_of_a_finished_study_is_read(plan: StudyPlan) -> None:
    results = read_results(plan)
    assert results.absent == ()
    order = [(outcome.rung.name, outcome.seed) for outcome in results.outcomes]
    assert order == [(rung.name, seed) for rung in plan.rungs for seed in plan.seeds]
    for outcome in results.outcomes:
        stored = np.load(outcome.path / "predictions" / "test.npz")
        right = stored["logits"].argmax(axis=1) == stored["labels"]
        by_id = dict(zip(stored["ids"].tolist(), right.tolist(), strict=True))
        assert outcome.hits.tolist() == [by_id[name] for name in outcome.images.ids.tolist()]
        summary = json.loads((outcome.path / "summary.json").read_text())
        assert outcome.summary.test.top1 == summary["test"]["top1"] == pytest.approx(100 * right.mean())
        assert outcome.summary.training.seconds == summary["training"]["seconds"] and outcome.summary.model.macs == summary["model"]["macs"]
        rows = [json.loads(line) for line in (outcome.path / "metrics.jsonl").read_text().splitlines()]
        assert outcome.curve.epochs.tolist() == [row["epoch"] for row in rows]
        assert outcome.curve.val_top1.tolist() == [row["val_top1"] for row in rows]
        assert outcome.curve.train_top1.tolist() == [row["train_top1"] for row in rows]
        (stage,) = summary["training"]["stages"]
        expected = StageSummary(epochs=tuple(stage["epochs"]), trainable=("all",), trainable_parameters=stage["trainable_parameters"])
        assert outcome.summary.training.stages == (expected,)
        assert outcome.versions["torch"] == "2.11.0"
    assert len({id(outcome.images) for outcome in results.outcomes}) == 1
    assert results.of(plan.datasets[0], plan.rungs[2]) == list(results.outcomes[6:])


def test_images_are_matched_by_id_whatever_the_order_of_rows(plan: StudyPlan) -> None:
    before = {outcome.path: outcome.hits for outcome in read_results(plan).outcomes}
    file = one(plan) / "predictions" / "test.npz"
    own = Predictions.load(file)
    order = np.random.default_rng(0).permutation(len(own))
    Predictions(own.ids[order], own.labels[order], own.logits[order], own.features[order], own.class_names).save(file)
    results = read_results(plan)
    assert len({id(outcome.images) for outcome in results.outcomes}) == 1
    assert all((before[outcome.path] == outcome.hits).all() for outcome in results.outcomes)


def test_images_without_a_label_are_left_out(plan: StudyPlan) -> None:
    file = one(plan) / "predictions" / "test.npz"
    own = Predictions.load(file)
    known = own.labels.copy()
    known[:10] = -1
    replace(own, labels=known).save(file)
    right = float(100 * (own.logits.argmax(axis=1) == own.labels)[10:].mean())
    summary("test", n=40, top1=right)(one(plan))
    outcome = next(outcome for outcome in read_results(plan).outcomes if outcome.path == one(plan))
    assert len(outcome.hits) == len(outcome.images) == 40 and 100 * outcome.hits.mean() == pytest.approx(right)


def test_ties_and_answers_that_are_no_numbers_are_not_right(plan: StudyPlan) -> None:
    file = one(plan) / "predictions" / "test.npz"
    own = Predictions.load(file)
    own.logits[:] = 0
    own.logits[np.arange(50), own.labels] = 1
    own.logits[0] = 1
    own.logits[1, (own.labels[1] + 1) % 10] = np.nan
    own.save(file)
    summary("test", n=50, top1=96.0)(one(plan))
    outcome = next(outcome for outcome in read_results(plan).outcomes if outcome.path == one(plan))
    assert set(outcome.images.ids[~outcome.hits].tolist()) == set(own.ids[:2].tolist())


@pytest.mark.parametrize(
    "status, reason, state, said",
    [
        ("running", None, "waiting", "interrupted"),
        ("interrupted", None, "waiting", "interrupted"),
        ("failed", "the loss is not finite", "failed", "the loss is not finite"),
        ("failed", None, "failed", "no reason was recorded"),
        ("failed", {"a": 1}, "broken", "manifest.json is damaged: reason should be a valid string"),
        (
            "sleeping",
            None,
            "broken",
            "manifest.json is damaged: status should be 'running', 'finished', 'failed' or 'interrupted', not \"sleeping\"",
        ),
        (None, None, "broken", "manifest.json is damaged: status should be 'running', 'finished', 'failed' or 'interrupted', not null"),
    ],
)
def test_unfinished_runs(plan: StudyPlan, status: Any, reason: Any, state: str, said: str) -> None:
    changed(one(plan) / "manifest.json", status=status, reason=reason)
    absent = only_absent(plan)
    assert (absent.state, absent.reason) == (state, said)


def test_a_run_that_is_not_there_waits(plan: StudyPlan) -> None:
    shutil.rmtree(one(plan))
    absent = only_absent(plan)
    assert (absent.state, absent.reason) == ("waiting", "not begun")
    results = read_results(plan)
    assert (len(results.waiting), results.failed, results.broken) == (1, [], [])


def summary(section: str, **values: Any) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        file = run / "summary.json"
        changed(file, **{section: json.loads(file.read_text())[section] | values})

    return damage


STAGES = "summary.json is damaged: training.stages.0"


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def predictions(**arrays: Callable[[Predictions], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        own = Predictions.load(run / "predictions" / "test.npz")
        replace(own, **{name: change(own) for name, change in arrays.items()}).save(run / "predictions" / "test.npz")

    return damage


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda run: (run / "manifest.json").unlink(), "manifest.json is missing"),
        (text("manifest.json", "{"), "manifest.json cannot be read"),
        (text("manifest.json", "[" * 100_000), "manifest.json cannot be read"),
        (text("manifest.json", b"\xff\xfe"), "manifest.json cannot be read"),
        (text("manifest.json", "[1]"), "manifest.json does not hold"),
        (lambda run: (run / "summary.json").unlink(), "summary.json is missing"),
        (text("summary.json", "null"), "summary.json does not hold"),
        (summary("training", stages=3), "summary.json is damaged: training.stages should be a valid array, not 3"),
        (
            summary("training", stages=[{"epochs": [1, True], "trainable": ["all"], "trainable_parameters": 3}]),
            "summary.json is damaged: training.stages.0.epochs.1 should be a valid integer, not true",
        ),
        (
            summary("training", stages=[{"epochs": [1, 2], "trainable": [3], "trainable_parameters": 3}]),
            f"{STAGES}.trainable.0 should be a valid string",
        ),
        (summary("training", stages=[{"epochs": [1], "trainable": [], "trainable_parameters": 3}]), f"{STAGES}.epochs.1 is missing"),
        (
            text("summary.json", "{}"),
            "summary.json is damaged: status is missing; dataset is missing; model is missing; training is missing; val is missing",
        ),
        (summary("test", top1="high"), 'summary.json is damaged: test.top1 should be a valid number, not "high"'),
        (summary("test", top1=101), "summary.json is damaged: test.top1 should be less than or equal to 100, not 101"),
        (summary("test", top1=float("nan")), "summary.json is damaged: test.top1 should be a finite number"),
        (summary("val", top1=None), "summary.json is damaged: val.top1 should be a valid number, not null"),
        (summary("model", macs=1.5), "summary.json is damaged: model.macs should be a valid integer, not 1.5"),
        (summary("model", macs=10**400), "summary.json is damaged: model.macs should be less than 9223372036854775808, not 1000"),
        (
            summary("training", seconds=True, device=[]),
            "summary.json is damaged: training.seconds should be a valid number, not true; training.device should be a valid string",
        ),
        (lambda run: shutil.rmtree(run / "predictions"), "there are no predictions at predictions/test.npz"),
        (text("predictions/test.npz", "no archive"), "predictions/test.npz is damaged"),
        (predictions(ids=lambda own: np.repeat(own.ids[:25], 2)), "predictions/test.npz has an image twice"),
        (predictions(labels=lambda own: np.full(50, -1, np.int32)), "predictions/test.npz has no labelled images"),
        (predictions(logits=lambda own: np.zeros_like(own.logits)), "predictions/test.npz and summary.json disagree: top-1 is 0.000 % and"),
        (lambda run: (shutil.rmtree(run), run.write_text("a file")), "manifest.json cannot be read"),
    ],
)
def test_a_broken_run_names_its_file_and_stops_nothing(plan: StudyPlan, damage: Callable[[Path], None], said: str) -> None:
    damage(one(plan))
    absent = only_absent(plan)
    assert absent.state == "broken" and absent.reason.startswith(said) and str(plan.folder) not in absent.reason


def test_summary_of_a_version_that_did_not_name_stages(plan: StudyPlan) -> None:
    file = one(plan) / "summary.json"
    training = json.loads(file.read_text())["training"]
    del training["stages"]
    changed(file, training=training)
    assert [outcome.summary.training.stages for outcome in read_results(plan).outcomes].count(()) == 1


@pytest.mark.parametrize("rows", ["", "{", "[]\n3\n", '{"phase": "fit", "epoch": "one"}\n', "\xff", "[" * 100_000 + "\n"])
def test_without_its_curve_a_run_still_counts(plan: StudyPlan, rows: str) -> None:
    (one(plan) / "metrics.jsonl").write_bytes(rows.encode("latin-1"))
    results = read_results(plan)
    assert len(results.outcomes) == 9 and len(results.outcomes[4].curve.epochs) == 0


def test_what_a_curve_did_not_measure_is_a_gap_and_refits_are_left_out(plan: StudyPlan) -> None:
    rows = [
        {"phase": "fit", "epoch": 1, "train_loss": None, "val_top1": 10},
        {"phase": "fit", "epoch": 2, "train_loss": "low", "val_top1": 20.5},
        {"phase": "refit", "epoch": 1, "train_loss": 1.0},
    ]
    (one(plan) / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curve = read_results(plan).outcomes[4].curve
    assert curve.epochs.tolist() == [1, 2] and np.isnan(curve.train_loss).all() and curve.val_top1.tolist() == [10, 20.5]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"class_names": lambda own: (*own.class_names[:-1], "another")}, "its classes are different"),
        (
            {"class_names": lambda own: (*own.class_names, "more"), "logits": lambda own: np.pad(own.logits, ((0, 0), (0, 1)))},
            "its classes are different (11, not 10)",
        ),
        ({"ids": lambda own: np.array([f"other/{name}" for name in own.ids])}, "its test images are different"),
        (
            {"labels": lambda own: (own.labels + 1) % 10, "logits": lambda own: np.roll(own.logits, 1, axis=1)},
            "labels of its test images are different",
        ),
    ],
)
def test_tests_that_differ_are_told_apart(plan: StudyPlan, change: dict[str, Any], said: str) -> None:
    predictions(**change)(one(plan))
    outcomes = read_results(plan).outcomes
    assert len(outcomes) == 9 and len({id(outcome.images) for outcome in outcomes}) == 2
    assert outcomes[4].images.differs(outcomes[0].images) == said
    assert outcomes[3].images.differs(outcomes[0].images) is None


def test_no_damage_of_any_file_is_raised(plan: StudyPlan) -> None:
    files = [path for path in one(plan).rglob("*") if path.is_file() and path.name != "report.html"]
    whole = {file: file.read_bytes() for file in files}
    chance = random.Random(0)
    for turn in range(300):
        file = files[turn % len(files)]
        damaged = bytearray(whole[file])
        for _ in range(chance.choice((1, 3, 30))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged[: chance.randrange(len(damaged) + 1)] if chance.random() < 0.3 else damaged)
        results: Results = read_results(replace(plan, rungs=plan.rungs[1:2], seeds=plan.seeds[1:2]))
        run: Outcome | Absent
        (run,) = (*results.outcomes, *results.absent)
        assert isinstance(run, Outcome) or run.reason
        file.write_bytes(whole[file])


def test_run_is_running_while_a_process_holds_it(plan: StudyPlan) -> None:
    changed(one(plan) / "manifest.json", status="running", reason=None)
    with RunFolder(one(plan)).locked():
        assert only_absent(plan).reason == "running"
    assert only_absent(plan).reason == "interrupted"


def test_run_that_is_not_the_plans_is_broken(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path / "study", ladder(1), (60, 70))
    first, copy = (plan.run_path(plan.datasets[0], plan.rungs[0], seed) for seed in (0, 1))
    shutil.rmtree(copy)
    shutil.copytree(first, copy)
    other = plan.run_path(plan.datasets[0], plan.rungs[1], 2) / "manifest.json"
    other.write_text(other.read_text().replace("0123", "4567"))
    reasons = {(run.rung.name, run.seed): run.reason for run in read_results(plan).broken}
    assert "with a different recipe or seed" in reasons.pop((plan.rungs[0].name, 1))
    assert "on different images or splits than seed 0" in reasons.pop((plan.rungs[1].name, 2))
    assert not reasons
