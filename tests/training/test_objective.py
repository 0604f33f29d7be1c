"""An objective owns the forward pass, the loss and the labels of mixed images."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fieldmark.batches.train_batches import Batch
from fieldmark.core.recipe.loss import CrossEntropy
from fieldmark.models.execution import Execution
from fieldmark.training.objective import Classification, Network, correct

FLOAT32 = Execution(torch.device("cpu"), "float32", "contiguous")
BFLOAT16 = Execution(torch.device("cpu"), "bfloat16", "contiguous")


def test_the_network_runs_in_the_precision_of_the_run():
    layer = nn.Linear(4, 3)
    for execution in (FLOAT32, BFLOAT16):
        network = Network(lambda images: (layer(images), images), execution)
        assert network(torch.ones(2, 4)).dtype == network.with_features(torch.ones(2, 4))[0].dtype == execution.dtype


def test_classification_is_the_loss_on_the_logits_and_counts_what_is_right():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], requires_grad=True)
    outcome = Classification(CrossEntropy())(Network(lambda _: (logits, logits), FLOAT32), Batch(torch.ones(3, 1), torch.tensor([0, 1, 1])))
    assert outcome.loss.item() == pytest.approx(F.cross_entropy(logits, torch.tensor([0, 1, 1])).item())
    assert outcome.loss.requires_grad and not outcome.correct.requires_grad and outcome.correct == 2


def test_a_mixed_image_counts_the_weight_of_the_predicted_label():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    first, second, shares = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]), torch.tensor([0.75, 0.75, 0.75])
    assert correct(logits, Batch(logits, first, second, shares)).item() == 0.75 + 0.25  # the third is neither
