"""Every schedule against PyTorch's own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.fields import choices
from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.schedule import Constant, Cosine, MultiStep, OneCycle, Plateau, Polynomial, Step
from fieldmark.training.schedule import factor


def theirs(steps, scheduler, each=1):
    """The factors that a scheduler of PyTorch gives for `steps` steps; it is asked once every `each` of them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = scheduler(optimizer)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % each == 0 and step + 1 < steps:
            schedule.step()
    return found


def ours(schedule, steps, epochs):
    return [factor(schedule, step, steps, epochs) for step in range(steps * epochs)]


@given(st.integers(2, 40), st.integers(2, 30), st.floats(0, 0.5))
def test_cosine(steps, epochs, floor):
    expected = theirs(steps * epochs, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps * epochs - 1, eta_min=floor))
    assert ours(Cosine(warmup_epochs=0.0, floor_factor=floor), steps, epochs) == pytest.approx(expected, abs=1e-9)


@given(st.integers(2, 40), st.integers(2, 30), st.floats(0.2, 4))
def test_polynomial(steps, epochs, power):
    expected = theirs(steps * epochs, lambda optimizer: lr_scheduler.PolynomialLR(optimizer, total_iters=steps * epochs - 1, power=power))
    assert ours(Polynomial(power=power), steps, epochs) == pytest.approx(expected, abs=1e-6)
    with_floor = ours(Polynomial(power=power, floor_factor=0.2), steps, epochs)
    assert with_floor == pytest.approx([0.2 + 0.8 * value for value in expected], abs=1e-6)


@given(st.integers(1, 10), st.integers(2, 30), st.integers(1, 12), st.floats(0.1, 0.99))
def test_step(steps, epochs, every, gamma):
    expected = theirs(steps * epochs, lambda optimizer: lr_scheduler.StepLR(optimizer, every, gamma), each=steps)
    assert ours(Step(every=every, gamma=gamma), steps, epochs) == pytest.approx(expected)


@given(st.integers(1, 10), st.integers(2, 30), st.sets(st.integers(1, 40), min_size=1, max_size=5), st.floats(0.1, 0.99))
def test_multi_step(steps, epochs, after, gamma):
    expected = theirs(steps * epochs, lambda optimizer: lr_scheduler.MultiStepLR(optimizer, sorted(after), gamma), each=steps)
    assert ours(MultiStep(after=tuple(sorted(after)), gamma=gamma), steps, epochs) == pytest.approx(expected)


@given(st.integers(2, 40), st.integers(2, 30), st.floats(0.1, 0.9), st.floats(1e-3, 0.5), st.floats(1e-6, 0.5))
def test_one_cycle(steps, epochs, rise, start, end):
    total = steps * epochs
    if rise * total <= 1.5:  # no step below the peak: PyTorch divides by zero
        rise = 2 / total
    if rise * total > total - 1:
        return

    def scheduler(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer, 1.0, total, pct_start=rise, cycle_momentum=False, div_factor=1 / start, final_div_factor=start / end
        )

    found = ours(OneCycle(rise=rise, start_factor=start, floor_factor=end), steps, epochs)
    assert found == pytest.approx(theirs(total, scheduler), abs=1e-9)


def test_one_cycle_without_a_step_to_rise_in_begins_at_the_peak():
    found = ours(OneCycle(rise=0.01), 2, 3)
    assert found[0] == 1.0 and found == sorted(found, reverse=True) and found[-1] == pytest.approx(4e-6)


WITH_WARMUP = [Cosine, Constant, Step, MultiStep, Plateau, Polynomial]


@pytest.mark.parametrize("kind", WITH_WARMUP)
def test_warmup(kind):
    expected = theirs(21, lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=20))
    found = [factor(kind(warmup_epochs=2.0, warmup_factor=0.01), step, 10, 30) for step in range(21)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Cosine, Polynomial])
def test_after_the_warmup_the_curve_runs_over_what_remains(kind):
    warmed, plain = kind(warmup_epochs=2.0), kind(warmup_epochs=0.0)
    assert ours(warmed, 10, 30)[20:] == pytest.approx(ours(plain, 10, 28), abs=1e-12)


@pytest.mark.parametrize("kind", [Step, MultiStep])
def test_steps_count_the_epochs_of_the_warmup(kind):
    assert ours(kind(warmup_epochs=2.0), 10, 40)[20:] == ours(kind(warmup_epochs=0.0), 10, 40)[20:]


@pytest.mark.parametrize("kind", WITH_WARMUP)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 5))
def test_a_factor_is_between_nothing_and_the_peak(kind, steps, epochs, warmup):
    found = ours(kind(warmup_epochs=warmup), steps, epochs)
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in found)


@given(st.lists(st.floats(0.1, 1.0), min_size=1, max_size=40), st.integers(0, 4), st.floats(0.1, 0.9), st.floats(0, 0.3))
def test_plateau(figures, patience, gamma, floor):
    """The drops are counted as the loop counts them; the rates then are PyTorch's."""
    from fieldmark.training.monitor import drops, note_plateau
    from fieldmark.training.position import Position

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(optimizer, "min", gamma, patience, threshold=0.0, min_lr=floor, eps=0.0)
    schedule = Plateau(monitor="nll", patience=patience, gamma=gamma, floor_factor=floor)
    position, recipe = Position(), recipe_from({"train": {"epochs": 60}}).model_copy(update={"schedule": schedule})
    for epoch, value in enumerate(figures):
        position.epoch = epoch
        assert factor(schedule, epoch * 3, 3, 60, drops(position, recipe)) == pytest.approx(optimizer.param_groups[0]["lr"])
        note_plateau(position, recipe, {"nll": value})
        reference.step(value)


def test_every_schedule_is_tested_here():
    names = {kind.model_fields["name"].default for kind in [*WITH_WARMUP, OneCycle]}
    assert names == set(choices()["schedule"].variants)


def test_stretches_follow_the_stages():
    recipe = recipe_from(
        {"train": {"epochs": 10}, "stages": [{"epochs": 2}, {"epochs": 3, "restart": False}, {}], "schedule": {"warmup_epochs": 1}}
    )
    assert isinstance(recipe, Recipe) and recipe.schedule_spans() == ((0, 5), (5, 5))
    with pytest.raises(InputError, match="leaves nothing of a stage"):
        recipe_from({"train": {"epochs": 10}, "stages": [{"epochs": 1}, {}], "schedule": {"warmup_epochs": 1}})
