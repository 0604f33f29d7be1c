"""Small networks about to be exported, and what they return."""

from pathlib import Path

import numpy as np
import torch

from fieldmark.core.console import Console
from fieldmark.core.recipe.model import Model
from fieldmark.exports.exporter import Source
from fieldmark.exports.network import DeployedEnsemble, DeployedNetwork
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess


def source_of(work: Path, *names: str, size: int = 32, combination=None) -> Source:
    """Networks with random weights, and images of noise."""
    seen = Preprocess(size, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    built = [build_model(Model(name=name, weights="none"), 4, size, seed=seed).model for seed, name in enumerate(names)]
    members = [DeployedNetwork(model, seen).eval() for model in built]
    network = members[0] if combination is None else DeployedEnsemble(members, combination).eval()
    images = np.random.default_rng(0).integers(0, 256, (12, 3, size, size), np.uint8)
    work.mkdir(exist_ok=True)
    return Source(None, network, work, Console(quiet=True), lambda n: images[:n])


@torch.no_grad()
def expected_of(source: Source) -> list[np.ndarray]:
    return [output.numpy() for output in source.network(torch.from_numpy(source.calibration))]


def layers_of(source: Source) -> int:
    return sum(isinstance(each, (torch.nn.Conv2d, torch.nn.Linear)) for each in source.network.modules())
