"""Run folders that version 0.1.0 wrote before manifests had a schema number (commit 60d0681) still open, resume and report.

`earlier/` holds four drawn species and runs on them: `finished`; `interrupted`, the same after 11 of its 18 steps; and `ensemble`, the mean
of `finished` and a run with another seed. Reports, figures and the last checkpoint of `finished` are left out.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fieldmark
from fieldmark.scoring.predictions import Predictions

EARLIER = Path(__file__).parent / "earlier"


@pytest.fixture
def earlier(tmp_path) -> Path:
    """A copy of `earlier/` whose manifests say where it is now."""
    here = tmp_path / "earlier"
    shutil.copytree(EARLIER, here)
    for manifest in here.rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace("/home/user", str(here)))
    for name in ("finished", "interrupted", "ensemble"):  # git keeps no empty folders
        (here / name / "predictions").mkdir(exist_ok=True)
        (here / name / "figures").mkdir(exist_ok=True)
    return here


def saved(run: Path, split: str) -> Predictions:
    return Predictions.load(run / "predictions" / f"{split}.npz")


@pytest.mark.parametrize("name", ["finished", "ensemble"])
def test_it_predicts_what_it_predicted(earlier, name):
    run, then = fieldmark.Run.load(earlier / name), saved(earlier / name, "test")
    assert run.preprocess.colours == "stored"
    answers = run.predict([earlier / "birds" / path for path in then.ids.tolist()])
    assert [answer.best for answer in answers] == [run.class_names[label] for label in then.logits.argmax(axis=1)]
    assert all(answer.unknown is not None and answer.among and set(answer.coarser) == {"genus"} for answer in answers)


@pytest.mark.parametrize("name", ["finished", "ensemble"])
def test_it_is_evaluated_and_reported(earlier, name):
    then = saved(earlier / name, "test").logits
    summary = json.loads((earlier / name / "summary.json").read_text())
    assert fieldmark.evaluate(earlier / name).metrics.top1 == summary["test"]["top1"] == 37.5
    np.testing.assert_allclose(saved(earlier / name, "test").logits, then, atol=1e-4)
    assert "37.5" in fieldmark.report(earlier / name).read_text()


def test_it_resumes_and_ends_as_the_run_that_was_never_stopped(earlier):
    run = fieldmark.resume(earlier / "interrupted", quiet=True)
    assert run.preprocess.colours == run.folder.manifest().preprocess.colours == "stored"
    for split in ("val", "test"):
        np.testing.assert_allclose(saved(run.path, split).logits, saved(earlier / "finished", split).logits, atol=1e-3)
    summaries = [json.loads((earlier / name / "summary.json").read_text()) for name in ("interrupted", "finished")]
    for part in ("epochs", "best_epoch", "steps", "samples_seen", "stages"):
        assert summaries[0]["training"][part] == summaries[1]["training"][part]


def test_it_joins_a_new_ensemble_and_is_calibrated_anew(earlier):
    fieldmark.resume(earlier / "interrupted", quiet=True)
    together = fieldmark.ensemble(earlier / "finished", earlier / "interrupted", out=earlier / "new", quiet=True)
    assert together.ensemble is not None and [member.name for member in together.ensemble.members] == ["finished", "interrupted"]
    fieldmark.calibrate(earlier / "finished", coverage=0.8)
    assert "37.5" in fieldmark.report(earlier / "finished", together.path, out=earlier / "both.html").read_text()
