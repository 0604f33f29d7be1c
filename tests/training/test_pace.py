"""A note when training becomes slow, and only then."""

import pytest

from fieldmark.training import pace
from fieldmark.training.pace import Pace


@pytest.fixture
def steps(monkeypatch):
    """A function that takes steps at a rate for some seconds, next to a load, and returns what was said."""
    clock = type("Clock", (), {"now": 0.0, "used": 0.0})
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(pace, "OtherPrograms", lambda: type("Others", (), {"cores": lambda self: clock.used})())
    monkeypatch.setattr(pace, "available_cores", lambda: 2)
    found = Pace()
    found.begin(0)

    def take(rate, seconds, used=0.0):
        clock.used, said = used, []
        for _ in range(round(seconds * 10)):
            clock.now += 0.1
            said.append(found.after_step(rate / 10))
        return [note for note in said if note]

    take.pace = found
    return take


def test_a_steady_pace_is_not_spoken_of(steps):
    assert steps(100, 60) == [] and steps(70, 60) == []


def test_a_pace_of_less_than_half_is_noted_once_with_its_cause(steps):
    steps(100, 20)
    (note,) = steps(26, 60, used=1.0)
    assert "26 images/s, where it was 100" in note and "other programs use 1.0 of 2 cores" in note


def test_it_is_noted_again_only_after_a_recovery(steps):
    steps(100, 20)
    assert len(steps(30, 20, used=1.0)) == 1 and steps(20, 20, used=1.0) == []
    assert steps(100, 20) == [] and len(steps(30, 20, used=1.0)) == 1


def test_a_cause_that_is_not_another_program_is_said_to_be_none(steps):
    steps(100, 20)
    (note,) = steps(30, 20)
    assert "heat" in note and "only 0.0 of 2 cores" in note


def test_training_that_begins_next_to_other_work_says_so_once(steps):
    (note,) = steps(40, 60, used=1.2)
    assert note.startswith("40 images/s: other programs use 1.2 of 2 cores")


def test_another_stage_has_a_pace_of_its_own(steps):
    steps(1000, 20)
    steps.pace.begin(1)
    assert steps(100, 20) == []


def test_what_happens_between_epochs_is_no_part_of_the_pace(steps, monkeypatch):
    steps(100, 20)
    now = pace.time.perf_counter() + 500
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now)
    steps.pace.begin(0)
    assert steps.pace.after_step(1) is None
