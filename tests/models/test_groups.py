import pytest
import torch
from torch import nn

from fieldmark.core.schema import Model
from fieldmark.models.factory import build_model
from fieldmark.models.groups import parameter_groups


@pytest.fixture(scope="module")
def model():
    return build_model(Model(name="test_efficientnet", weights="none"), 10, 64, 0).model


def by_name(groups):
    return {group["name"]: group for group in groups}


def test_norms_and_biases_are_not_decayed(model):
    groups = by_name(parameter_groups(model, 0.05, 0.1, 2.0, decay_norm_and_bias=False))
    assert list(groups) == ["backbone.decay", "backbone.no-decay", "head.decay", "head.no-decay"]
    assert [group["weight_decay"] for group in groups.values()] == [0.05, 0.0, 0.05, 0.0]
    assert [group["lr"] for group in groups.values()] == [0.1, 0.1, 0.2, 0.2]
    kernels = [m.weight for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert {id(p) for p in groups["backbone.decay"]["params"]} == {id(p) for p in kernels}
    assert [id(p) for p in groups["head.decay"]["params"]] == [id(model.head.weight)]
    assert [id(p) for p in groups["head.no-decay"]["params"]] == [id(model.head.bias)]


def test_all_is_decayed_when_asked_and_empty_groups_are_left_out(model):
    groups = by_name(parameter_groups(model, 0.05, 0.1, 1.0, decay_norm_and_bias=True))
    assert list(groups) == ["backbone.decay", "head.decay"]


@pytest.mark.parametrize("everything", [True, False])
def test_every_parameter_is_in_one_group_frozen_or_not(model, everything):
    model.backbone.conv_stem.weight.requires_grad_(False)
    groups = parameter_groups(model, 0.05, 0.1, 1.0, everything)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    torch.optim.SGD(groups, lr=1.0)
