import numpy as np
import pytest
import torch
from torch import nn

from fieldmark.core.recipe.model import Model
from fieldmark.exports.bias_correction import bias_corrected
from fieldmark.exports.network import DeployedNetwork
from fieldmark.exports.rounding import rounded_layers, rounding
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), np.uint8)


def network(name: str) -> DeployedNetwork:
    seen = Preprocess(32, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    return DeployedNetwork(build_model(Model(name=name, weights="none"), 4, 32, seed=0).model, seen).eval()


@torch.no_grad()
def means(given: DeployedNetwork) -> list[np.ndarray]:
    """Of each channel of each layer that is rounded."""
    images, found = torch.from_numpy(IMAGES), []
    layers = rounded_layers(given, images)
    hooks = [layer.register_forward_hook(lambda layer, seen, out: found.append(out)) for layer in layers]
    given(images)
    for hook in hooks:
        hook.remove()
    return [each.numpy().mean(axis=(0, 2, 3)) if each.ndim == 4 else each.numpy().mean(axis=tuple(range(each.ndim - 1))) for each in found]


@pytest.mark.parametrize("name", ["test_efficientnet", "mobilenetv2_050", "test_vit"])
def test_every_layer_returns_on_average_what_it_returns_in_float32(name):
    given = network(name)
    weights = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    expected = means(given)
    corrected = bias_corrected(given, IMAGES)
    images = torch.from_numpy(IMAGES)
    with rounding(given, images):
        without = means(given)
    with rounding(corrected, images):
        found = means(corrected)
    shifts = [np.concatenate(each) - np.concatenate(expected) for each in (found, without)]
    assert np.abs(shifts[0]).mean() < 0.6 * np.abs(shifts[1]).mean()  # ranges of inputs were seen anew
    assert all(torch.equal(tensor, weights[name]) for name, tensor in given.state_dict().items())
    after = corrected.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights.items() if not name.endswith("bias"))
    assert all(isinstance(each.bias, nn.Parameter) for each in rounded_layers(corrected, images))
    again = bias_corrected(given, IMAGES).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in after.items())
