"""Networks split at the last boundary before what is trained: the two halves must be the whole, over many architectures."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fieldmark.core.recipe.model import Model
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier, NativeHead, build_model
from fieldmark.models.prefix import Prefix, find_prefix

FLOAT32 = Execution(torch.device("cpu"), "float32", "contiguous")
BFLOAT16 = Execution(torch.device("cpu"), "bfloat16", "channels-last")

# Architecture, side of the images, what is trained beside the head, where the prefix ends.
SPLITS = [
    ("resnet10t", 64, ("layer3", "layer4"), "layer2"),
    ("test_resnet", 64, ("layer3.0.conv2",), "layer2"),  # within a block, past which its shortcut leads
    ("resnext26ts", 64, ("stages.3",), "stages.2"),
    ("test_efficientnet", 64, ("blocks.3", "conv_head", "bn2"), "blocks.2"),
    ("mobilenetv2_100", 64, ("blocks.6", "conv_head", "bn2"), "blocks.5"),
    ("mobilenetv3_small_050", 64, ("blocks.5", "conv_head"), "blocks.4"),
    ("test_convnext", 64, ("stages.3",), "stages.2"),
    ("convnext_atto", 64, ("stages.3.blocks.1",), "stages.3.blocks.0"),
    ("densenet121", 64, ("features.denseblock4", "features.norm5"), "features.transition3"),
    ("densenet121", 64, ("features.denseblock4.denselayer9",), "features.transition3"),
    ("vit_tiny_patch16_224", 224, ("blocks.11", "norm"), "blocks.10"),
    ("test_vit", 160, ("blocks.5", "norm"), "blocks.4"),
    ("vgg11", 64, ("features.16", "features.18"), "features.15"),
    ("small_cnn", 64, ("stages.2",), "stages.1"),
    ("squeezenet1_1", 64, ("features.12",), "features.11"),
    ("shufflenet_v2_x0_5", 64, ("stage4", "conv5"), "stage3"),
    ("pvt_v2_b0", 64, ("stages.3",), "stages.2"),  # its patches come with their height and width
]
TINY = ["test_efficientnet", "test_resnet", "test_vit", "test_convnext", "small_cnn", "shufflenet_v2_x0_5"]


def staged(name="test_efficientnet", size=64, trained=(), held=True, execution=FLOAT32, **settings) -> Classifier:
    """A model of which the head and some modules are trained; the batch norms of the rest are held."""
    pooling = "average" if name.startswith("vgg") else "own"
    built = build_model(Model(name=name, weights="none", dropout=0.3, pooling=pooling, **settings), 7, size, 0)
    return set_stage(execution.prepare(built.model), trained, held)


def set_stage(model, trained=(), held=True):
    for name, parameter in model.named_parameters():
        own = name.removeprefix("backbone.")
        parameter.requires_grad_(name.startswith("head.") or any(own == each or own.startswith(f"{each}.") for each in trained))
    for module in model.train().modules():
        if held and isinstance(module, _BatchNorm) and not any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            module.eval()
    return model


def random_images(count, size, execution=FLOAT32):
    drawn = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))
    return drawn.to(execution.dtype, memory_format=execution.memory_format)


def step(model, execution, forward):
    """Logits, gradients and running statistics after one forward and backward pass, from the state that the model is in."""
    state = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    with execution.autocast():
        logits = forward()
    F.cross_entropy(logits.float(), torch.tensor([1, 5, 2])).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.zero_grad()
    model.load_state_dict(state)
    return logits.detach(), found, buffers


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name] is None) == (tensor is None), name
        assert tensor is None or torch.equal(found[name], tensor), name


@pytest.mark.parametrize("execution", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "size", "trained", "boundary"),
    [*SPLITS, *((name, 160 if name == "test_vit" else 64, (), "") for name in TINY)],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_a_step_from_the_boundary_is_the_step_from_the_images(name, size, trained, boundary, execution):
    model = staged(name, size, trained, execution=execution)
    prefix = find_prefix(model, size, execution)
    assert isinstance(prefix, Prefix) and prefix.boundary == boundary
    images = random_images(3, size, execution)
    with execution.autocast():
        features = prefix.compute(images)
    assert not features.requires_grad and features.dtype == prefix.like.dtype and features.shape[1:] == prefix.like.shape[1:]
    expected, expected_gradients, expected_buffers = step(model, execution, lambda: model(images))
    logits, gradients, buffers = step(model, execution, lambda: prefix.resume(features))
    assert torch.equal(logits, expected)
    assert_equal(gradients, expected_gradients)
    assert_equal(buffers, expected_buffers)
    assert {key for key, gradient in gradients.items() if gradient is not None} == {
        key for key, parameter in model.named_parameters() if parameter.requires_grad
    }


def test_inference_from_the_boundary():
    model = staged(trained=("blocks.3",))
    prefix, images = find_prefix(model, 64, FLOAT32), random_images(3, 64)
    modes = [module.training for module in model.modules()]
    logits, pooled = prefix.resume_in_evaluation(prefix.compute(images))
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        expected = model.eval().forward_with_features(images)
    assert torch.equal(logits, expected[0]) and torch.equal(pooled, expected[1])


def test_the_model_is_left_as_it_was():
    model = staged("mobilenetv2_100", 64, ("blocks.6", "conv_head", "bn2"), execution=BFLOAT16)

    def forwards():
        return {name: vars(module)["forward"] for name, module in model.named_modules() if "forward" in vars(module)}

    state, modes, own, drawn = (
        copy.deepcopy(model.state_dict()),
        [each.training for each in model.modules()],
        forwards(),
        torch.get_rng_state(),
    )
    prefix = find_prefix(model, 64, BFLOAT16)
    with BFLOAT16.autocast():
        prefix.resume_in_evaluation(prefix.compute(random_images(2, 64, BFLOAT16)))
    assert own and forwards() == own  # some layers of this one run in another way on a CPU
    assert [each.training for each in model.modules()] == modes
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert_equal(model.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trained": ("conv_stem",)}, "conv_stem.weight is trained"),
        ({"held": False}, "the batch norm bn1 adapts to batches; frozen_norm=held in the stage would hold it"),
        ({"name": "test_vit", "size": 160, "trained": ("pos_embed",)}, "pos_embed is trained"),
        ({"name": "test_efficientnet", "trained": ("bn1",)}, "bn1.weight is trained"),  # one convolution is not worth it
    ],
)
def test_why_there_is_none(change, said):
    model = staged(**change)
    found = find_prefix(model, change.get("size", 64), FLOAT32)
    assert isinstance(found, str) and found.endswith(f": {said}")


def test_a_prefix_ends_before_what_drops_at_random():
    model = staged("test_vit", 160, drop_path=0.5)
    rates = [getattr(model.backbone.blocks[index].drop_path1, "drop_prob", 0.0) for index in range(6)]
    first = next(index for index, rate in enumerate(rates) if rate > 0)
    assert find_prefix(model, 160, FLOAT32).boundary == f"blocks.{first - 1}"
    model.eval()
    assert find_prefix(model, 160, FLOAT32).boundary == ""


def test_a_prefix_ends_before_a_batch_norm_that_adapts():
    model = staged("test_resnet")
    model.backbone.layer3[0].bn1.train()
    assert find_prefix(model, 64, FLOAT32).boundary == "layer2"


class Skipping(nn.Module):
    """What the stem gives goes on by a second way, through a gate; the weight of `taken` is used by its parent."""

    def __init__(self, gate: float):
        super().__init__()
        self.stem, self.body, self.tail, self.taken = (nn.Conv2d(inputs, 8, 3, padding=1) for inputs in (3, 8, 8, 8))
        self.gate = gate

    def forward(self, x):
        x = self.stem(x)
        y = self.tail(self.body(x)) + self.gate * x
        return F.conv2d(y, self.taken.weight).mean((2, 3))


def skipping(gate=0.0, trained=("tail",)):
    torch.manual_seed(0)
    return set_stage(Classifier("skipping", Skipping(gate), 8, 0.0, nn.Linear(8, 7), NativeHead(frozenset(), None)), trained)


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_a_second_way_past_the_boundary_is_found_even_where_it_gives_nothing_yet(gate):
    assert find_prefix(skipping(gate), 16, FLOAT32).boundary == "stem"


def test_a_weight_that_another_module_uses_is_met_when_that_one_begins():
    assert "taken.weight is trained" in find_prefix(skipping(trained=("taken",)), 16, FLOAT32)


def test_the_share_is_that_of_the_multiply_adds():
    found = find_prefix(skipping(), 16, FLOAT32)
    stem, others, head = 16 * 16 * 9 * 3 * 8, 16 * 16 * 9 * 8 * 8 * 2 + 14 * 14 * 9 * 8 * 8, 8 * 7
    assert found.share == pytest.approx(stem / (stem + others + head))
    assert found.text == "the backbone up to stem"


def test_the_digest_is_of_what_does_not_change():
    model = staged("test_resnet", trained=("layer4",))
    prefix = find_prefix(model, 64, FLOAT32)
    before = prefix.digest()
    with torch.no_grad():
        model.backbone.layer4[0].conv1.weight += 1
        model.backbone.layer4[0].bn1.running_mean += 1
        model.head.weight += 1
    model.eval()
    assert prefix.digest() == before
    model.backbone.layer1[0].bn1.running_mean[0] += 1e-3
    assert prefix.digest() != before
