import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F

from fieldmark.core.recipe.model import ActivatedLogits, HiddenHead, LinearHead, Model
from fieldmark.models.factory import build_model
from fieldmark.models.weights import save_weights

HEADS = [
    LinearHead(),
    HiddenHead(width=12, dropout=0.5),
    HiddenHead(width=256, activation="gelu"),  # as wide as the features
    ActivatedLogits(dropout=0.5),
    ActivatedLogits(activation="leaky-relu"),
]


def build(head, num_classes=5, seed=0, weights="none"):
    return build_model(Model(name="test_efficientnet", weights=str(weights), head=head), num_classes, 64, seed)


def kept(model):
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}


def same_head(first, second):
    return kept(first).keys() == kept(second).keys() and all(torch.equal(kept(first)[name], kept(second)[name]) for name in kept(first))


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "gelu"])
def test_a_hidden_layer_by_hand(activation):
    model = build(HiddenHead(width=12, activation=activation, dropout=0.9)).model.eval()
    logits, features = model.forward_with_features(torch.rand(2, 3, 64, 64))
    functions = {"relu": F.relu, "leaky-relu": F.leaky_relu, "gelu": F.gelu}
    hidden = functions[activation](features @ model.head.hidden.weight.T + model.head.hidden.bias)
    torch.testing.assert_close(logits, hidden @ model.head.weight.T + model.head.bias)
    assert model.head.weight.shape == (5, 12)


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky-relu", 0.01)])
def test_activated_logits_by_hand(activation, slope):
    model = build(ActivatedLogits(activation=activation, dropout=0.5)).model
    features = torch.randn(400, model.num_features)
    plain = features @ model.head.weight.T + model.head.bias
    expected = torch.where(plain > 0, plain, slope * plain)
    torch.testing.assert_close(model.eval().head(features), expected)  # in evaluation the activation stays
    dropped = model.train().head(features)
    untouched = dropped != 0
    torch.testing.assert_close(dropped[untouched], 2 * expected[untouched])
    assert 0.4 < ((dropped == 0) & (expected != 0)).sum() / (expected != 0).sum() < 0.6


def test_dropout_of_a_hidden_layer_acts_on_the_hidden_units():
    head = build(HiddenHead(width=400, dropout=0.5)).model.head
    with torch.no_grad():
        head.weight.fill_(1.0)
        head.hidden.weight.zero_()
        head.hidden.bias.fill_(1.0)
        logits = head(torch.zeros(1, 256))[0] - head.bias
    assert torch.allclose(logits, logits[0]) and 300 < logits[0] < 500 and logits[0] != 400


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_every_head_keeps_the_contract(head, tmp_path):
    model = build(head, seed=3).model
    names = {"head.weight", "head.bias"} | ({"head.hidden.weight", "head.hidden.bias"} if head.name == "hidden" else set())
    assert kept(model).keys() == names and model.num_classes == model.head.out_features == 5
    assert same_head(model, build(head, seed=3).model) and not same_head(model, build(head, seed=4).model)
    model.head.bias.data.fill_(1.0)  # keeps the class outputs from being cut off
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    save_weights(model, tmp_path / "model.safetensors", {})
    loaded = build(head, weights=tmp_path / "model.safetensors")
    assert same_head(loaded.model, model) and loaded.notes[1] == "its classifier of 5 classes is kept"
    other = build(head, 9, weights=tmp_path / "model.safetensors")
    assert other.notes[1] == "its classifier of 5 classes is replaced by a fresh one of 9"
    assert same_head(other.model, build(head, 9).model)


def test_a_linear_classifier_from_elsewhere_fits_heads_that_put_nothing_before_it(tmp_path):
    source = timm.create_model("test_efficientnet", num_classes=5)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "timm.safetensors")
    for head in (LinearHead(), ActivatedLogits()):
        assert torch.equal(build(head, weights=tmp_path / "timm.safetensors").model.head.weight, source.classifier.weight)
    for width in (12, 256):
        built = build(HiddenHead(width=width), weights=tmp_path / "timm.safetensors")
        assert built.notes[1] == "its classifier has no hidden layer; a fresh one of 5 classes is added"
        assert same_head(built.model, build(HiddenHead(width=width)).model)


def test_a_hidden_classifier_is_kept_by_its_like_only(tmp_path):
    save_weights(build(HiddenHead(width=12)).model, tmp_path / "hidden.safetensors", {})
    for head, reason in ((LinearHead(), "has a hidden layer"), (HiddenHead(width=13), "has a hidden layer of 12 units instead of 13")):
        built = build(head, weights=tmp_path / "hidden.safetensors")
        assert built.notes[1] == f"its classifier {reason}; a fresh one of 5 classes is added"
        assert same_head(built.model, build(head).model)
