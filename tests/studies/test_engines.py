import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import all_ended, until

from fieldmark.core.console import Console
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.studies import engines as module
from fieldmark.studies import worker_process
from fieldmark.studies.engines import Job, LocalEngine, default_jobs
from fieldmark.studies.tasks import MeasureTask
from fieldmark.studies.worker_process import WorkerProcess
from fieldmark.training.train import train_run


def lines_of(job):
    return len(read_json_lines(job.path / "metrics.jsonl"))


def job_of(birds, tiny, path, *settings, data=None):
    return Job(path.name, str(data or birds), load_recipe("default", tiny(*settings)), path)


def test_jobs_train_side_by_side_as_they_would_alone(birds, tiny, tmp_path):
    engine = LocalEngine(2)
    jobs = [job_of(birds, tiny, tmp_path / "one"), job_of(birds, tiny, tmp_path / "two", "train.seed=1")]
    broken = job_of(birds, tiny, tmp_path / "broken", data=tmp_path / "nowhere")
    with engine:
        for job in jobs:
            engine.start(job)
        assert engine.free == 0 and engine.running == tuple(jobs)
        assert all_ended(engine) == {"one": None, "two": None}
        assert engine.free == 2
        engine.start(broken)
        (reason,) = all_ended(engine).values()
    assert "nowhere" in reason and "Traceback" not in reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    alone = train_run(birds, jobs[0].recipe, tmp_path / "alone", Console(quiet=True))
    assert alone.folder.best_weights.read_bytes() == RunFolder(tmp_path / "one").best_weights.read_bytes()
    assert (tmp_path / "one" / "report.html").is_file() and (tmp_path / "one" / "figures" / "curves.png").is_file()


def test_stopped_and_killed_jobs_say_so_and_can_be_continued(birds, tiny, tmp_path):
    job = job_of(birds, tiny, tmp_path / "run", "train.epochs=300")
    with LocalEngine(1) as engine:
        engine.start(job)
        until(lambda: (job.path / "metrics.jsonl").is_file())
        engine.stop(job)
        assert all_ended(engine) == {"run": "stopped"}
        assert RunFolder(job.path).manifest().status == "interrupted"
        epochs = lines_of(job)
        engine.start(job)
        until(lambda: lines_of(job) > epochs)
        engine._workers[job].process.kill()
        assert all_ended(engine) == {"run": "the process was killed by signal 9 (out of memory?)"}
        epochs = lines_of(job)
        engine.start(job)
        until(lambda: lines_of(job) > epochs)
    assert not engine.running
    assert RunFolder(job.path).manifest().status == "interrupted"


def test_worker_dies_with_whoever_started_it(birds, tiny, tmp_path):
    task = job_of(birds, tiny, tmp_path / "run", "train.epochs=500").task(threads=1)
    code = """
import sys, time
from fieldmark.studies.tasks import read_task
from fieldmark.studies.worker_process import WorkerProcess
worker = WorkerProcess.start(read_task(sys.argv[1].encode()))
print(worker.process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code, task.model_dump_json()], stdout=subprocess.PIPE)
    worker = int(parent.stdout.readline())
    until(lambda: (tmp_path / "run" / "metrics.jsonl").is_file())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE, 20)
    assert RunFolder(tmp_path / "run").manifest().status == "interrupted"


def test_no_file_of_the_current_folder_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the user was executed')")
    worker = WorkerProcess.start(MeasureTask(data="nowhere", recipes=(load_recipe(),)))
    assert list(worker.lines) == []
    failure = worker.end()
    assert "there is no file or folder" in failure.text and "user" not in failure.text


def test_folder_of_another_run_is_left_alone(birds, tiny, tmp_path):
    job = job_of(birds, tiny, tmp_path / "run")
    train_run(birds, job.recipe, job.path, Console(quiet=True))
    before = sorted((path, path.stat().st_mtime_ns) for path in job.path.rglob("*") if path.name != ".lock")
    with LocalEngine(1) as engine:
        engine.start(job_of(birds, tiny, tmp_path / "run", "train.seed=1"))
        (reason,) = all_ended(engine).values()
        assert "holds another run, with another recipe or seed" in reason
        assert sorted((path, path.stat().st_mtime_ns) for path in job.path.rglob("*") if path.name != ".lock") == before
        engine.start(job)
        assert all_ended(engine) == {"run": None}
    assert (job.path / "report.html").is_file(), "what a kill left out between the last epoch and the report is made up for"


def test_each_run_has_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 16)
    assert [LocalEngine(jobs).threads for jobs in (1, 3, 16, 40)] == [16, 5, 1, 1]
    assert 1 <= default_jobs() <= 16
    recipe = load_recipe("default", ["train.threads=3"])
    for given, threads in ((recipe, 3), (load_recipe("default"), 5)):
        assert Job("a", "birds", given, Path("a")).task(5).recipe.train.threads == threads


@pytest.mark.parametrize(
    ("visible", "count", "wanted"),
    [
        (None, 0, [None] * 3),
        (None, 1, [None] * 3),
        (None, 2, ["0", "1", "0"]),
        ("2,5", 2, ["2", "5", "2"]),
        ("3", 1, [None] * 3),
        ("", 0, [None] * 3),
    ],
)
def test_runs_take_turns_with_the_gpus(monkeypatch, visible, count, wanted):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [worker_process._own_gpu(slot).get("CUDA_VISIBLE_DEVICES") for slot in range(3)] == wanted
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
