import copy

import pytest
import safetensors.torch
import timm
import torch

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.models import hub
from fieldmark.models.factory import build_model
from fieldmark.models.weights import load_weights, save_weights


def build(name, num_classes=5, size=64, weights="none", pooling="average", seed=0):
    return build_model(Model(name=name, weights=str(weights), pooling=pooling), num_classes, size, seed)


# ---- what is averaged ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "by_hand", "dropped"),
    [
        ("hgnetv2_b0", 64, lambda f: f.mean((2, 3)), "head.last_conv."),  # a convolution after the pooling
        ("mobilenetv3_small_050", 64, lambda f: f.mean((2, 3)), "conv_head."),
        ("test_convnext", 64, lambda f: f.mean((2, 3)), "head.norm."),
        ("test_vit", 96, lambda f: f[:, 1:].mean(1), None),  # its own features are those of the class token
        ("cait_xxs24_224", 64, lambda f: f[:, 1:].mean(1), None),
    ],
)
def test_features_are_the_average_of_timms_last_feature_map(name, size, by_hand, dropped, tmp_path):
    options = {"img_size": size} if name in ("test_vit", "cait_xxs24_224") else {}
    source = timm.create_model(name, **options).eval()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "timm.safetensors")
    built = build(name, 1000, size, tmp_path / "timm.safetensors")
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        features = built.model.eval().forward_with_features(images)[1]
        torch.testing.assert_close(features, by_hand(source.forward_features(images)), rtol=1e-4, atol=1e-4)
    assert features.shape == (2, built.model.num_features)
    assert built.notes[1] == "its classifier is for features that are pooled differently; a fresh one of 1,000 classes is added"
    left_out = sorted(each for each in source.state_dict() if dropped and each.startswith(dropped))
    assert not any(each.removeprefix("backbone.") in left_out for each in built.model.state_dict())
    assert built.notes[2:] == ((f"left out for model.pooling=average: {', '.join(left_out)}",) if left_out else ())


@pytest.mark.parametrize("name", ["test_efficientnet", "resnet10t", "small_cnn", "plain_cnn", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_where_the_average_is_what_there_is_it_is_refused(name):
    with pytest.raises(InputError) as caught:
        build(name)
    message = f"model.pooling: {name} already averages its last feature map, so average would change nothing"
    assert tuple(map(str, caught.value.problems)) == (message,) and caught.value.hint == "Leave model.pooling out."


def test_several_feature_maps_are_refused():
    with pytest.raises(InputError, match="crossvit_9_240 does not end in one feature map"):
        build("crossvit_9_240", size=240)


# ---- the network that remains -------------------------------------------------------------------------------------------------------


def test_every_parameter_that_remains_is_used_and_a_copy_is_whole():
    model = build("mobilenetv3_small_050").model
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    clone = copy.deepcopy(model).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(clone(images), model.eval()(images))
        for parameter in model.parameters():
            parameter.zero_()
        assert clone(images).any()


def test_batch_statistics_are_as_they_were():
    state = build("mobilenetv3_small_050").model.state_dict()
    assert all(not tensor.any() for key, tensor in state.items() if key.endswith(("running_mean", "num_batches_tracked")))


def test_vggs_weights_fit_what_remains_of_it(tmp_path):
    with torch.device("meta"):
        shapes = timm.create_model("vgg11").state_dict()
        model = build("vgg11").model
    generator = torch.Generator().manual_seed(0)
    trunk = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in shapes.items() if name.startswith("features.")}
    small = {name: torch.zeros(1) for name in ("pre_logits.fc1.weight", "pre_logits.fc1.bias", "head.fc.weight")}  # of no account
    safetensors.torch.save_file(trunk | small, tmp_path / "vgg.safetensors")
    notes = load_weights(model.to_empty(device="cpu"), tmp_path / "vgg.safetensors")
    assert {name.removeprefix("backbone.") for name in model.state_dict()} == {*trunk, "head.weight", "head.bias"}
    assert all(torch.equal(model.backbone.state_dict()[name], tensor) for name, tensor in trunk.items())
    assert notes[2] == "left out for model.pooling=average: pre_logits.fc1.bias, pre_logits.fc1.weight"


def test_a_file_of_the_whole_network_fits_the_smaller_one(tmp_path):
    whole = build("mobilenetv3_small_050", pooling="own", seed=1).model
    save_weights(whole, tmp_path / "whole.safetensors", {})
    built = build("mobilenetv3_small_050", weights=tmp_path / "whole.safetensors")
    assert torch.equal(built.model.backbone.conv_stem.weight, whole.backbone.conv_stem.weight)
    assert torch.equal(built.model.head.weight, build("mobilenetv3_small_050").model.head.weight)
    assert "pooled differently" in built.notes[1] and "conv_head.weight" in built.notes[2]
    save_weights(built.model, tmp_path / "smaller.safetensors", {})
    again = build("mobilenetv3_small_050", weights=tmp_path / "smaller.safetensors", seed=3)
    assert again.notes == (f"weights: {tmp_path / 'smaller.safetensors'}", "its classifier of 5 classes is kept")
    assert torch.equal(again.model.head.weight, built.model.head.weight)


def test_weights_of_the_hub(monkeypatch, tmp_path):
    source = timm.create_model("mobilenetv3_small_050")
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(hub, "timm_file", lambda _: tmp_path / "model.safetensors")
    built = build("mobilenetv3_small_050", weights="pretrained")
    assert torch.equal(built.model.backbone.conv_stem.weight, source.conv_stem.weight)
    assert built.notes[2] == "left out for model.pooling=average: conv_head.bias, conv_head.weight"
