import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.schema import Constant, Cosine
from fieldmark.training.schedule import factor


@given(st.integers(2, 40), st.integers(2, 30), st.floats(0, 0.5))
def test_cosine_agrees_with_torch(steps, epochs, floor):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps * epochs - 1, eta_min=floor)
    schedule = Cosine(warmup_epochs=0.0, floor_factor=floor)
    for step in range(steps * epochs):
        assert factor(schedule, step, steps, epochs) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("kind", [Cosine, Constant])
def test_warmup_agrees_with_torch(kind):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=20)
    schedule = kind(warmup_epochs=2.0, warmup_factor=0.01)
    for step in range(20):
        assert factor(schedule, step, 10, 30) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert factor(schedule, 20, 10, 30) == pytest.approx(1.0)


def test_the_ends():
    schedule = Cosine(warmup_epochs=1.0, floor_factor=0.1)
    assert factor(schedule, 299, 10, 30) == pytest.approx(0.1)
    assert factor(schedule, 10, 10, 30) == 1.0
    assert factor(Constant(), 0, 10, 30) == factor(Constant(), 299, 10, 30) == 1.0
