import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import all_ended, until

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.studies import ray_engine as module
from fieldmark.studies.engines import RUN_BYTES, Job, LocalEngine, open_engine
from fieldmark.studies.ray_engine import Node, RayEngine, Share, _train, shares

GIB = 2.0**30


def epochs_of(job):
    return len(read_json_lines(job.path / "metrics.jsonl"))


def status_of(job):
    return RunFolder(job.path).manifest().status


def workers(parent=None):
    """The processes of trainings below `parent`, by default this one."""
    below = (parent or psutil.Process()).children(recursive=True)
    return [each for each in below if each.status() != psutil.STATUS_ZOMBIE and "fieldmark.studies.worker" in each.cmdline()]


def ended(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def job_of(data, tiny, path, *settings):
    return Job(path.name, str(data), load_recipe("default", tiny(*settings)), path)


# ---- without a cluster ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "jobs", "most", "wanted"),
    [
        ([Node(8, 0, 64 * GIB)], None, 100, Share(8, 1, 0)),
        ([Node(8, 0, 64 * GIB)], None, 3, Share(3, 2, 0)),
        ([Node(8, 0, 64 * GIB)], 2, 100, Share(2, 4, 0)),
        ([Node(8, 0, 7 * GIB)], None, 100, Share(2, 4, 0)),  # memory for two
        ([Node(8, 0, 7 * GIB)], 4, 100, Share(4, 2, 0)),  # the user knows better
        ([Node(2, 0, 64 * GIB)], 6, 100, Share(6, 1, 0)),  # four wait
        ([Node(8, 0, 64 * GIB), Node(4, 0, 64 * GIB)], None, 100, Share(12, 1, 0)),
        ([Node(8, 0, 64 * GIB), Node(4, 0, 64 * GIB)], 3, 100, Share(3, 4, 0)),
        ([Node(16, 4, 64 * GIB)], None, 100, Share(4, 4, 1)),
        ([Node(16, 4, 64 * GIB)], 1, 100, Share(1, 4, 1)),
        ([Node(16, 4, 64 * GIB), Node(6, 2, 64 * GIB), Node(64, 0, 64 * GIB)], None, 100, Share(6, 3, 1)),
        ([Node(0, 2, 64 * GIB)], None, 100, Share(2, 0, 1)),
        ([Node(0, 0, 64 * GIB)], None, 100, Share(1, 1, 0)),  # machines come when they are asked for
        ([], 5, 4, Share(4, 1, 0)),
    ],
)
def test_what_each_training_gets(nodes, jobs, most, wanted):
    assert shares(nodes, jobs, most) == wanted


machines = st.lists(st.builds(Node, st.integers(0, 64), st.integers(0, 8), st.floats(0, 512 * GIB)), max_size=5)


