from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.console import Console
from fieldmark.evaluation.answers_table import write_answers
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.run import Run
from fieldmark.scoring.predictions import Predictions


def rows_of(run: Run) -> list[dict[str, str]]:
    with run.folder.answers_file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def copied(run: Run, path: Path) -> Run:
    shutil.copytree(run.path, path)
    return Run.load(path)


def test_each_image_of_test_has_its_row_and_they_say_what_the_report_does(finished_run: Run) -> None:
    saved = Predictions.load(finished_run.folder.predictions / "test.npz")
    rows = rows_of(finished_run)
    assert [row["id"] for row in rows] == saved.ids.tolist()
    assert [row["label"] for row in rows] == [saved.class_names[label] for label in saved.labels]
    right = [row["correct"] == "yes" for row in rows]
    assert 100 * np.mean(right) == pytest.approx(finished_run.summary.test.top1)
    probabilities = finished_run.probabilities(saved.logits)
    for row, each, label in zip(rows, probabilities, saved.labels, strict=True):
        assert float(row["probability"]) == pytest.approx(each.max(), abs=1e-6)
        assert float(row["second_probability"]) == pytest.approx(np.sort(each)[-2], abs=1e-6)
        assert float(row["label_probability"]) == pytest.approx(each[label], abs=1e-6)
        assert row["predicted"] != row["second"] and (row["predicted"] == row["label"]) == (row["correct"] == "yes")


def test_unknown_and_set_are_those_of_predict(finished_run: Run, birds: Path) -> None:
    rows = rows_of(finished_run)
    answers = finished_run.predict([birds / row["id"] for row in rows])
    assert [row["unknown"] for row in rows] == ["yes" if answer.unknown else "no" for answer in answers]
    assert [row["set"] for row in rows] == ["; ".join(answer.among) for answer in answers]


def test_without_label_answer_or_calibration_cells_are_empty(finished_run: Run, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    saved = Predictions.load(run.folder.predictions / "test.npz")
    saved.labels[0], saved.logits[1, 0] = -1, np.nan
    saved.save(run.folder.predictions / "test.npz")
    run.folder.calibration_file.unlink()
    again = Run.load(run.path)
    write_answers(again, saved, again.folder.answers_file)
    unlabelled, unanswered, other = rows_of(run)[:3]
    assert unlabelled["predicted"] and not unlabelled["label"] + unlabelled["correct"] + unlabelled["label_probability"]
    assert [name for name, cell in unanswered.items() if cell] == ["id", "label"]
    assert other["correct"] in ("yes", "no") and not other["unknown"] + other["set"]


def test_the_answers_for_other_data_have_their_table(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    shutil.copytree(birds / "test", tmp_path / "later")
    evaluated = evaluate_run(run, tmp_path / "later", "test", Console(quiet=True))
    assert evaluated.answers == run.folder.predictions / "later-all.csv"
    with evaluated.answers.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == Predictions.load(evaluated.predictions).ids.tolist()
    assert 100 * np.mean([row["correct"] == "yes" for row in rows]) == pytest.approx(evaluated.metrics.top1)
    assert evaluated.to_dict()["answers"] == str(evaluated.answers)
