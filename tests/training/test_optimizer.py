"""Optimisers: what is built from the recipe, and every one of timm's."""

import copy
import io

import pytest
import torch
from timm.optim import list_optimizers
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.fields import choices
from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.optim import SGD, Adam, AdamW, LrFactor, RMSprop, TimmOptimizer
from fieldmark.models.factory import build_model
from fieldmark.training.optimizer import build_optimizer, set_learning_rate


@pytest.fixture(scope="module")
def network():
    recipe = recipe_from({"model": {"name": "test_resnet", "weights": "none"}})
    return build_model(recipe.model, 3, 32, 0).model


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    optimizer.zero_grad()


def weights_after(model, build, steps=4):
    model = copy.deepcopy(model)
    optimizer = build(model)
    for seed in range(steps):
        step(model, optimizer, seed)
    return model.state_dict()


REFERENCES = {
    SGD(lr=0.05, momentum=0.8, nesterov=False, weight_decay=1e-3): lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.8),
    SGD(lr=0.05, weight_decay=1e-3): lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True),
    Adam(lr=1e-2, betas=(0.8, 0.99), weight_decay=1e-3): lambda groups: torch.optim.Adam(groups, lr=1e-2, betas=(0.8, 0.99)),
    AdamW(lr=1e-2, eps=1e-4, weight_decay=1e-3): lambda groups: torch.optim.AdamW(groups, lr=1e-2, eps=1e-4),
    RMSprop(lr=1e-3, alpha=0.9, momentum=0.5, weight_decay=1e-3): lambda groups: torch.optim.RMSprop(
        groups, lr=1e-3, alpha=0.9, momentum=0.5
    ),
}


@pytest.mark.parametrize("settings", REFERENCES, ids=lambda settings: f"{settings.name} {getattr(settings, 'nesterov', '')}".strip())
def test_agrees_with_pytorch_on_groups_made_by_hand(settings, network):
    def by_hand(model):
        decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
        return REFERENCES[settings]([{"params": decayed, "weight_decay": 1e-3}, {"params": others, "weight_decay": 0.0}])

    expected = weights_after(network, by_hand)
    found = weights_after(network, lambda model: build_optimizer(model, settings))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_every_kind_is_tested_here():
    assert {settings.name for settings in REFERENCES} | {"timm"} == set(choices()["optim"].variants)


def test_factors_scale_the_rate_of_what_they_name(network):
    settings = SGD(lr=0.1, lr_factors=(LrFactor(parameters="head", factor=10), LrFactor(parameters="layer1", factor=0.5)))
    optimizer = build_optimizer(network, settings)
    set_learning_rate(optimizer, 0.2)
    rate = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rate) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        factor = 10 if name.startswith("head.") else 0.5 if name.startswith("backbone.layer1.") else 1
        assert rate[id(parameter)] == pytest.approx(0.1 * factor * 0.2)


SOME = ("lamb", "lion", "muon", "adafactor", "adahessian", "fusedadam", "lookahead_adam")


REST = [pytest.param(name, marks=pytest.mark.slow) for name in list_optimizers() if name not in SOME]


@pytest.mark.parametrize("algorithm", [*SOME, *REST])
def test_every_optimiser_of_timm_trains_and_goes_on_from_its_state_or_is_refused(algorithm, network):
    settings = TimmOptimizer(algorithm=algorithm, lr=1e-3)
    unbroken = copy.deepcopy(network)
    try:
        optimizer = build_optimizer(unbroken, settings)
    except InputError as refusal:
        assert "optim.algorithm" in str(refusal) and algorithm in str(refusal)
        assert algorithm.startswith(("bnb", "fused", "kron")) or algorithm == "adahessian"
        return
    for seed in range(3):
        step(unbroken, optimizer, seed)
    stream = io.BytesIO()
    torch.save({"model": unbroken.state_dict(), "optimizer": optimizer.state_dict()}, stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    resumed = copy.deepcopy(network)
    resumed.load_state_dict(state["model"])
    again = build_optimizer(resumed, settings)
    again.load_state_dict(state["optimizer"])
    for seed in range(3, 6):
        step(unbroken, optimizer, seed)
        step(resumed, again, seed)
    for name, tensor in unbroken.state_dict().items():
        assert torch.isfinite(tensor).all()
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert not torch.equal(unbroken.head.weight, network.head.weight)


def test_an_unknown_optimiser_of_timm_is_refused_with_the_nearest(network):
    with pytest.raises(InputError, match=r"optim\.algorithm: timm has no optimiser 'lams'; did you mean .*lamb"):
        build_optimizer(network, TimmOptimizer(algorithm="lams"))
