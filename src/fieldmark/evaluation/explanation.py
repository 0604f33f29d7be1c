"""Where a network looked: heat maps of single images, for the class that is asked about.

They show what the answer depends on in one way of asking, not why it was given; whether a map means anything is measured by deletion.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.errors import InputError
from fieldmark.evaluation.heat_map_methods import METHODS
from fieldmark.evaluation.inference import Normalisation
from fieldmark.models.evaluating import evaluating
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier

_BATCH = 8
"""The graph of the whole network is in memory, as in a training step of as many images."""


def default_method(model: Classifier) -> str:
    """`rollout` for vision transformers with one flat sequence of tokens (vit_*, deit_*, eva02_*), `grad-cam` for all others."""
    return "rollout" if _attentions(model.backbone) else "grad-cam"


def heat_maps(
    model: Classifier,
    pixels: np.ndarray,
    classes: np.ndarray,
    normalisation: Normalisation,
    execution: Execution,
    method: str,
) -> np.ndarray:
    """How much each place of an image speaks for a class: float32 (n, S, S) in [0, 1], each map scaled by its own maximum.

    Args:
        pixels: uint8 (n, 3, S, S).
        classes: int (n,), the class that each image's map is for.
        method: of METHODS.

    A map is zero everywhere where nothing speaks for the class, as when an activation after the head has put out its logit, or where the
    network's numbers are not finite.

    The first three weigh the channels of the last feature map before the pooling by the gradient of the class's logit, keep what is
    positive of their sum, and differ in the weights: its average over the map (Grad-CAM, Selvaraju et al., ICCV 2017), its positive part
    weighted by higher derivatives of the exponential of the logit (Grad-CAM++, Chattopadhay et al., WACV 2018), or its positive part place
    by place (LayerCAM, Jiang et al., IEEE TIP 2021). Maps are as coarse as the feature map and are enlarged bilinearly. Where the last map
    is a single place, as of small images, it is the last one that is larger.

    Attention roll-out (Abnar and Zuidema, ACL 2020) follows the attention of all blocks, heads averaged and each token's own added, from
    what the pooling reads back to the image: the class token, or the average of all places where it reads these. It is the same for every
    class: it shows where the network looked, not what for.

    All is computed in float32 in evaluation mode, and the model is left as it was. Raises InputError for a method that is not there or that
    the architecture cannot have, and ValueError where images and classes are not as many.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r} for heat maps", hint=f"Choose one of {', '.join(METHODS)}.")
    if len(pixels) != len(classes):
        raise ValueError(f"{len(pixels)} images and {len(classes)} classes do not fit together")
    if method == "rollout" and not _attentions(model.backbone):
        raise InputError(
            f"{model.architecture} has no one sequence of tokens whose attention could be rolled out", hint="Choose grad-cam instead."
        )
    size = pixels.shape[-1]
    maps = np.empty((len(pixels), size, size), np.float32)
    with evaluating(model), torch.autocast(execution.device.type, enabled=False):
        if method != "rollout" and not _ends_in_map(model.backbone, size, execution):
            raise _without_map(model)
        for start in range(0, len(pixels), _BATCH):
            part = slice(start, start + _BATCH)
            images = normalisation(torch.tensor(pixels[part], device=execution.device)).to(memory_format=execution.memory_format)
            if method == "rollout":
                coarse = _rolled_out(model, images)
            else:
                coarse = _weighted(*_features_and_gradients(model, images, torch.tensor(classes[part], device=execution.device)), method)
            maps[part] = _enlarged(coarse, size).cpu().numpy()
    return maps


def _enlarged(coarse: Tensor, size: int) -> Tensor:
    """Maps (n, h, w) at (n, size, size), scaled by their maxima."""
    fine = F.interpolate(coarse[:, None], (size, size), mode="bilinear")[:, 0]
    largest = fine.amax((1, 2), keepdim=True)
    return torch.where((largest > 0) & largest.isfinite(), fine / largest, 0)


def _weighted(features: Tensor, gradients: Tensor, method: str) -> Tensor:
    """What is positive in the weighted sum of channels: (n, C, h, w) and the gradient with respect to it -> (n, h, w)."""
    if method == "grad-cam":
        weights = gradients.mean((2, 3), keepdim=True)
    elif method == "layer-cam":
        weights = gradients.relu()
    else:
        # With exp(logit) as the score its k-th derivative is exp(logit) gradient^k. This is left of the paper's ratio of second and third
        # derivatives; exp(logit) scales the whole map. The paper's features are never negative; a sum of others counts as zero.
        share = 1 / (2 + features.sum((2, 3), keepdim=True).relu() * gradients.relu())
        weights = (share * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * features).sum(1).relu()


