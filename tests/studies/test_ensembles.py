"""Ensembles of the runs of a study."""

import json
import shutil

import pytest

import fieldmark
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.run_folder import RunFolder
from fieldmark.reports.results import write_results
from fieldmark.studies.ensembles import SUBMISSION
from fieldmark.studies.run import plan_study
from fieldmark.studies.study_file import load_study
from fieldmark.training.train import train_run

TEXT = """# together: two rates and what they say together
base: {extends: default, SETTINGS}
base_name: slow
seeds: 1
independent:
  fast: {optim.lr: 0.03}
ensembles:
  mean: {method: mean}
  stack it: {members: [fast, slow], method: stack, fit_on: train}
"""


def write(folder, tiny, text=TEXT):
    path = folder / "together.yaml"
    path.write_text(text.replace("SETTINGS", ", ".join(setting.replace("=", ": ", 1) for setting in tiny())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def competition(birds, tmp_path_factory):
    """train in class folders, test without labels."""
    root = tmp_path_factory.mktemp("data") / "competition"
    shutil.copytree(birds / "train", root / "train")
    (root / "test").mkdir()
    for number, file in enumerate(sorted((birds / "test").rglob("*.png"))):
        shutil.copy(file, root / "test" / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def trained(competition, tiny, tmp_path_factory):
    """The folder of a study whose runs are finished, and its file."""
    folder = tmp_path_factory.mktemp("study")
    file, console = write(folder, tiny), Console(quiet=True)
    plan = plan_study(load_study(file), [str(competition)], folder / "out")
    for run in plan.runs():
        write_results(train_run(competition, run.recipe, run.path, console), console)
    plan.save()
    return folder / "out", file


def test_they_are_made_when_their_members_are_finished(trained, competition):
    out, file = trained
    before = fieldmark.study_table(out).datasets[0].ensembles
    assert [(row.name, row.reason) for row in before] == [
        ("mean", "it has not been made; `fieldmark study run` makes it, or says why not"),
        ("stack it", "it has not been made; `fieldmark study run` makes it, or says why not"),
    ]
    found = fieldmark.run_study(file, competition, out=out, quiet=True).datasets[0].ensembles
    assert [(row.name, row.members, row.method, row.reason) for row in found] == [
        ("mean", ("slow", "fast"), "mean", ""),
        ("stack it", ("fast", "slow"), "stack, fit_on=train", ""),
    ]
    run = fieldmark.Run.load(found[1].path)
    figures = found[1].figures
    assert figures.test == run.summary.test and figures.best_member == run.summary.ensemble.best_member
    assert [member.name for member in run.ensemble.members] == ["fast/seed-0", "slow/seed-0"]
    rows = (found[1].path / SUBMISSION).read_text().splitlines()
    assert rows[0] == "id,label" and len(rows) == 13 and rows[1].startswith("000,")
    text, page = (out / "table.md").read_text(), (out / "study.html").read_text()
    assert "| stack it | 0 |" in text and "Ensembles</h3>" in page and "ensembles/competition/stack-it/seed-0/report.html" in page
    stored = json.loads((out / "table.json").read_text())["datasets"][0]["ensembles"]
    assert stored[1]["test_top1"] == figures.test.top1 and stored[1]["over_best_member"]["best_member"] == figures.best_member


def test_they_are_not_made_again_and_go_on_where_they_stopped(trained, competition):
    out, file = trained
    fieldmark.run_study(file, competition, out=out, quiet=True)
    path = out / "ensembles" / "competition" / "mean" / "seed-0"
    made = (path / "summary.json").stat().st_mtime_ns
    RunFolder(path).report_file.unlink()
    (path / SUBMISSION).unlink()
    fieldmark.run_study(file, competition, out=out, quiet=True)
    assert (path / "summary.json").stat().st_mtime_ns == made and (path / SUBMISSION).is_file() and RunFolder(path).report_file.is_file()
    (path / SUBMISSION).unlink()  # the process was killed between the report and the submission
    fieldmark.run_study(file, competition, out=out, quiet=True)
    assert (path / SUBMISSION).is_file()


def test_a_damaged_one_is_named_and_what_cannot_be_made_fails(trained, competition, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "out")
    file = trained[1]
    fieldmark.run_study(file, competition, out=out, quiet=True)
    (out / "ensembles" / "competition" / "mean" / "seed-0" / "summary.json").write_text("{")
    row = fieldmark.study_table(out).datasets[0].ensembles[0]
    assert "summary.json cannot be" in row.reason and row.figures is None
    assert "cannot be" in (out / "table.md").read_text()
    foreign = out / "ensembles" / "competition" / "stack-it" / "seed-0" / "manifest.json"
    foreign.write_text(foreign.read_text().replace('"fitted_on": "train"', '"fitted_on": "val"'))
    assert "was made by another method" in fieldmark.study_table(out).datasets[0].ensembles[1].reason
    shutil.rmtree(out / "ensembles")
    (out / "runs" / "competition" / "fast" / "seed-0" / "predictions" / "test.npz").unlink()
    with pytest.raises(CheckFailed, match="2 of the runs failed"):
        fieldmark.run_study(file, competition, out=out, quiet=True)
    assert all("says why not" in row.reason for row in fieldmark.study_table(out).datasets[0].ensembles)


def test_an_ensemble_that_has_changed_is_refused(trained, competition, tiny, tmp_path):
    fieldmark.run_study(trained[1], competition, out=trained[0], quiet=True)
    changed = write(tmp_path, tiny, TEXT.replace("fit_on: train", "fit_on: val"))
    with pytest.raises(InputError, match="the ensemble 'stack it' has changed"):
        fieldmark.run_study(changed, competition, out=trained[0], quiet=True)


@pytest.mark.parametrize(
    ("change", "method", "said"),
    [
        ("model.name: test_resnet", "{method: soup}", "not of one architecture and size"),
        ("data.size: 48", "{method: soup}", "(data.size)"),
        ("train.refit: true", "{method: stack}", "'fast' is refitted on train and val together"),
        ("train.refit: true", "{method: mean, weights: fitted}", "'fast' is refitted on train and val together"),
        ("data.subset: {name: per-class, count: 3}", "{method: mean}", "trained on different images or labels (data.subset"),
        ("data.crop: {name: box}", "{method: mean}", "sees whole images and the other boxes (data.crop)"),
    ],
)
def test_what_could_not_be_made_is_said_before_anything_is_trained(change, method, said, tiny, tmp_path):
    text = TEXT[: TEXT.index("ensembles:")].replace("{optim.lr: 0.03}", f"{{optim.lr: 0.03, {change}}}")
    with pytest.raises(InputError) as caught:
        load_study(write(tmp_path, tiny, f"{text}ensembles:\n  all: {method}\n"))
    assert any(said in str(problem) for problem in caught.value.problems), caught.value.problems
    if "soup" in method or "refit" in change:
        assert load_study(write(tmp_path, tiny, f"{text}ensembles:\n  all: {{method: mean}}\n")).ensembles


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("[mean]", "ensembles: expected names with the method of each"),
        ("{all: mean}", "all: expected a method, such as {method: mean}, got"),
        ("{all: {method: vote}}", "there is no method 'vote'"),
        ("{all: {}}", "there is no method '(none)'"),
        ("{all: {method: mean, fit_on: val}}", "--fit-on is for a stack"),
        ("{all: {method: stack, fit_on: test}}", "a stack cannot be fitted on test"),
        ("{all: {method: mean, member: [slow]}}", "an ensemble has no such key; did you mean members"),
        ("{all: {method: mean, members: [slow]}}", "expected at least two different rungs"),
        ("{all: {method: mean, members: [slow, fats]}}", "the study has no rung 'fats'; did you mean fast?"),
        ("{a b: {method: mean}, a-b: {method: mean}}", "needs a unique name"),
    ],
)
def test_what_is_wrong_in_the_section_is_said(section, said, tiny, tmp_path):
    text = TEXT[: TEXT.index("ensembles:")] + f"ensembles: {section}\n"
    with pytest.raises(InputError) as caught:
        load_study(write(tmp_path, tiny, text))
    assert any(said in str(problem) and "together.yaml, line" in str(problem) for problem in caught.value.problems), caught.value.problems
