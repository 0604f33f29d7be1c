"""The running figures of an epoch, and what becomes of them when it is interrupted."""

import math

import pytest
import torch

from fieldmark.core.errors import TrainingFailed
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.meter import Meter
from fieldmark.training.position import Position
from fieldmark.training.step import StepResult


def result(images, loss, correct):
    return StepResult(images, torch.tensor(loss), torch.tensor(correct, dtype=torch.float64))


def metered(at, tmp_path, *results):
    meter = Meter(at, Checkpoints(tmp_path, 1), torch.device("cpu"))
    for each in results:
        at.advance(each.images)
        meter.add(each, 0.1)
    return meter


def test_means_are_over_images_and_go_on_where_an_interrupted_epoch_stood(tmp_path):
    steps = result(4, 1.0, 1.0), result(4, 2.0, 2.5), result(2, 5.0, 2.0)
    whole, first = Position(), Position()
    meter = metered(whole, tmp_path, *steps)
    assert meter.row() == {"train_loss": pytest.approx(2.2), "train_top1": pytest.approx(55)}
    metered(first, tmp_path, *steps[:1])
    resumed = Position(**vars(first))
    assert metered(resumed, tmp_path, *steps[1:]).row() == meter.row()
    assert (resumed.step, resumed.steps, resumed.samples) == (3, 3, 10) and resumed.epoch_seconds > first.epoch_seconds


def test_an_epoch_that_was_interrupted_after_its_last_step_has_its_row(tmp_path):
    at = Position()
    expected = metered(at, tmp_path, result(4, 1.0, 1.0)).row()
    resumed = Meter(at, Checkpoints(tmp_path, 1), torch.device("cpu"))
    resumed.settle()
    assert resumed.row() == expected


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_training(loss, tmp_path):
    with pytest.raises(TrainingFailed, match=r"the loss is not finite \((nan|inf)\), at a learning rate of 0\.1: epoch 1, step 2"):
        metered(Position(), tmp_path, result(4, 1.0, 1.0), result(4, loss, 0.0))
