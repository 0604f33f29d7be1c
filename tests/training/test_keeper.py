"""What is saved, when, and that it can be taken up again."""

import pytest
import torch
from torch import nn

from fieldmark.core.errors import Interrupted, TrainingFailed
from fieldmark.core.recipe.ema import ExponentialAverage, NoAverage
from fieldmark.training.average import Averaging
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.keeper import Keeper
from fieldmark.training.meter import Meter
from fieldmark.training.position import Position


def parts(folder, minutes=60.0, settings=None):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    averaging, interrupt = Averaging(settings or NoAverage(), model), Interrupt()
    return model, averaging, interrupt, Keeper(Checkpoints(folder, 2), model, optimizer, averaging, interrupt, minutes)


def after_step(keeper, at):
    keeper.after_step(at, Meter(at, keeper.checkpoints, torch.device("cpu")))


def test_it_saves_when_it_is_due_and_not_before(tmp_path):
    _, _, _, patient = parts(tmp_path / "patient")
    (tmp_path / "patient").mkdir()
    at = Position()
    at.advance(4)
    after_step(patient, at)
    assert patient.checkpoints.paths() == []
    (tmp_path / "eager").mkdir()
    _, _, _, eager = parts(tmp_path / "eager", minutes=0.0)
    after_step(eager, at)
    assert [path.name for path in eager.checkpoints.paths()] == ["step-00000001.pt"]


def test_it_saves_before_it_obeys_an_interrupt(tmp_path):
    _, _, interrupt, keeper = parts(tmp_path)
    interrupt.requested, at = True, Position(epoch=2)
    at.advance(4)
    with pytest.raises(Interrupted, match="stopped in epoch 3 after step 1; the state is saved"):
        after_step(keeper, at)
    assert len(keeper.checkpoints.paths()) == 1
    with pytest.raises(Interrupted, match="stopped after epoch 2"):
        keeper.after_epoch(at)


@pytest.mark.parametrize("settings", [NoAverage(), ExponentialAverage()], ids=["plain", "averaged"])
def test_what_was_saved_is_taken_up(settings, tmp_path):
    model, averaging, _, keeper = parts(tmp_path, settings=settings)
    averaging.after_step(1)
    keeper.save(Position(epoch=3, steps=7, best_epoch=2))
    other, _, _, fresh = parts(tmp_path, settings=settings)
    assert not torch.equal(other.weight, model.weight)
    state, damaged = fresh.checkpoints.newest()
    assert state is not None and not damaged and ("average" in state) == isinstance(settings, ExponentialAverage)
    assert fresh.restore(state) == Position(epoch=3, steps=7, best_epoch=2)
    assert torch.equal(other.weight, model.weight)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model, _, _, keeper = parts(tmp_path)
    keeper.save(Position(steps=1))
    nn.init.constant_(model.weight, torch.nan)
    with pytest.raises(TrainingFailed, match=r"a weight is not finite.*\n.*The last good state is step-00000001\.pt"):
        keeper.save(Position(steps=2))
    assert len(keeper.checkpoints.paths()) == 1
