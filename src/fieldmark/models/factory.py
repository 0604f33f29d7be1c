"""One factory for all architectures: a backbone that gives pooled features, dropout, a linear head."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.drop import DropPath
from timm.models import PretrainedCfg, get_arch_name, get_pretrained_cfg, is_model
from torch import Tensor, nn

from fieldmark.core import schema
from fieldmark.core.errors import InputError
from fieldmark.core.randomness import key
from fieldmark.models import hub, small_cnn  # noqa: F401  (registers itself with timm)
from fieldmark.models.weights import load_tensors, load_weights

TORCHVISION = (
    "squeezenet1_0",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
)


class Classifier(nn.Module):
    """`backbone` (float (B, 3, S, S) -> pooled features (B, D)), `dropout`, `head` (Linear, D -> C).

    Beneath `backbone.` parameters keep the names that timm or torchvision gave them.
    """

    def __init__(
        self, architecture: str, backbone: nn.Module, num_features: int, num_classes: int, dropout: float, native_head: NativeHead
    ):
        super().__init__()
        self.architecture = architecture
        self.num_features = num_features
        self.num_classes = num_classes
        self.native_head = native_head
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_features(x)[0]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and the pooled features (B, D) before dropout."""
        features = self.backbone(x)
        return self.head(self.dropout(features)), features


@dataclass(frozen=True)
class NativeHead:
    """The classifier that the architecture's library gives it and that `head` stands in for."""

    names: frozenset[str]
    """Names of its tensors."""
    linear: str | None
    """Its name where it is one linear layer on the pooled features, so that its weights fit `head`; None otherwise."""


@dataclass(frozen=True)
class Built:
    model: Classifier
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    notes: tuple[str, ...]
    architecture: str


def build_model(recipe_model: schema.Model, num_classes: int, size: int, seed: int) -> Built:
    """The network of a recipe for pictures of `size` x `size` pixels, in training mode, on the CPU.

    The same arguments give the same weights whatever was drawn before; PyTorch's global generator is left as it was.
    Raises InputError for an unknown name, a size that the architecture cannot take, drop_path where it has none, and weights that
    cannot be had or do not fit.
    """
    name, weights = recipe_model.name, recipe_model.weights
    check_name(name)
    pretrained = hub.timm_file(name) if weights == "pretrained" and name not in TORCHVISION else None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(seed, "backbone"))
        native = _native(name, size, recipe_model.drop_path, pretrained)
        tensors = native.state_dict()
        native_head = _remove_head(name, native)
        num_features = _num_features(name, native, size)
        torch.default_generator.manual_seed(key(seed, "head"))
        model = Classifier(get_arch_name(name), native, num_features, num_classes, recipe_model.dropout, native_head)
    config = _config(name)
    if weights == "none":
        notes: tuple[str, ...] = ("weights: random",)
    elif weights != "pretrained":
        notes = load_weights(model, Path(weights).expanduser())
    elif config is None:
        notes = load_tensors(model, hub.torchvision_tensors(name), f"{name} of torchvision")
    else:
        notes = load_tensors(model, tensors, f"{get_arch_name(name)}.{config.tag} of the hub")
    mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return Built(model, _three(mean), _three(std), notes, model.architecture)


def model_names(pattern: str = "*") -> list[str]:
    """Every architecture that the factory builds and whose name matches a shell pattern, sorted."""
    return sorted(fnmatch.filter([*timm.list_models(), *TORCHVISION], pattern))


def describe(name: str) -> tuple[int, bool]:
    """Usual side of an architecture's pictures, in pixels, and whether `pretrained` weights exist."""
    config = _config(name)
    return (config.input_size[-1], bool(config.hf_hub_id)) if config else (224, True)


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def check_name(name: str) -> None:
    if name in TORCHVISION:
        return
    if not is_model(name):
        close = difflib.get_close_matches(name, model_names(), n=3, cutoff=0.5)
        suggestion = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"model.name: there is no model {name!r}{suggestion}", hint="`fieldmark models PATTERN` lists the names.")
    try:
        get_pretrained_cfg(name)
    except RuntimeError:
        architecture, _, tag = name.partition(".")
        tagged = timm.list_models(f"{architecture}.*", pretrained=True)
        raise InputError(
            f"model.name: {architecture} has no weights tagged {tag!r}",
            hint=f"There are {', '.join(tagged)}." if tagged else "It has no pretrained weights at all.",
        ) from None


