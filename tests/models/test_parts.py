import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d, EvoNorm2dS0, GroupNormAct, LayerNorm2d, RmsNorm
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import HiddenHead, Model
from fieldmark.models.factory import build_model
from fieldmark.models.parts import describe_trainable, last_block, named_parts, norm_layers

KEY = "stages: trainable"


@functools.cache
def build(name, num_classes=10, size=96, hidden=False):
    settings = {"head": HiddenHead(width=8)} if hidden else {}
    return build_model(Model(name=name, weights="none", **settings), num_classes, size, 0).model


def parts(model, *words):
    return named_parts(model, words, KEY)


def describe(model, *words):
    """What is said of the model where the parts that the words name are trained."""
    chosen = parts(model, *words)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    text = describe_trainable(model)
    model.requires_grad_(True)
    return text


@pytest.mark.parametrize(
    ("name", "trained", "total"), [("efficientnet_b0", 1_010_200, 4_263_748), ("efficientnet_b2", 2_229_136, 7_982_794)]
)
def test_the_published_counts_of_all_but_the_last_block_frozen(name, trained, total):
    model = build(name, 200)
    chosen = parts(model, "last-block", "head", "norm")
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert (sum(counts[name] for name in chosen), sum(counts.values())) == (trained, total)
    assert "backbone.conv_head.weight" not in chosen and "backbone.bn2.weight" in chosen


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("efficientnet_b0", "blocks.6.0"),
        ("efficientnet_b2", "blocks.6.1"),
        ("mobilenetv2_100", "blocks.6.0"),
        ("mobilenetv3_large_100", "blocks.5.2"),  # blocks.6 is one convolution
        ("resnet18", "layer4.1"),
        ("resnet50", "layer4.2"),
        ("resnext50_32x4d", "layer4.2"),
        ("convnext_tiny", "stages.3.blocks.2"),
        ("vit_tiny_patch16_224", "blocks.11"),
        ("swin_tiny_patch4_window7_224", "layers.3.blocks.1"),
        ("densenet121", "features.denseblock4"),
        ("vgg11", "features.18"),
        ("vgg11_bn", "features.25"),
        ("shufflenet_v2_x1_0", "stage4.3"),
        ("squeezenet1_1", "features.12"),
        ("regnety_002", "s4.b7"),
        ("rexnet_100", "features.15"),  # features.16 is one convolution
        ("mobileone_s1", "stages.3.1"),
        ("hrnet_w18", "stage4.2"),
        ("fastvit_t8", "stages.3.blocks.1"),
        ("mobilevit_xs", "stages.4.1"),
        ("convmixer_768_32", "blocks.31"),
        ("small_cnn", "stages.2"),
    ],
)
def test_the_last_block_of_an_architecture(name, block):
    import timm
    import torchvision

    with torch.device("meta"):
        backbone = torchvision.models.get_model(name) if name.startswith(("shufflenet", "squeezenet")) else timm.create_model(name)
    assert last_block(backbone) == block


def test_the_last_block_is_all_that_lies_in_it():
    model = build("resnet18")
    assert parts(model, "last-block") == parts(model, "layer4.1") == {n for n, _ in model.named_parameters() if "layer4.1." in n}


def test_a_backbone_without_blocks_says_so():
    model = build("test_efficientnet")
    model.backbone.blocks, blocks = nn.Identity(), model.backbone.blocks
    try:
        with pytest.raises(InputError, match="stages: trainable: test_efficientnet has no recognisable last block; name its modules"):
            parts(model, "last-block")
    finally:
        model.backbone.blocks = blocks


def test_the_head_is_the_classifier_only():
    assert parts(build("efficientnet_b0", 200), "head") == {"head.weight", "head.bias"}
    convnext = build("convnext_atto")  # its backbone has a `head` with a normalisation
    assert parts(convnext, "head") == {"head.weight", "head.bias"}
    assert parts(convnext, "backbone.head") == {"backbone.head.norm.weight", "backbone.head.norm.bias"}
    hidden = build("resnet18", hidden=True)
    assert parts(hidden, "head") == {f"head.{name}" for name in ("weight", "bias", "hidden.weight", "hidden.bias")}
    assert parts(hidden, "head.hidden") == {"head.hidden.weight", "head.hidden.bias"}


def test_norms_are_found_by_type():
    layers = [BatchNormAct2d(4), LayerNorm2d(4), GroupNormAct(4, 2), RmsNorm(4), EvoNorm2dS0(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)]
    others = [nn.Conv2d(4, 4, 1), nn.PReLU(4), nn.Linear(4, 4)]
    assert set(norm_layers(nn.Sequential(*layers, *others))) == {str(index) for index in range(len(layers))}


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "convnext_atto", "vit_tiny_patch16_224"])
def test_norm_means_their_scales_and_shifts(name):
    model = build(name, size=224 if "vit" in name else 96)
    owners = {each.rpartition(".")[0] for each in parts(model, "norm")}
    assert owners == set(norm_layers(model))
    # Every other one-dimensional tensor is a bias, a token or a scale of a layer.
    rest = {n for n, p in model.named_parameters() if p.ndim == 1} - parts(model, "norm")
    assert all(each.endswith((".bias", "gamma")) for each in rest)


