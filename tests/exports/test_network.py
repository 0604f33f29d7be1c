from dataclasses import replace

import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.core.recipe.model import Model
from fieldmark.evaluation.explanation import heat_maps
from fieldmark.evaluation.inference import Normalisation
from fieldmark.evaluation.run import Run
from fieldmark.exports.network import DeployedEnsemble, DeployedNetwork, deployed
from fieldmark.models.execution import Execution
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Mean, Stack

SEEN = Preprocess(32, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def built(name: str = "test_efficientnet", head: dict | None = None, seed: int = 0):
    settings = Model.model_validate({"name": name, "weights": "none"} | ({"head": head} if head else {}))
    return build_model(settings, 4, 32, seed=seed).model.eval()


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_normalising_is_a_part_of_the_network(pixels):
    model = built()
    images = (pixels.numpy().astype(np.float64) / 255 - np.array(SEEN.mean).reshape(3, 1, 1)) / np.array(SEEN.std).reshape(3, 1, 1)
    logits, features = model.forward_with_features(torch.from_numpy(images).float())
    found = DeployedNetwork(model, SEEN)(pixels)
    torch.testing.assert_close(found[0], logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], features, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "mobilenetv2_050"])
def test_the_mean_of_the_map_is_the_logit_of_the_likeliest_class(name, pixels):
    network = DeployedNetwork(built(name), SEEN)
    logits, _, maps = network(pixels)
    best = logits.argmax(1)
    expected = logits.gather(1, best[:, None])[:, 0] - network.model.head.bias[best]
    assert network.outputs == ("logits", "features", "map")
    torch.testing.assert_close(maps.mean((1, 2)), expected, atol=1e-4, rtol=1e-4)


def test_the_map_is_that_of_grad_cam():
    """Under one linear layer on the mean of the map, Grad-CAM weighs its channels by the weights of the class, up to a factor."""
    seen = replace(SEEN, size=96)
    network = DeployedNetwork(build_model(Model(name="test_efficientnet", weights="none"), 4, 96, seed=0).model, seen)
    pixels = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, _, maps = network(pixels)
    execution = Execution(torch.device("cpu"), "float32", "contiguous")
    expected = heat_maps(network.model, pixels.numpy(), logits.argmax(1).numpy(), Normalisation(SEEN.mean, SEEN.std), execution, "grad-cam")
    fine = torch.nn.functional.interpolate(maps.relu()[:, None], (96, 96), mode="bilinear")[:, 0]
    torch.testing.assert_close(fine / fine.amax((1, 2), keepdim=True), torch.from_numpy(expected), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("name", "head"), [("test_vit", None), ("mobilenetv3_small_050", None), ("test_efficientnet", {"name": "hidden"})])
def test_there_is_no_map_where_the_logits_are_not_its_mean(name, head, pixels):
    network = DeployedNetwork(built(name, head), SEEN) if name != "test_vit" else DeployedNetwork(_vit(), Preprocess(160, *_rest()))
    size = network.size
    outputs = network(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    assert network.outputs == ("logits", "features") and len(outputs) == 2


def _vit():
    return build_model(Model.model_validate({"name": "test_vit", "weights": "none"}), 4, 160, seed=0).model.eval()


def _rest():
    return SEEN.resize, SEEN.mean, SEEN.std


@torch.no_grad()
@pytest.mark.parametrize(
    "combination",
    [
        Mean("probabilities", np.array([0.7, 0.0, 0.3])),
        Mean("logits", np.array([0.2, 0.5, 0.3])),
        Stack((0, 1, 0), np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32), np.arange(4, dtype=np.float32)),
    ],
)
def test_an_ensemble_is_one_network_that_combines_as_the_run_does(combination, pixels):
    members = [DeployedNetwork(built(seed=seed), SEEN) for seed in range(3)]
    logits, features = DeployedEnsemble(members, combination)(pixels)
    each = [member(pixels)[0].numpy() for member in members]
    np.testing.assert_allclose(logits.numpy(), combination(each), atol=1e-5)
    np.testing.assert_array_equal(features.numpy(), np.concatenate(each, axis=1))


def test_the_run_is_left_as_it_was(finished_run):
    run = Run.load(finished_run.path)
    execution = run.execution
    deployed(run.in_float32())
    assert run.execution is execution and "model" not in vars(run)


def test_networks_that_see_images_in_different_ways_are_not_one_graph(birds, tiny, finished_run, tmp_path):
    larger = fieldmark.train(birds, *tiny("data.size=48", "train.epochs=1"), out=tmp_path / "larger", quiet=True)
    both = fieldmark.ensemble(finished_run, larger, method="mean", out=tmp_path / "both", quiet=True)
    with pytest.raises(fieldmark.api.InputError, match=r"in different ways: .* at 32 pixels .* at 48 pixels"):
        fieldmark.export(both, tmp_path / "bundle", format="torch", quiet=True)
    assert not (tmp_path / "bundle").exists()
