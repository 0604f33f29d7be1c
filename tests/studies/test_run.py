import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from synthetic import ladder, synthetic_study

import fieldmark
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError, Interrupted
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.studies.engines import Ended, Engine, Job
from fieldmark.studies.estimate import Estimate
from fieldmark.studies.plan import StudyPlan
from fieldmark.studies.run import _train, only_writer, plan_study, train_study
from fieldmark.studies.study_file import load_study
from fieldmark.training.train import train_run

QUIET = Console(quiet=True)
TEXT = """# small: does a flip help
base: {extends: default, SETTINGS}
seeds: 1
independent:
  no flip: {augment.flip: 0.0}
"""


BRANCHED = """# branched: a side branch, rehearsed
base: {extends: default, SETTINGS}
seeds: 2
ladder:
  aside: {on: base, augment.flip: 0.25}
quick:
  seeds: 1
  base: {train.epochs: 1}
  rungs: {aside: {train.batch: 12}}
"""


@pytest.fixture
def study_file(tmp_path, tiny):
    def write(*settings, text=TEXT):
        path = tmp_path / "small.yaml"
        path.write_text(text.replace("SETTINGS", ", ".join(setting.replace("=", ": ", 1) for setting in tiny(*settings))), encoding="utf-8")
        return path

    return write


def test_study_trains_what_is_not_finished_and_leaves_the_rest_alone(birds, study_file, tmp_path, tiny):
    out = tmp_path / "out"
    plan = plan_study(load_study(study_file()), [str(birds)], out)
    assert fieldmark.run_study(study_file(), birds, out=out, jobs=2, dry_run=True, quiet=True) is None
    assert not out.exists()

    table = fieldmark.run_study(study_file(), birds, out=out, jobs=2, quiet=True)
    assert [row.finished for row in table.datasets[0].rows] == [1, 1]
    assert {"study.html", "table.md", "table.csv", "table.tex", "table.json"} <= {path.name for path in out.iterdir()}
    assert fieldmark.study_table(out) == table
    first, second = plan.runs()
    assert first.finished and second.finished and StudyPlan.load(out) == plan
    alone = train_run(birds, load_recipe("default", tiny("augment.flip=0")), tmp_path / "alone", QUIET)
    assert alone.folder.best_weights.read_bytes() == RunFolder(second.path).best_weights.read_bytes()

    before = (first.path / "manifest.json").stat().st_mtime_ns
    shutil.rmtree(second.path)
    done = train_study(plan, "local", 2, dry_run=False, console=QUIET)
    assert (done.finished, done.failed) == (1, {}) and second.finished
    assert (first.path / "manifest.json").stat().st_mtime_ns == before
    assert train_study(plan, "local", 2, dry_run=False, console=QUIET).finished == 0


@pytest.mark.slow
def test_quick_form_with_a_side_branch_is_trained_and_then_grown_and_continued(birds, study_file, tmp_path):
    out = tmp_path / "out"
    table = fieldmark.run_study(study_file(text=BRANCHED), birds, out=out, jobs=2, quick=True, quiet=True)
    base, aside = StudyPlan.load(out).runs()
    assert table.quick and [row.finished for row in table.datasets[0].rows] == [1, 1]
    trained = RunFolder(aside.path).recipe()
    assert (trained.train.epochs, trained.train.batch, trained.augment.flip) == (1, 12, 0.25)
    assert "Quick form: a rehearsal" in (out / "study.html").read_text()

    weights, begun = RunFolder(aside.path).best_weights.read_bytes(), (base.path / "manifest.json").stat().st_mtime_ns
    shutil.rmtree(aside.path)
    table = fieldmark.run_study(study_file(text=BRANCHED), birds, out=out, jobs=2, quick=True, quiet=True)
    assert [(row.name, row.on, row.finished) for row in table.datasets[0].rows] == [("base", None, 1), ("aside", "base", 1)]
    assert RunFolder(aside.path).best_weights.read_bytes() == weights
    assert (base.path / "manifest.json").stat().st_mtime_ns == begun

    grown = study_file(text=BRANCHED.replace("  aside: {on", "  no flip: {augment.flip: 0.0}\n  aside: {on"))
    plan = plan_study(load_study(grown, quick=True), [str(birds)], out)
    assert [(run.rung.name, run.finished) for run in plan.runs()] == [("base", True), ("no flip", False), ("aside", True)]
    with pytest.raises(InputError, match="holds the quick form of a study, and this is the full form"):
        fieldmark.run_study(grown, birds, out=out, quiet=True)


@pytest.mark.slow
def test_failing_run_and_broken_folder_are_named_and_the_others_go_on(birds, study_file, tmp_path):
    text = TEXT + "  explodes: {optim.name: sgd, optim.lr: 1e+30}\n  broken: {augment.flip: 0.9}\n  a file: {augment.flip: 0.8}\n"
    plan = plan_study(load_study(study_file(text=text)), [str(birds)], tmp_path / "out")
    base, flip, explodes, broken, a_file = plan.runs()
    broken.path.mkdir(parents=True)
    (broken.path / "notes.txt").write_text("somebody's")
    a_file.path.parent.write_text("somebody's")
    done = train_study(plan, "local", 2, dry_run=False, console=QUIET)
    assert done.finished == 2 and base.finished and flip.finished
    assert set(done.failed) == {explodes.name, broken.name, a_file.name}
    assert "not finite" in done.failed[explodes.name]
    assert "already exists and is not empty" in done.failed[broken.name]
    assert (broken.path / "notes.txt").read_text() == a_file.path.parent.read_text() == "somebody's"
    with pytest.raises(CheckFailed, match="3 of the runs failed"):
        fieldmark.run_study(study_file(text=text), birds, out=tmp_path / "out", jobs=2, quiet=True)
    assert "not finite" in (tmp_path / "out" / "table.md").read_text() and (tmp_path / "out" / "study.html").is_file()


