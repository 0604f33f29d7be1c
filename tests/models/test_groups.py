import pytest
import torch
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import HiddenHead, Model
from fieldmark.core.recipe.optim import SGD, LrFactor
from fieldmark.models.factory import build_model
from fieldmark.models.groups import parameter_groups


@pytest.fixture(scope="module")
def model():
    return build_model(Model(name="test_efficientnet", weights="none"), 10, 64, 0).model


def by_name(model, *factors, **settings):
    given = tuple(LrFactor(parameters=word, factor=factor) for word, factor in factors)
    groups = parameter_groups(model, SGD(lr=0.1, weight_decay=0.05, lr_factors=given, **settings))
    assert len({group["name"] for group in groups}) == len(groups)
    return {group["name"]: group for group in groups}


def test_norms_and_biases_are_not_decayed(model):
    groups = by_name(model)
    assert list(groups) == ["backbone.decay", "backbone.no-decay", "head.decay", "head.no-decay"]
    assert [group["weight_decay"] for group in groups.values()] == [0.05, 0.0, 0.05, 0.0]
    assert [group["lr"] for group in groups.values()] == [0.1] * 4
    kernels = [m.weight for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert {id(p) for p in groups["backbone.decay"]["params"]} == {id(p) for p in kernels}
    assert [id(p) for p in groups["head.decay"]["params"]] == [id(model.head.weight)]
    assert [id(p) for p in groups["head.no-decay"]["params"]] == [id(model.head.bias)]


def test_within_a_group_the_order_is_that_of_the_model(model):
    names = [name for name, p in model.named_parameters() if name.startswith("backbone.") and p.ndim > 1]
    members = {id(p): name for name, p in model.named_parameters()}
    assert [members[id(p)] for p in by_name(model)["backbone.decay"]["params"]] == names


def test_all_is_decayed_when_asked_and_empty_groups_are_left_out(model):
    assert list(by_name(model, decay_norm_and_bias=True)) == ["backbone.decay", "head.decay"]


def test_a_head_with_ten_times_the_rate(model):
    groups = by_name(model, ("head", 10.0))
    assert list(groups) == ["backbone.decay", "backbone.no-decay", "head.decay x10", "head.no-decay x10"]
    assert [group["lr"] for group in groups.values()] == pytest.approx([0.1, 0.1, 1.0, 1.0])
    assert [group["weight_decay"] for group in groups.values()] == [0.05, 0.0, 0.05, 0.0]


def test_factors_that_meet_are_multiplied(model):
    groups = by_name(model, ("norm", 2.0), ("backbone", 0.5), ("conv_stem", 0.25), ("last-block", 2.0))
    rates = {id(p): group["lr"] for group in groups.values() for p in group["params"]}
    assert rates[id(model.backbone.conv_stem.weight)] == pytest.approx(0.1 * 0.5 * 0.25)
    assert rates[id(model.backbone.bn1.weight)] == pytest.approx(0.1)
    assert rates[id(model.backbone.blocks[0][0].conv.weight)] == pytest.approx(0.05)
    assert list(groups) == [
        "backbone.decay",
        "backbone.no-decay",
        "backbone.decay x0.125",
        "backbone.decay x0.5",
        "backbone.no-decay x0.5",
        "backbone.no-decay x2",
        "head.decay",
        "head.no-decay",
    ]


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("factors", [(), (("head", 3.0), ("blocks.?.*", 0.1), ("all", 2.0))])
def test_every_parameter_is_in_one_group_frozen_or_not(model, everything, factors):
    model.backbone.conv_stem.weight.requires_grad_(False)
    groups = list(by_name(model, *factors, decay_norm_and_bias=everything).values())
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    torch.optim.SGD(groups, lr=1.0)


def test_a_hidden_layer_belongs_to_the_head():
    hidden = build_model(Model(name="test_efficientnet", weights="none", head=HiddenHead(width=8)), 10, 64, 0).model
    assert len(by_name(hidden)["head.decay"]["params"]) == len(by_name(hidden)["head.no-decay"]["params"]) == 2


def test_unknown_parts_are_said_all_at_once(model):
    with pytest.raises(InputError) as caught:
        by_name(model, ("haed", 10.0), ("norm", 2.0), ("blocks.99", 0.1))
    first, second = map(str, caught.value.problems)
    assert first == "optim.lr_factors: parameters: test_efficientnet has no 'haed'; did you mean head?"
    assert second.startswith("optim.lr_factors: parameters: test_efficientnet has no 'blocks.99'")
