"""OpenMP's threads sleep while others want the processor, without any effect on results."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from fieldmark.models import other_programs, spinning
from fieldmark.models.other_programs import OtherPrograms
from fieldmark.models.spinning import spin_only_if_idle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is PyTorch's on Linux")


class Load:
    """Stands in for OtherPrograms."""

    used = 0.0

    def cores(self):
        return self.used


@contextmanager
def watching(monkeypatch):
    """The block in which it is watched, with a load that the test decides and is looked at often."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(spinning, "_FIRST_LOOK", 0.01)
    monkeypatch.setattr(spinning, "_LOOK_EVERY", 0.01)
    load = Load()
    monkeypatch.setattr(spinning, "OtherPrograms", lambda: load)
    with spin_only_if_idle():
        yield load


def threads(name):
    return [thread for thread in threading.enumerate() if thread.name == f"fieldmark-{name}"]


def within(seconds, true):
    ends = time.monotonic() + seconds
    while not true() and time.monotonic() < ends:
        time.sleep(0.01)
    return true()


def test_idle_threads_are_kept_while_others_are_busy_and_only_then(monkeypatch):
    with watching(monkeypatch) as load:
        time.sleep(0.1)
        assert threads("spinning") and not threads("idle-threads")
        load.used = 1.0
        assert within(60, lambda: threads("idle-threads"))
        load.used = 0.0
        assert within(60, lambda: not threads("idle-threads"))
        load.used = 1.0
        assert within(60, lambda: threads("idle-threads"))
    assert not threads("idle-threads") and not threads("spinning")


def test_a_load_between_the_limits_changes_nothing(monkeypatch):
    with watching(monkeypatch) as load:
        load.used = 0.2
        time.sleep(0.3)
        assert not threads("idle-threads")
        load.used = 1.0
        assert within(60, lambda: threads("idle-threads"))
        load.used = 0.2
        time.sleep(0.3)
        assert threads("idle-threads")


def test_blocks_may_be_nested(monkeypatch):
    with watching(monkeypatch):
        with spin_only_if_idle():
            assert len(threads("spinning")) == 1
        assert len(threads("spinning")) == 1
    assert not threads("spinning")


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_decided_stays(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    with spin_only_if_idle():
        assert not threads("spinning")


def test_results_are_the_same_bits(monkeypatch):
    def result():
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(700, 700, generator=generator) for _ in range(2))
        return (a @ b).softmax(1).sum(0).cumsum(0)

    alone = result()
    with watching(monkeypatch) as load:
        load.used = 1.0
        assert within(60, lambda: threads("idle-threads"))
        assert torch.equal(result(), alone)


def test_the_cores_of_a_busy_program_are_measured_and_those_of_this_process_are_not():
    others = OtherPrograms()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(1.0)
            with_busy = others.cores()
        finally:
            busy.kill()
    assert with_busy > 0.3


def test_what_others_use_is_what_is_neither_idle_nor_ours(monkeypatch):
    clock = iter([(0.0, 0.0), (10.0, 12.0), (20.0, 32.0), (20.0, 32.0)])
    monkeypatch.setattr(other_programs, "_now", lambda: next(clock))
    monkeypatch.setattr(other_programs, "available_cores", lambda: 2)
    others = OtherPrograms()
    assert others.cores() == pytest.approx(0.8)  # of 2 cores, 1.2 were idle or ours
    assert others.cores() == 0.0
    assert others.cores() == 0.0  # no time has passed
