import pytest
import torch
from torch import nn

from fieldmark.core.errors import CheckFailed
from fieldmark.core.recipe.model import Model
from fieldmark.models.cost import check_budget, check_latency, macs, parameters, summary
from fieldmark.models.factory import build_model


def build(name, num_classes=10, size=64):
    return build_model(Model(name=name, weights="none"), num_classes, size, 0).model


def test_trainable_parameters_are_counted_apart():
    model = build("test_efficientnet")
    head = 256 * 10 + 10
    total = sum(tensor.numel() for name, tensor in model.state_dict().items() if "running" not in name and "num_batches" not in name)
    assert parameters(model) == (total, total)
    model.backbone.requires_grad_(False)
    assert parameters(model) == (total, head)


def test_convolutions_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(8, 5))
    assert macs(model, 17) == 17 * 17 * 8 * 27 + 8 * 8 * 8 * 9 + 8 * 5


def test_attention_is_counted():
    tokens, width, depth = 14 * 14 + 1, 192, 12
    by_hand = 196 * 768 * width + depth * (12 * tokens * width**2 + 2 * tokens**2 * width) + width * 10
    assert macs(build("vit_tiny_patch16_224", size=224), 224) == by_hand


def test_counting_leaves_the_model_as_it_was():
    model = build("test_efficientnet")
    model.backbone.bn1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    macs(model, 64)
    summary(model, 64)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def number(text):
    return int(text.replace(",", ""))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "squeezenet1_1", "resnet10t", "test_convnext"])
def test_the_summarys_rows_add_up(name):
    model = build(name)
    title, header, *rows, last = summary(model, 64).splitlines()
    assert title.startswith(f"{name}, 10 classes, images of 64 x 64, {parameters(model)[1]:,} parameters trained")
    assert header.split() == ["stage", "output", "parameters", "MACs"]
    figures = [[number(word) for word in row.split()[-2:]] for row in rows]
    assert [sum(column) for column in zip(*figures, strict=True)] == [parameters(model)[0], macs(model, 64)]
    assert [number(word) for word in last.split()[-2:]] == [parameters(model)[0], macs(model, 64)]


def test_the_summary_names_timms_stages_and_shapes():
    rows = {line.split()[0]: line.split()[1:-2] for line in summary(build("test_efficientnet"), 64).splitlines()[2:]}
    assert rows["backbone.conv_stem"] == ["24", "x", "32", "x", "32"]
    assert {"backbone.blocks.0", "backbone.blocks.1", "backbone.conv_head"} <= rows.keys()
    assert rows["head"] == ["10"]


@pytest.mark.parametrize(
    ("count", "budget", "shown"),
    [(7_982_794, 5_000_000, ("7.98 M", "5 M")), (102_234, 100_000, ("0.102 M", "0.1 M")), (5_000_001, 5_000_000, ("5.000001 M", "5 M"))],
)
def test_a_budget_is_kept_or_refused(count, budget, shown):
    model = nn.ParameterList([torch.empty(count)])
    check_budget(model, count, "it")
    with pytest.raises(CheckFailed) as caught:
        check_budget(model, budget, "efficientnet_b2 with 200 classes")
    assert str(caught.value) == (
        f"efficientnet_b2 with 200 classes has {shown[0]} parameters, over the budget of {shown[1]} (model.max_parameters)"
    )


def test_a_latency_is_kept_or_refused(monkeypatch):
    clock = iter(range(0, 10**6, 2))  # each image takes 2 seconds by this clock
    monkeypatch.setattr("fieldmark.models.cost.perf_counter", lambda: next(clock))
    model = build("test_efficientnet").train()
    check_latency(model, 32, 2000, "it")
    with pytest.raises(
        CheckFailed, match=r"it takes 2000.0 ms for one image of 32 pixels .* over the limit of 1999 \(model.max_latency_ms\)"
    ):
        check_latency(model, 32, 1999, "it")
    assert model.training