def test_names_are_compared_component_by_component():
    model = build("resnet18")
    vit = build("vit_tiny_patch16_224", size=224)
    assert parts(vit, "blocks.1") == {name for name, _ in vit.named_parameters() if name.startswith("backbone.blocks.1.")}
    assert not parts(vit, "blocks.1") & parts(vit, "blocks.10", "blocks.11")
    assert parts(vit, "cls_token", "backbone.pos_embed") == {"backbone.cls_token", "backbone.pos_embed"}
    assert parts(model, "layer1") == parts(model, "backbone.layer1")
    assert parts(model, "layer1.0.conv1") == {"backbone.layer1.0.conv1.weight"}
    assert parts(model, "backbone", "head") == parts(model, "all") == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("name", ["densenet121", "mobilevit_xs", "regnety_002", "efficientnet_b0"])
def test_timms_feature_modules_are_names(name):
    model = build(name, 200 if name.startswith("eff") else 10)
    modules = {info["module"] for info in model.backbone.feature_info}
    for module in modules:
        assert parts(model, module) == {f"backbone.{module}.{each}" for each, _ in model.backbone.get_submodule(module).named_parameters()}


def test_patterns_are_compared_with_names_of_parameters():
    model = build("resnet18")
    expected = {n for n, _ in model.named_parameters() if n.startswith("backbone.layer") and n.endswith((".bn1.weight", ".bn2.weight"))}
    assert parts(model, "layer*.bn?.weight") == parts(model, "backbone.layer*.bn?.weight") == expected
    assert len(expected) == 16


@given(words=st.lists(st.sampled_from(["head", "norm", "last-block", "layer1", "layer*.conv2.*", "conv1", "layer1.0"]), min_size=1))
def test_several_words_mean_all_that_each_means(words):
    model = build("resnet18")
    assert parts(model, *words) == frozenset().union(*(parts(model, word) for word in words))


def test_unknown_names_are_answered_at_once_with_near_ones_and_the_stages():
    with pytest.raises(InputError) as caught:
        parts(build("resnet18"), "layer5", "head", "Norm", "*.bn9.*", "maxpool")
    assert tuple(map(str, caught.value.problems)) == (
        "stages: trainable: resnet18 has no 'layer5'; did you mean layer4 or layer3?",
        "stages: trainable: resnet18 has no 'Norm'; did you mean norm?",
        "stages: trainable: no parameter of resnet18 matches '*.bn9.*'",
        "stages: trainable: 'maxpool' of resnet18 has no parameters",
    )
    assert caught.value.hint == ("The parts of resnet18: conv1, bn1, layer1, layer2, layer3, layer4. Words: all, head, norm, last-block.")


def test_a_network_without_norms_says_so():
    with pytest.raises(InputError, match="squeezenet1_1 has no normalisation layers with parameters"):
        parts(build("squeezenet1_1"), "norm")


def test_what_is_trained_in_words():
    model = build("efficientnet_b0", 200)
    assert describe(model, "all") == "all 4,263,748 parameters are trained"
    assert describe(model, "last-block", "head", "norm") == (
        "1,010,200 of 4,263,748 parameters are trained: blocks.6, head, all 49 norms; held: conv_stem, blocks.0–5, conv_head"
    )
    assert describe(model, "head") == "256,200 of 4,263,748 parameters are trained: head; held: backbone"
    assert describe(model, "head", "norm") == (
        "298,216 of 4,263,748 parameters are trained: head, all 49 norms; held: the rest of the backbone"
    )
    other = build("efficientnet_b2", 200)
    assert describe(other, "last-block", "head", "norm").endswith(
        "blocks.6.1, head, all 69 norms; held: conv_stem, blocks.0–5, blocks.6.0, conv_head"
    )


def test_long_lists_are_cut():
    text = describe(build("resnet18"), "*.bn1.weight")
    assert text.startswith("1,984 of 11,181,642 parameters are trained: bn1.weight, layer1.0.bn1.weight, layer1.1.bn1.weight, ")
    assert text.endswith(" more")


def test_what_is_trained_names_parts_as_they_may_be_given():
    model = build("vit_tiny_patch16_224", size=224)
    text = describe(model, "blocks.10", "blocks.11", "backbone.norm", "head")
    assert text.partition("trained: ")[2] == ("blocks.10–11, backbone.norm, head; held: cls_token, pos_embed, patch_embed, blocks.0–9")
