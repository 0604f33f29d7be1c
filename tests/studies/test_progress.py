import json

import pytest

from fieldmark.core.recipe.load import load_recipe
from fieldmark.studies import progress as module
from fieldmark.studies.engines import Job
from fieldmark.studies.progress import _ENDING as ENDING
from fieldmark.studies.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def job_in(folder, name):
    (folder / name).mkdir()
    return Job(name, "birds", load_recipe("default", ["train.epochs=10"]), folder / name)


def wrote(job, epoch, val=None, cut=""):
    line = {"phase": "fit", "step": 3, "epoch": epoch, "loss": 1.0, "lr": 0.1, "images_per_second": 120.4}
    (job.path / "steps.jsonl").write_text(json.dumps({**line, "epoch": 0.1}) + "\n" + json.dumps(line) + "\n" + cut)
    if val is not None:
        (job.path / "metrics.jsonl").write_text(json.dumps({"val_top1": val}) + "\n")


def progress_of(*jobs, at_once):
    return Progress(len(jobs), {job.name: 100.0 for job in jobs}, at_once, started=100.0)


def test_time_left_follows_the_estimates_until_runs_say_better(tmp_path, clock):
    one, two, three = (job_in(tmp_path, name) for name in "abc")
    progress = progress_of(one, two, three, at_once=1)
    progress.begin(one)
    assert progress.left([one]) == 300
    clock.now += 50
    assert progress.left([one]) == 250
    wrote(one, 2.5)  # a quarter in 50 s: 200 s a run
    assert progress.left([one]) == pytest.approx(150 + ENDING + 2 * (200 + ENDING))
    clock.now += 150
    assert progress.end(one, finished=True) == 200
    assert progress.left([]) == pytest.approx(400)


def test_two_at_once_take_half_the_time_but_no_less_than_the_longest(tmp_path, clock):
    one, two, three = (job_in(tmp_path, name) for name in "abc")
    progress = progress_of(one, two, three, at_once=2)
    progress.begin(one), progress.begin(two)
    assert progress.left([one, two]) == 150
    progress.end(one, finished=False), progress.end(two, finished=False)
    progress.begin(three)
    assert progress.left([three]) == 100
    assert (progress.done, progress.failed) == (0, 2)


def test_continued_run_is_timed_from_where_it_stood(tmp_path, clock):
    one = job_in(tmp_path, "a")
    wrote(one, 8.0)
    progress = progress_of(one, at_once=1)
    progress.begin(one)
    assert progress.left([one]) == pytest.approx(20)
    clock.now += 30
    wrote(one, 9.0)
    assert progress.left([one]) == pytest.approx(30 + ENDING)
    clock.now += 30
    wrote(one, 10.0)
    assert progress.left([one]) == pytest.approx(ENDING), "trained, without figures and report"
    clock.now += 100
    assert progress.left([one]) == 1, "never none"


def test_what_follows_the_last_epoch_is_learnt_from_whole_runs(tmp_path, clock):
    one, two, three = (job_in(tmp_path, name) for name in "abc")
    wrote(one, 10.0)
    progress = progress_of(one, two, three, at_once=1)
    progress.begin(one)
    assert progress.left([one]) == pytest.approx(ENDING + 200)
    clock.now += 27
    progress.end(one, finished=True)
    assert progress.left([]) == pytest.approx(200), "a run that was trained before says nothing of whole runs"
    progress.begin(two)
    clock.now += 100
    wrote(two, 10.0)
    assert progress.left([two]) == pytest.approx(27 + 100)
    clock.now += 50
    progress.end(two, finished=True)
    assert progress.left([]) == pytest.approx(150)
    progress.begin(three)
    wrote(three, 10.0)
    assert progress.left([three]) == pytest.approx((27 + 50) / 2)


def test_text_says_what_runs(tmp_path, clock):
    one, two = job_in(tmp_path, "a"), job_in(tmp_path, "b")
    progress = progress_of(one, two, at_once=2)
    progress.begin(one), progress.begin(two)
    wrote(one, 2.5, val=61.25, cut='{"half a li')
    assert progress.text([one, two]).endswith("; a: epoch 3 of 10, val 61.2 %, 120 images/s; b: starting")
    progress.board([one, two])


@pytest.mark.parametrize("text", ["", "\n", "[]\n", "null\n", "\0\0\n", "{\n", '"text"\n'])
def test_half_written_records_are_no_progress(tmp_path, clock, text):
    one = job_in(tmp_path, "a")
    (one.path / "steps.jsonl").write_text(text)
    progress = progress_of(one, at_once=1)
    progress.begin(one)
    assert progress.text([one]).endswith("a: starting")
