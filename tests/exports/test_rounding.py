import torch

from fieldmark.core.recipe.model import Model
from fieldmark.exports.network import DeployedNetwork
from fieldmark.exports.rounding import _Input, _Rounded, rounded_layers, rounding
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess

SEEN = Preprocess(32, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
IMAGES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network(name: str = "test_efficientnet") -> DeployedNetwork:
    return DeployedNetwork(build_model(Model(name=name, weights="none"), 4, 32, seed=0).model, SEEN).eval()


@torch.no_grad()
def test_a_network_is_left_as_it_was():
    given = network()
    before = given(IMAGES)[0]
    with rounding(given, IMAGES):
        rounded = given(IMAGES)[0]
    assert 0 < (rounded - before).abs().max() < 0.1 * before.std() and torch.equal(given(IMAGES)[0], before)


def test_neither_the_first_layer_nor_those_on_pooled_features_are_rounded():
    given = network("efficientnet_b0")
    layers = {name for name, layer in given.named_modules() if layer in rounded_layers(given, IMAGES)}
    assert "model.backbone.blocks.0.0.conv_dw" in layers and "model.backbone.conv_head" not in layers  # one place at 32 pixels
    assert not any(".se." in name for name in layers) and layers.isdisjoint({"model.backbone.conv_stem", "model.head"})


def test_a_weight_is_rounded_by_its_channel_and_an_input_in_its_range():
    weight = torch.tensor([[1.27, 0.004], [0.0127, -0.01266]])
    torch.testing.assert_close(_Rounded()(weight), torch.tensor([[1.27, 0.0], [0.0127, -0.0127]]))
    seen = _Input()
    seen(None, (torch.tensor([0.0, 2.55]),))
    seen.observing = False
    (rounded,) = seen(None, (torch.tensor([-1.0, 0.014, 3.0]),))
    torch.testing.assert_close(rounded, torch.tensor([0.0, 0.01, 2.55]))
