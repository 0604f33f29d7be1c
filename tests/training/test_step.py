"""A step owns backward, accumulation, clipping and the optimiser."""

import pytest
import torch
from torch import nn

from fieldmark.batches.train_batches import Batch
from fieldmark.models.execution import Execution
from fieldmark.training.objective import Network, Outcome
from fieldmark.training.step import Step

FLOAT32 = Execution(torch.device("cpu"), "float32", "contiguous")


def squared(network, batch):
    """An objective of its own: the mean square of the outputs."""
    return Outcome((network(batch.images) ** 2).mean(), (batch.labels == 0).sum())


def stepped(micro_batch=None, clip_norm=None):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = [each.detach().clone() for each in layer.parameters()]
    network = Network(lambda images: (layer(images), images), FLOAT32)
    step = Step(network, squared, optimizer, tuple(layer.parameters()), micro_batch, clip_norm)
    result = step(Batch(torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 0])))
    assert all(each.grad is None for each in layer.parameters())
    change = torch.cat([(old - new.detach()).flatten() for old, new in zip(before, layer.parameters(), strict=True)])
    return result, change


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4])
def test_gradients_of_parts_add_up_to_those_of_the_batch(micro_batch):
    (whole, expected), (parts, change) = stepped(), stepped(micro_batch)
    torch.testing.assert_close(change, expected)
    assert parts.loss.item() == pytest.approx(whole.loss.item()) and parts.correct == whole.correct == 3 and parts.images == 5
    assert not parts.loss.requires_grad


def test_the_norm_of_the_gradient_is_limited():
    _, free = stepped()
    _, clipped = stepped(clip_norm=0.1)
    assert free.norm() > 0.2 and clipped.norm().item() == pytest.approx(0.1, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())