def _config(name: str) -> PretrainedCfg | None:
    """What timm knows of the weights; None for torchvision's."""
    return None if name in TORCHVISION else get_pretrained_cfg(name)


def _create(name: str, size: int, drop_path: float, pretrained: Path | None) -> nn.Module:
    """The architecture as its library makes it, with its own classifier."""
    if name in TORCHVISION:
        from torchvision.models import get_model

        return get_model(name, weights=None)
    options: dict[str, Any] = {}
    config = _config(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    if pretrained is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(pretrained), "custom_load": False}}
    try:
        return timm.create_model(name, drop_path_rate=drop_path, **options)  # said even when 0: some have a default above
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        return timm.create_model(name, **options)


def _native(name: str, size: int, drop_path: float, pretrained: Path | None) -> nn.Module:
    try:
        native = _create(name, size, drop_path, pretrained)
    except Exception as error:  # architectures refuse a size in many ways: assertions, reshapes, empty pools
        raise _unusable(name, size, error, pretrained) from error
    if drop_path > 0 and not any(isinstance(module, DropPath) and (module.drop_prob or 0) > 0 for module in native.modules()):
        raise InputError(f"model.drop_path: {name} has no stochastic depth, so {drop_path:g} would have no effect", hint="Leave it at 0.")
    return native


def _run(module: nn.Module, size: int) -> Any:
    """What the module gives for one empty picture; it is in training mode before and after."""
    module.eval()
    with torch.no_grad():
        output = module(torch.zeros(1, 3, size, size))
    module.train()
    return output


def _unusable(name: str, size: int, error: Exception, pretrained: Path | None = None) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if _takes(name, size):
        if pretrained is not None:
            return InputError(
                f"the pretrained weights of {name} cannot be loaded ({reason})", hint=f"Delete {pretrained} to fetch them again."
            )
        return InputError(f"model.name: {name} cannot be used as a classifier ({reason})", hint="Choose another model.name.")
    near = {describe(name)[0], max(size // 32, 1) * 32, (size // 32 + 1) * 32} - {size}
    fitting = [str(other) for other in sorted(near) if _takes(name, other)]
    hint = f"Sizes that it takes: {', '.join(fitting)}." if fitting else "Choose another model.name."
    return InputError(f"data.size: {name} cannot take {size} x {size}: {reason}", hint=hint)


def _takes(name: str, size: int) -> bool:
    try:
        with torch.device("meta"):
            _run(_create(name, size, 0.0, None), size)
    except Exception:  # as above
        return False
    return True


def _remove_head(name: str, native: nn.Module) -> NativeHead:
    """Take the classifier off, so that the module gives pooled features."""
    names = set(native.state_dict())
    if name.startswith("squeezenet"):
        native.classifier = nn.AdaptiveAvgPool2d(1)
    elif name in TORCHVISION:
        native.fc = nn.Identity()
    elif callable(reset := getattr(native, "reset_classifier", None)):
        reset(0)
    else:
        raise InputError(f"model.name: {name} is not a classifier", hint="Choose another model.name.")
    removed = frozenset(names - set(native.state_dict()))
    linear = next((each.removesuffix(".weight") for each in removed if removed == {each, each.removesuffix("weight") + "bias"}), None)
    if name.startswith("squeezenet"):
        linear = None  # a ReLU stands between its classifier and the pooling
    return NativeHead(removed, linear)


def _num_features(name: str, backbone: nn.Module, size: int) -> int:
    try:
        features = _run(backbone, size)
    except Exception as error:  # as above
        raise _unusable(name, size, error) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise InputError(f"model.name: {name} does not give one vector of features per picture", hint="Choose another model.name.")
    return features.shape[1]