def test_damaged_plan_is_written_anew_from_the_command_line(birds, study_file, tmp_path):
    plan = plan_study(load_study(study_file()), [str(birds)], tmp_path / "out")
    plan.save()
    plan.runs()[0].path.mkdir(parents=True)
    for damage in ("{", None):
        plan.file.unlink() if damage is None else plan.file.write_text(damage)
        assert plan_study(load_study(study_file()), [str(birds)], tmp_path / "out") == plan


def test_foreign_folder_is_refused(birds, study_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.jpg").write_text("")
    with pytest.raises(InputError, match="already exists and is not the folder of a study"):
        plan_study(load_study(study_file()), [str(birds)], tmp_path / "out")


def test_one_process_at_a_time_works_in_a_study(tmp_path):
    with (
        only_writer(tmp_path / "out"),
        pytest.raises(InputError, match="another process is working in"),
        only_writer(tmp_path / "out"),
    ):
        pass


@pytest.mark.slow
def test_study_killed_again_and_again_ends_as_one_never_stopped(birds, study_file, tmp_path, tiny):
    epochs = "train.epochs=12"
    command = [sys.executable, "-m", "fieldmark", "study", "run", str(study_file(epochs)), str(birds), "--out", str(tmp_path / "out")]
    plan = plan_study(load_study(study_file(epochs)), [str(birds)], tmp_path / "out")

    def lines():
        return sum(
            len((run.path / "metrics.jsonl").read_text().splitlines()) for run in plan.runs() if (run.path / "metrics.jsonl").is_file()
        )

    for enough in (2, 9):
        study = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.DEVNULL)
        patience = time.monotonic() + 240
        while lines() < enough:
            assert study.poll() is None and time.monotonic() < patience
            time.sleep(0.02)
        workers = [child for child in psutil.Process(study.pid).children(recursive=True) if "fieldmark.studies.worker" in child.cmdline()]
        if enough == 9:
            workers[0].kill()
        study.send_signal(signal.SIGKILL)
        study.wait()
    finished = subprocess.run([*command, "--jobs", "2"], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    for run in plan.runs():
        alone = train_run(birds, run.recipe, tmp_path / "alone" / run.rung.slug, QUIET)
        assert alone.folder.best_weights.read_bytes() == RunFolder(run.path).best_weights.read_bytes()
        here, there = (read_json_lines(folder / "metrics.jsonl") for folder in (run.path, alone.path))
        assert [row["val_nll"] for row in here] == [row["val_nll"] for row in there]


def test_data_that_were_moved_after_the_study_began(tmp_path):
    plan = synthetic_study(tmp_path, ladder(1), [60, 66], images=20)
    run = plan.runs()[0]
    (run.path / "report.html").unlink()
    with pytest.raises(
        InputError, match=r"there is no file or folder /data/cars\nThe study has runs on these data.*ln -s PLACE /data/cars"
    ):
        train_study(plan, "local", 1, dry_run=True, console=QUIET)


class StoppedLate(Engine):
    """It is interrupted with two runs under way, of which the first ends well while it is stopped."""

    jobs, threads, running = 2, 1, ()

    def start(self, job: Job) -> None:
        self.running = (*self.running, job)

    def ended(self) -> list[Ended]:
        if not self._stopped:
            raise KeyboardInterrupt
        (self.running[0].path / "report.html").write_text("")
        self.running = ()
        return []

    def _ask_to_stop(self, job: Job) -> None:
        pass

    def _abandon(self) -> None:
        pass


def test_runs_that_end_while_a_study_is_stopped_are_not_left(tmp_path):
    plan = synthetic_study(tmp_path, ladder(3), [60, 66, 67, 70], images=20)
    todo = plan.runs()[:2]
    for run in todo:
        (run.path / "report.html").unlink()
    expected = Estimate(
        seconds={run.path: 1.0 for run in todo}, executions={}, decode_seconds=0, run_bytes=0, working_bytes=0, cache_bytes=0, jobs=2
    )
    with pytest.raises(Interrupted, match=r"stopped with 1 of 12 runs left"):
        _train(plan, todo, StoppedLate(), expected, QUIET)
    assert [run.finished for run in todo] == [True, False]


@pytest.mark.slow
def test_interrupted_study_stops_its_runs_and_says_how_to_go_on(birds, study_file, tmp_path):
    command = [sys.executable, "-m", "fieldmark", "study", "run", str(study_file("train.epochs=500")), str(birds)]
    study = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    plan = plan_study(load_study(study_file("train.epochs=500")), [str(birds)], tmp_path / "out")
    first = plan.runs()[0].path
    patience = time.monotonic() + 240
    while not (first / "metrics.jsonl").is_file():
        assert study.poll() is None and time.monotonic() < patience
        time.sleep(0.05)
    study.send_signal(signal.SIGINT)
    said = study.communicate(timeout=120)[1]
    assert study.returncode == 130 and "the same command continues them" in said and "Traceback" not in said
    assert RunFolder(first).manifest().status == "interrupted"
