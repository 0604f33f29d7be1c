import pytest
import torch
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.models.cost import parameters
from fieldmark.models.factory import build_model


def build(num_classes=100, size=32, **settings):
    return build_model(Model(**({"name": "plain_cnn", "weights": "none"} | settings)), num_classes, size, 0).model


def count(width, depth, classes):
    """By hand: two convolutions without bias and two batch norms in each stage, and the classifier."""
    total, inputs = 0, 3
    for stage in range(depth):
        outputs = width * 2**stage
        total += 9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs
        inputs = outputs
    return total + inputs * classes + classes


@pytest.mark.parametrize(("width", "depth"), [(64, 4), (8, 1), (5, 3)])
def test_width_and_depth(width, depth):
    model = build(width=width, depth=depth)
    assert parameters(model)[0] == count(width, depth, 100) and model.num_features == width * 2 ** (depth - 1)
    assert parameters(build())[0] == count(64, 4, 100) == 4_738_596


def test_the_network_by_hand():
    model = build(7, 20, width=4, depth=2).eval()
    images = torch.rand(2, 3, 20, 20)
    x = images
    for module in model.backbone.modules():
        if isinstance(module, nn.Conv2d):
            x = nn.functional.conv2d(x, module.weight, padding=1)
        elif isinstance(module, nn.BatchNorm2d):
            x = torch.relu(nn.functional.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias, eps=1e-5))
        elif isinstance(module, nn.MaxPool2d):
            x = nn.functional.max_pool2d(x, 2)
    assert x.shape == (2, 8, 5, 5)
    torch.testing.assert_close(model.forward_with_features(images)[1], x.mean((2, 3)))


def test_it_learns_four_images():
    model = build(4, 16, width=8, depth=3)
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 16, 16), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05


@pytest.mark.parametrize(
    ("size", "depth", "hint"),
    [
        (8, None, "Sizes that it accepts: 32."),
        (32, 6, "Sizes that it accepts: 64."),
        (32, 9, "Lower model.depth."),
        (32, 40, "Lower model.depth."),
    ],
)
def test_images_too_small_for_so_many_stages(size, depth, hint):
    with pytest.raises(InputError, match=f"data.size: plain_cnn cannot take {size} x {size}") as caught:
        build(size=size, **({} if depth is None else {"depth": depth}))
    assert caught.value.hint == hint
    assert build(size=16, width=2, depth=4) and build(size=15, width=2, depth=3)


def test_the_width_of_the_small_network():
    assert build(name="small_cnn", width=8, size=64).backbone.stem[0].out_channels == 8
    assert parameters(build(name="small_cnn", width=32, size=64)) == parameters(build(name="small_cnn", size=64))


def test_other_architectures_have_no_width_and_depth_to_set():
    with pytest.raises(InputError) as caught:
        build(name="resnet18", width=8, depth=3)
    assert tuple(map(str, caught.value.problems)) == (
        "model.width: resnet18 has no configurable width",
        "model.depth: resnet18 has no configurable depth",
    )
    assert caught.value.hint == "model.width is for small_cnn and plain_cnn, model.depth is for plain_cnn."
    with pytest.raises(InputError, match="small_cnn has no configurable depth"):
        build(name="small_cnn", depth=2)
