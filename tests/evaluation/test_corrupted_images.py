from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.datasets.corruptions import CORRUPTIONS
from fieldmark.evaluation.corrupted_images import evaluate_robustness
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.robustness import read_robustness
from fieldmark.evaluation.run import Run

QUIET = Console(quiet=True)


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(finished_run.path, tmp_path / "run")
    return Run.load(tmp_path / "run")


def test_each_corruption_is_measured_as_by_itself(run: Run) -> None:
    measured = evaluate_robustness(run, (5,), QUIET)
    assert measured.n == 12 and measured.none == run.summary.test.top1
    assert list(measured.corruptions) == list(CORRUPTIONS)
    for name, found in measured.corruptions.items():
        alone = evaluate_run(run, None, "test", QUIET, corrupt=f"{name}:5")
        assert found == {"5": pytest.approx(alone.metrics.top1)}
    assert any(found["5"] != measured.none for found in measured.corruptions.values())
    assert read_robustness(run) == measured


def test_what_was_measured_is_not_measured_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was interrupted between two corruptions."""
    asked: list[str] = []

    def noted(self: Run, loaded: Any, rows: Any, console: Any, crop: Any, corrupt: str) -> Any:
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append(corrupt)
        return predict(self, loaded, rows, console, crop, corrupt)

    predict = Run.predict_rows
    monkeypatch.setattr(Run, "predict_rows", noted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_robustness(run, (2,), QUIET)
    first = read_robustness(run)
    assert first is not None and len(first.corruptions) == 3
    asked.clear()
    monkeypatch.setattr(Run, "predict_rows", lambda *given: (asked.append(given[-1]), predict(*given))[1])
    whole = evaluate_robustness(run, (2,), QUIET)
    assert asked == [f"{name}:2" for name in list(CORRUPTIONS)[3:]]
    assert {name: whole.corruptions[name] for name in first.corruptions} == first.corruptions
    asked.clear()
    assert evaluate_robustness(run, (2,), QUIET) == whole and asked == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"n": 12, "none": "x", "corruptions": {}}',
        '{"n": 12, "none": 1, "corruptions": {"fog": {"1": -2}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_named(run: Run, content: str) -> None:
    run.folder.robustness_file.write_text(content)
    with pytest.raises(
        InputError, match=r"robustness\.json (is damaged|cannot be read|does not hold)[\s\S]*\nDelete it, and measure again\."
    ):
        evaluate_robustness(run, (1,), QUIET)
    assert run.folder.robustness_file.read_text() == content


def test_an_unfinished_run_is_not_opened(run: Run) -> None:
    run.folder.update_manifest(status="running")
    with pytest.raises(InputError, match="is not finished"):
        evaluate_robustness(Run.load(run.path), (1,), QUIET)
    assert not run.folder.robustness_file.exists()
