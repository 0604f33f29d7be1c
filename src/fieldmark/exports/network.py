"""What is exported of a run: one module from uint8 images to logits, features and, where the network allows, a class-activation map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.bundles.record import OUTPUTS
from fieldmark.core.errors import InputError
from fieldmark.evaluation.run import Run
from fieldmark.models.factory import Classifier
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Combination, Mean, Stack

_LINEAR = 1e-4
"""How far, relative to the largest feature, the mean of the last map may be from the features for these to be that mean."""


class Normalise(nn.Module):
    """uint8 (B, 3, S, S) -> float32 of the mean and standard deviation that a network expects."""

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        std = torch.tensor(preprocess.std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -torch.tensor(preprocess.mean).view(1, 3, 1, 1) / std)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() * self.scale + self.shift


class DeployedNetwork(nn.Module):
    """uint8 (B, 3, S, S), red first -> logits (B, C), features (B, D) and, if `has_map`, the class-activation map (B, h, w); float32.

    The map is of the likeliest class: the last feature map weighed by the weights of the class, whose mean over places is the class's
    logit less its bias (CAM, Zhou et al., CVPR 2016). It exists where the features are the mean of that map and the head is one linear
    layer.
    """

    def __init__(self, model: Classifier, preprocess: Preprocess):
        super().__init__()
        self.normalise: nn.Module = Normalise(preprocess)
        self.model = model.float().cpu().eval()
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # an overload that torch does not declare
        self.size = preprocess.size
        self.has_map = _is_mean_of_map(self.model, self.size)

    @property
    def width(self) -> int:
        """Of the features."""
        return self.model.num_features

    @property
    def outputs(self) -> tuple[str, ...]:
        return OUTPUTS if self.has_map else OUTPUTS[:2]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images = self.normalise(pixels)
        if not self.has_map:
            return self.model.forward_with_features(images)
        backbone, head = self.model.backbone, self.model.head
        last = backbone.forward_features(images)  # type: ignore[operator]
        features = backbone.forward_head(last)  # type: ignore[operator]
        logits = head(features)
        weights = head.weight[logits.argmax(1)]
        return logits, features, (last * weights[:, :, None, None]).sum(1)


class DeployedEnsemble(nn.Module):
    """Several networks on the same images and their combination: logits (B, C), and the members' logits (B, M C) as features."""

    has_map = False
    outputs = OUTPUTS[:2]

    def __init__(self, members: Sequence[DeployedNetwork], combination: Combination):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.size = members[0].size
        self.combination = _mean(combination) if isinstance(combination, Mean) else _StackOf(combination)

    @property
    def width(self) -> int:
        return sum(member.model.num_classes for member in self.members)  # type: ignore[union-attr,misc]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        logits = [member(pixels)[0] for member in self.members]
        return self.combination(logits), torch.cat(logits, 1)


Deployed = DeployedNetwork | DeployedEnsemble


class _MeanOf(nn.Module):
    """The weighted mean of logits, or of probabilities as its logarithm."""

    weights: Tensor

    def __init__(self, weights: np.ndarray, of_probabilities: bool):
        super().__init__()
        self.of_probabilities = of_probabilities
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, logits: list[Tensor]) -> Tensor:
        stacked = torch.stack(logits)
        if not self.of_probabilities:
            return (self.weights * stacked).sum(0)
        logs = stacked.log_softmax(2)
        highest = logs.amax(0, keepdim=True)
        return ((logs - highest).exp() * self.weights).sum(0).log() + highest[0]


def _mean(mean: Mean) -> _MeanOf:
    return _MeanOf(mean.weights, mean.of == "probabilities")


class _StackOf(nn.Module):
    """A linear layer on the logits of each input side by side, after the members of one input were averaged."""

    def __init__(self, stack: Stack):
        super().__init__()
        classes, width = stack.weight.shape
        self.inputs = stack.inputs
        self.linear = nn.Linear(width, classes)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(stack.weight))
            self.linear.bias.copy_(torch.from_numpy(stack.bias))

    def forward(self, logits: list[Tensor]) -> Tensor:
        beside = []
        for each in range(max(self.inputs) + 1):
            of_input = [member for member, place in zip(logits, self.inputs, strict=True) if place == each]
            beside.append(torch.stack(of_input).mean(0))
        return self.linear(torch.cat(beside, 1))


def deployed(run: Run) -> Deployed:
    """A run's network, in float32 on the CPU, in evaluation mode; the run itself is left alone.

    Raises InputError for an ensemble whose members see images differently, which one graph cannot.
    """
    if len({member.preprocess.view for member in run.members}) > 1:
        sizes = ", ".join(f"{member.name} at {member.preprocess.size} pixels ({member.preprocess.resize})" for member in run.members)
        raise InputError(
            f"the networks of {run.path} see images in different ways: {sizes}",
            hint=f"One graph takes one kind of image: export them one by one, from {run.folder.members}.",
        )
    members = []
    for member in run.members:
        members.append(DeployedNetwork(Run.load(member.path).model, member.preprocess))
    if not run.is_combined:
        return members[0].eval()
    return DeployedEnsemble(members, run.combination).eval()


@torch.no_grad()
def _is_mean_of_map(model: Classifier, size: int) -> bool:
    """Whether the features are the mean of the last feature map (B, D, h, w), and the head is one linear layer on them."""
    backbone = model.backbone
    whole = callable(getattr(backbone, "forward_features", None)) and callable(getattr(backbone, "forward_head", None))
    if not whole or type(model.head) is not nn.Linear:
        return False
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    last, features = backbone.forward_features(images), backbone(images)  # type: ignore[operator]
    if not isinstance(last, Tensor) or last.ndim != 4 or last.shape[:2] != features.shape:
        return False
    return bool((last.mean((2, 3)) - features).abs().max() <= _LINEAR * features.abs().max())
