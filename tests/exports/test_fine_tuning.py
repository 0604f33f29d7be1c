import numpy as np
import pytest
import torch

from fieldmark.core.console import Console
from fieldmark.core.recipe.model import Model
from fieldmark.exports import fine_tuning
from fieldmark.exports.network import DeployedEnsemble, DeployedNetwork
from fieldmark.exports.rounding import rounding
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Mean

SEEN = Preprocess(32, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 3, 32, 32), np.uint8)


def network(name: str = "test_efficientnet", seed: int = 0) -> DeployedNetwork:
    return DeployedNetwork(build_model(Model(name=name, weights="none"), 4, 32, seed=seed).model, SEEN).eval()


def tuned(given):
    return fine_tuning.fine_tuned(given, given, IMAGES, 10**9, Console(quiet=True))


@torch.no_grad()
def error(found, wanted) -> float:
    """Of logits in rounded numbers, against those in float32."""
    images = torch.from_numpy(IMAGES)
    expected = wanted(images)[0]
    with rounding(found, images):
        return float((found(images)[0] - expected).square().mean() / expected.var())


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(fine_tuning, "_FEWEST", 48)


def test_a_fine_tuned_network_answers_more_alike_in_8_bits(monkeypatch):
    before = network()
    before.model.backbone.bn1.weight.data[0] = 30.0  # one channel widens the range that all of a tensor's are rounded in
    weights = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    after = tuned(before)
    assert error(after, before) < 0.7 * error(before, before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before.state_dict().items())
    assert list(after.state_dict()) == list(weights) and not after.training
    assert all(torch.equal(after.state_dict()[name], weights[name]) for name in weights if "running" in name)
    again = tuned(before)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in after.state_dict().items())


def test_all_members_of_an_ensemble_are_tuned():
    members = [network(seed=seed) for seed in range(2)]
    both = DeployedEnsemble(members, Mean("probabilities", np.array([0.5, 0.5]))).eval()
    after = tuned(both)
    for before, found in zip(members, after.members, strict=True):
        assert not torch.equal(before.model.backbone.conv_stem.weight, found.model.backbone.conv_stem.weight)
