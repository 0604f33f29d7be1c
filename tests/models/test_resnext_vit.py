import pytest
import safetensors.torch
import timm
import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.models import hub, resnext_vit
from fieldmark.models.cost import parameters
from fieldmark.models.factory import build_model, describe
from fieldmark.models.parts import last_block, named_parts
from fieldmark.models.weights import save_weights

NAME = "resnext101_32x8d_vit_tiny"


def build(num_classes=5, size=64, weights="none", seed=0, **settings):
    return build_model(Model(name=NAME, weights=str(weights), **settings), num_classes, size, seed)


@pytest.fixture
def shallow(monkeypatch):
    """The same network with one block in each stage and two of the transformer."""

    class Shallow(resnext_vit.ResNextVit):
        def __init__(self, **options):
            super().__init__(layers=(1, 1, 1, 1), depth=2, **options)

    monkeypatch.setattr(resnext_vit, "ResNextVit", Shallow)


@pytest.fixture
def parts(shallow, monkeypatch, tmp_path):
    """Stand-ins for the hub's files, as deep as the shallow network."""
    resnext = ResNet(Bottleneck, (1, 1, 1, 1), cardinality=32, base_width=8)
    vit = timm.create_model("vit_tiny_patch16_224", depth=2)
    for name, model in (("resnext101_32x8d", resnext), ("vit_tiny_patch16_224", vit)):
        safetensors.torch.save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(hub, "timm_file", lambda name: tmp_path / f"{name}.safetensors")
    return resnext.eval(), vit.eval()


def test_parameters_of_the_whole_by_hand():
    with torch.device("meta"):
        resnext = build_model(Model(name="resnext101_32x8d", weights="none"), 100, 224, 0).model
        model = build(100, 224).model
    block = 4 * 192 + 4 * 192**2 + 4 * 192 + 2 * 192 * 768 + 768 + 192
    added = (2048 * 192 + 192) + 7 * 7 * 192 + 12 * block + 2 * 192 + (192 * 2048 + 2048)
    assert parameters(resnext)[0] == 86_947_236
    assert parameters(model)[0] == 86_947_236 + added == 93_084_068


def test_at_first_it_is_the_resnext(parts):
    """With as many classes even its logits."""
    resnext, _ = parts
    images = torch.rand(2, 3, 64, 64)
    built = build(1000, weights="pretrained")
    with torch.no_grad():
        torch.testing.assert_close(built.model.eval()(images), resnext(images), rtol=1e-4, atol=1e-4)
    tags = " and ".join(f"{name}.{timm.get_pretrained_cfg(name).tag}" for name in resnext_vit.PARTS[NAME])
    assert built.notes == (f"weights: {tags} of the hub", "its classifier of 1,000 classes is kept")


def test_tokens_go_through_the_transformers_own_blocks(parts):
    """Against timm's transformer, given the projected tokens in place of patches."""
    resnext, vit = parts
    model = build(5, 224, weights="pretrained").model.eval()
    nn.init.normal_(model.backbone.from_tokens.weight, std=0.05)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        x = resnext.forward_features(images)
        assert x.shape == (2, 2048, 7, 7)
        tokens = model.backbone.to_tokens(x.permute(0, 2, 3, 1).reshape(2, 49, 2048))
        position = vit.pos_embed[:, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
        position = nn.functional.interpolate(position, (7, 7), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
        tokens = vit.norm(vit.blocks(tokens + position))
        back = model.backbone.from_tokens(tokens).reshape(2, 7, 7, 2048).permute(0, 3, 1, 2)
        torch.testing.assert_close(model.forward_with_features(images)[1], (x + back).mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_every_parameter_learns_once_the_last_projection_has_left_zero(shallow):
    model = build().model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    images, labels = torch.rand(4, 3, 64, 64), torch.arange(4)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


def test_other_sizes_and_a_saved_whole(shallow, tmp_path):
    model = build(size=96, seed=1).model
    assert model.backbone.pos_embed.shape == (1, 9, 192)
    save_weights(model, tmp_path / "whole.safetensors", {})
    same = build(size=96, weights=tmp_path / "whole.safetensors", seed=2)
    assert all(torch.equal(tensor, same.model.state_dict()[name]) for name, tensor in model.state_dict().items())
    other = build(size=64, weights=tmp_path / "whole.safetensors")
    assert other.notes[2] == "its position embedding is resampled from 3 x 3 to 2 x 2 patches"
    for size in (65, 100):
        assert build(size=size).model(torch.rand(2, 3, size, size)).shape == (2, 5)


def test_its_parts_have_names(shallow):
    model = build().model
    assert last_block(model.backbone) == "blocks.1"
    assert named_parts(model, ["layer4", "from_tokens"], "key") >= {"backbone.layer4.0.conv1.weight", "backbone.from_tokens.bias"}


def test_stochastic_depth_acts_on_both(shallow):
    model = build(drop_path=0.4).model
    dropping = {name.split(".")[1][:6] for name, module in model.named_modules() if getattr(module, "drop_prob", 0) > 0}
    assert dropping == {"layer2", "layer3", "layer4", "blocks"}


def test_without_a_hub(shallow, monkeypatch):
    def refuse(name):
        raise InputError(f"no pretrained weights for {name}")

    monkeypatch.setattr(hub, "timm_file", refuse)
    assert describe(NAME) == (224, True)
    with pytest.raises(InputError, match="no pretrained weights for resnext101_32x8d"):
        build(weights="pretrained")
