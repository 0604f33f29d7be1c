"""The choice of precision and memory format: what is timed, for how long, and what is remembered."""

import json

import pytest
import torch
from torch import nn

from fieldmark.core.console import Console
from fieldmark.models import fastest
from fieldmark.models.fastest import choose_execution

CPU = torch.device("cpu")


class Timed:
    """Stands in for the runner: speeds are given, and steps take time on a clock of the test's."""

    speeds: dict[str, float]
    now = 0.0
    steps: list[tuple[str, int]]

    def __init__(self, execution, _model, _size, _advance):
        self.execution, self.seconds_per_image = execution, []

    @property
    def speed(self):
        return 1 / self.seconds_per_image[-1]

    def time(self, images):
        self.seconds_per_image.append(self.step(images) / images)

    def step(self, images):
        seconds = images / Timed.speeds[str(self.execution)]
        Timed.now += seconds
        Timed.steps.append((str(self.execution), images))
        return seconds


class Quiet:
    used = 0.0

    def cores(self):
        return Quiet.used


@pytest.fixture
def choose(monkeypatch, tmp_path):
    monkeypatch.setattr(fastest, "_Runner", Timed)
    monkeypatch.setattr(fastest, "OtherPrograms", Quiet)
    monkeypatch.setattr(fastest.time, "perf_counter", lambda: Timed.now)
    monkeypatch.setattr(fastest, "computes_bfloat16", lambda: True)
    Timed.now, Timed.steps, Quiet.used = 0.0, [], 0.0

    def chosen(speeds, precision="auto", layout="auto", batch=64, images=1000):
        order = ("bfloat16 channels-last", "bfloat16 contiguous", "float32 channels-last", "float32 contiguous")
        Timed.speeds, Timed.steps, Timed.now = dict(zip(order, speeds, strict=True)), [], 0.0
        return choose_execution(nn.Identity(), 32, batch, images, CPU, precision, layout, tmp_path, "net", Console(quiet=True))

    return chosen


def test_the_fastest_is_chosen(choose):
    choice = choose((90, 120, 100, 80))
    assert str(choice.execution) == "bfloat16 contiguous" and choice.speeds["float32 contiguous"] == pytest.approx(80)


def test_bfloat16_is_never_timed_if_the_processor_does_not_compute_it(choose, monkeypatch):
    monkeypatch.setattr(fastest, "computes_bfloat16", lambda: False)
    choice = choose((900, 900, 70, 80))
    assert str(choice.execution) == "float32 contiguous" and {name for name, _ in Timed.steps} == set(choice.speeds)
    assert not any("bfloat16" in name for name in choice.speeds)


def test_nothing_is_timed_if_nothing_is_open(choose):
    choice = choose((1, 1, 1, 1), precision="float32", layout="contiguous")
    assert str(choice.execution) == "float32 contiguous" and not choice.speeds and not Timed.steps


def test_a_candidate_far_behind_is_timed_on_two_images_only(choose):
    choose((100, 10, 90, 80))
    assert max(images for name, images in Timed.steps if name == "bfloat16 contiguous") == 2
    assert max(images for name, images in Timed.steps if name == "float32 channels-last") > 2


@pytest.mark.parametrize("speed", [1, 5, 20, 100, 1000, 50_000])
@pytest.mark.parametrize("images", [100, 100_000])
def test_it_takes_five_seconds_or_one_per_cent_of_the_training(speed, images, choose):
    choose((speed, speed, speed, speed), images=images)
    first_steps = 4 * 2 * 2 / speed
    assert Timed.now <= max(5.0, 0.01 * images / speed) + first_steps + 1e-6


def test_what_was_measured_is_remembered(choose):
    first = choose((90, 120, 100, 80))
    again = choose((1, 1, 1, 1))
    assert not Timed.steps and again == first


def test_what_was_measured_next_to_other_work_is_not(choose):
    Quiet.used = 1.0
    choose((90, 120, 100, 80))
    Quiet.used = 0.0
    assert str(choose((80, 90, 130, 100)).execution) == "float32 channels-last"


def test_machines_are_told_apart_by_what_their_processors_can_do(choose, monkeypatch):
    choose((90, 120, 100, 80))
    monkeypatch.setattr(fastest, "instruction_sets", lambda: frozenset({"avx2"}))
    choose((80, 90, 130, 100))
    assert Timed.steps


def test_a_damaged_memory_is_measured_again(choose, tmp_path):
    choose((90, 120, 100, 80))
    (stored,) = (tmp_path / "execution").iterdir()
    for damage in ("", "[]", '{"a": "b"}', "{", json.dumps({"float32 contiguous": 3})):
        stored.write_text(damage)
        assert str(choose((90, 120, 100, 80)).execution) == "bfloat16 contiguous" and Timed.steps


def test_measuring_leaves_the_model_and_the_random_numbers_as_they_were(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    choice = choose_execution(model, 16, 8, 100, CPU, "float32", "auto", tmp_path, "net", Console(quiet=True))
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert set(choice.speeds) == {"float32 channels-last", "float32 contiguous"} and min(choice.speeds.values()) > 0