def _without_map(model: Classifier) -> InputError:
    return InputError(
        f"{model.architecture} does not end in one feature map in which a class could be located",
        hint="Choose rollout instead." if _attentions(model.backbone) else "No heat map can be made of this architecture.",
    )


@torch.no_grad()
def _ends_in_map(backbone: nn.Module, size: int, execution: Execution) -> bool:
    """Whether timm's last features are one map; so they are in torchvision's networks, which do not give them by themselves."""
    if not callable(forward_features := getattr(backbone, "forward_features", None)):
        return True
    features = forward_features(torch.zeros(1, 3, size, size, device=execution.device))
    return isinstance(features, Tensor) and features.ndim == 4


@torch.enable_grad()
def _features_and_gradients(model: Classifier, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The last feature map (n, C, h, w) that the logits depend on, and the gradient of each image's logit with respect to it."""
    # So that there is a graph where all parameters are frozen.
    images = images.requires_grad_()
    with _watching(model.backbone, images) as seen:
        logits = model(images)
    chosen = logits.gather(1, classes[:, None].long()).sum()
    for features in reversed(seen):
        (gradient,) = torch.autograd.grad(chosen, features, retain_graph=True, allow_unused=True)
        if gradient is not None:
            order = (0, 3, 1, 2) if _is_channels_last(features, model.backbone) else (0, 1, 2, 3)
            return features.detach().permute(order), gradient.permute(order)
    raise _without_map(model)


@contextmanager
def _watching(backbone: nn.Module, images: Tensor) -> Iterator[list[Tensor]]:
    """Collects what goes into and comes out of the modules and has places as a square, in the order in which it does; not the images."""
    seen: list[Tensor] = []

    def note(value: object) -> None:
        if isinstance(value, Tensor) and value is not images and value.ndim == 4 and value.requires_grad and len(value) == len(images):
            _, first, second, third = value.shape
            if (second == third and second > 1) or (first == second and first > 1):
                seen.append(value)

    with ExitStack() as hooks:
        for module in backbone.modules():
            # What goes in as well: a network may change the map between its last module and the pooling.
            hooks.callback(module.register_forward_pre_hook(lambda _module, inputs: note(inputs[0] if inputs else None)).remove)
            hooks.callback(module.register_forward_hook(lambda _module, _inputs, output: note(output)).remove)
        yield seen


def _is_channels_last(features: Tensor, backbone: nn.Module) -> bool:
    """Whether a map is (n, h, w, C): images are square, and so are their maps."""
    _, first, second, third = features.shape
    return first == second and (second != third or getattr(backbone, "output_fmt", "") == "NHWC")


def _attentions(backbone: nn.Module) -> list[Any]:
    """The attention of each block of a transformer of timm that keeps one flat sequence of tokens; nothing for other networks.

    Where there is more of it, as in CaiT and XCiT, whose last blocks serve the class token alone, it cannot be followed by blocks.
    """
    blocks = getattr(backbone, "blocks", None)
    if not isinstance(blocks, (nn.Sequential, nn.ModuleList)) or not isinstance(getattr(backbone, "num_prefix_tokens", None), int):
        return []
    found = [each for each in backbone.modules() if hasattr(each, "fused_attn") and isinstance(getattr(each, "attn_drop", None), nn.Module)]
    return found if len(found) == len(blocks) and set(found) <= set(blocks.modules()) else []


@torch.no_grad()
def _rolled_out(model: Classifier, images: Tensor) -> Tensor:
    """How much of each place reaches what the pooling reads: (n, h, w)."""
    backbone: Any = model.backbone  # a transformer of timm, whose attributes torch's types do not know
    flow: Tensor | None = None

    def follow(_module: nn.Module, _inputs: object, attention: Tensor) -> None:
        nonlocal flow
        step = attention.mean(1) + torch.eye(attention.shape[-1], device=attention.device)
        step = step / step.sum(-1, keepdim=True)
        flow = step if flow is None else step @ flow

    with _watching_attention(backbone, follow):
        model(images)
    assert flow is not None
    prefix = int(backbone.num_prefix_tokens)
    reads_class_token = getattr(backbone, "global_pool", "") == "token" and model.native_head.dropped is None
    read = flow[:, 0] if reads_class_token else flow[:, prefix:].mean(1)
    side = math.isqrt(read.shape[1] - prefix)
    return read[:, prefix:].unflatten(1, (side, side))


@contextmanager
def _watching_attention(backbone: nn.Module, follow: Callable[[nn.Module, object, Tensor], None]) -> Iterator[None]:
    """Inside the `with` block `follow` gets the attention (n, heads, N, N) of one block after the other."""
    with ExitStack() as undo:
        for attention in _attentions(backbone):
            # A fused kernel never has the matrix.
            undo.callback(setattr, attention, "fused_attn", attention.fused_attn)
            attention.fused_attn = False
            undo.callback(attention.attn_drop.register_forward_hook(follow).remove)
        yield