@given(machines, st.none() | st.integers(1, 200), st.integers(1, 200))
def test_trainings_fit_on_the_machines_and_leave_nothing_that_all_could_have(nodes, jobs, most):
    share = shares(nodes, jobs, most)
    assert 1 <= share.jobs <= min(jobs or most, most)
    if share.gpus:
        assert jobs or share.jobs == min(sum(node.gpus for node in nodes), most)
        assert all(node.gpus * share.cpus <= node.cpus for node in nodes if node.gpus)
    else:
        assert not any(node.gpus for node in nodes)
        fit = [sum(node.cpus // cpus for node in nodes) for cpus in (share.cpus, share.cpus + 1)]
        assert fit[1] < share.jobs and (fit[0] >= share.jobs or share.cpus == 1)
        if jobs is None and share.jobs > max(len(nodes), 1):
            assert sum(node.memory for node in nodes) >= (share.jobs - len(nodes)) * RUN_BYTES


@given(st.integers(1, 128), st.integers(1, 200))
def test_one_machine_is_shared_as_local_jobs_share_it(cores, jobs):
    assert shares([Node(cores, 0, 0.0)], jobs, 200).cpus == max(1, cores // jobs)


def test_without_ray_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'fieldmark\[ray\]'"):
        open_engine("ray", None, 3)
    engine = open_engine("local", 5, 3)
    assert isinstance(engine, LocalEngine) and engine.jobs == 3


def test_machine_that_does_not_share_the_folder_says_so(birds, tiny, tmp_path):
    job = job_of(birds, tiny, tmp_path / "elsewhere" / "run")
    failure = _train(job.task(1), str(tmp_path))
    assert f"no folder {tmp_path / 'elsewhere'}" in failure.text and "all machines of the cluster share" in failure.text
    assert failure.kind == "machine"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no such address"])
def test_cluster_that_is_not_there(monkeypatch, address):
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_ADDRESS", address)
    begun, handler = time.monotonic(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match=f"RAY_ADDRESS={address}: .*\n.*unset it to use this machine alone"):
        RayEngine(None, 1)
    assert time.monotonic() - begun < 30
    assert signal.getsignal(signal.SIGTERM) is handler


def test_last_line_of_a_traceback_is_what_happened():
    assert module._why(RuntimeError("ray::_train() (pid=3, ip=1.2.3.4)\n  File x\nModuleNotFoundError: No module named 'fieldmark'\n")) == (
        "ModuleNotFoundError: No module named 'fieldmark'"
    )
    assert module._why(RuntimeError("The worker died.\nSee the logs.")) == "The worker died."
    assert module._why(RuntimeError()) == "RuntimeError"


# ---- with a cluster ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """A small cluster that this process has joined; gives its address."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home of the user
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
            patch.delenv(name, raising=False)
        handler = signal.getsignal(signal.SIGTERM)
        context = ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100_000_000,
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)


@pytest.mark.slow
def test_tasks_train_as_local_processes_do(cluster, birds, tiny, tmp_path):
    def work(engine, folder):
        jobs = [job_of(birds, tiny, folder / "one"), job_of(birds, tiny, folder / "two", "train.seed=1")]
        with engine:
            for job in jobs:
                engine.start(job)
            assert engine.free == 0 and engine.running == tuple(jobs)
            reasons = all_ended(engine)
            assert engine.free == 2
            engine.start(job_of(birds.parent / "nowhere", tiny, folder / "broken"))
            reasons |= all_ended(engine)
        return reasons, {job.name: RunFolder(job.path).best_weights.read_bytes() for job in jobs}

    engine = open_engine("ray", 2, 9)
    assert (engine.jobs, engine.threads) == (2, 1)
    reasons, weights = work(engine, tmp_path / "ray")
    assert reasons["one"] is None and reasons["two"] is None and "nowhere" in reasons["broken"]
    assert sorted(path.name for path in (tmp_path / "ray").iterdir()) == ["one", "two"]
    assert weights["one"] != weights["two"]
    assert (reasons, weights) == work(LocalEngine(2), tmp_path / "local")


@pytest.mark.slow
def test_stopped_and_killed_jobs_say_so_and_can_be_continued(cluster, birds, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = (job_of(birds, tiny, Path(name), "train.epochs=400") for name in ("one", "two"))  # relative, where the workers are not
    waiting = job_of(birds, tiny, Path("waiting"))
    with RayEngine(3, 9) as engine:
        for job in (one, two):
            engine.start(job)
        until(lambda: epochs_of(one) and epochs_of(two))
        engine.start(waiting)
        engine.stop(waiting)
        engine.stop(one)
        reasons = {}
        until(lambda: reasons.update({each.job.name: each.reason for each in engine.ended()}) or len(reasons) == 2)
        assert reasons == {"one": "stopped", "waiting": "stopped"}
        assert status_of(one) == "interrupted" and engine.running == (two,) and not waiting.path.exists()

        (worker,) = workers()
        worker.kill()
        assert all_ended(engine) == {"two": "the process was killed by signal 9 (out of memory?)"}

        before = epochs_of(one), epochs_of(two)
        for job in (one, two):
            engine.start(job)
        until(lambda: epochs_of(one) > before[0] and epochs_of(two) > before[1])
        victim, left = workers()
        victim.parent().kill()  # Ray's own process
        found = []
        until(lambda: found.extend(engine.ended()) or found)
        assert [each.reason.startswith("Ray: The worker died") for each in found] == [True] and len(engine.running) == 1
        until(lambda: ended(victim))
        assert not ended(left)
    assert not engine.running and ended(left)
    assert status_of(one) == status_of(two) == "interrupted"
    assert not list(tmp_path.glob("*.err"))


DRIVER = """
import sys, time
from pathlib import Path
from fieldmark.core.recipe.load import load_recipe
from fieldmark.studies.engines import Job, open_engine

if __name__ == "__main__":
    data, path, *settings = sys.argv[1:]
    with open_engine("ray", None, 1) as engine:
        engine.start(Job("run", data, load_recipe("default", settings), Path(path)))
        while engine.running:
            for ended in engine.ended():
                print(ended.job.name, ended.reason)
            time.sleep(0.1)
"""


def driver(data, path, settings, **environment):
    given = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment = given | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} | environment
    command = [sys.executable, "-c", DRIVER, str(data), str(path), *settings]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["its own", "one that runs"])
def test_cluster_is_joined_quietly_and_stopped_where_it_was_started(request, birds, tiny, tmp_path, where):
    pytest.importorskip("ray", reason="Ray is not installed")
    environment = {}
    if where == "one that runs":
        environment = {"RAY_ADDRESS": request.getfixturevalue("cluster"), "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
    process = driver(birds, tmp_path / "run", tiny(), **environment)
    until(lambda: (tmp_path / "run").is_dir())
    below = psutil.Process(process.pid).children(recursive=True)
    assert ("raylet" in [each.name() for each in below]) == (where == "its own")
    assert process.communicate() == ("run None\n", "") and process.returncode == 0
    until(lambda: all(ended(each) for each in below), 60)
    if environment:
        import ray

        assert ray.get(ray.remote(lambda: 3).remote()) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, True)])
def test_trainings_save_their_state_and_end_with_whoever_started_the_cluster(birds, tiny, tmp_path, number, to_all):
    pytest.importorskip("ray", reason="Ray is not installed")
    job = job_of(birds, tiny, tmp_path / "run", "train.epochs=900")
    process = driver(birds, job.path, tiny("train.epochs=900"))
    until(lambda: epochs_of(job))
    (worker,) = workers(psutil.Process(process.pid))
    (os.killpg if to_all else os.kill)(process.pid, number)
    process.communicate()
    until(lambda: ended(worker), 60)
    assert process.returncode == -number
    assert status_of(job) == "interrupted"
