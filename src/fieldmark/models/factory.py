"""One factory for all architectures: a backbone that returns pooled features, dropout, a head."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import ValidationError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.drop import DropPath
from timm.models import PretrainedCfg, get_arch_name, get_pretrained_cfg, is_model
from torch import Tensor, nn

from fieldmark.core.errors import InputError, reason_of
from fieldmark.core.manifest import Preprocessing, StartingWeights
from fieldmark.core.names import suggest
from fieldmark.core.randomness import key
from fieldmark.core.recipe.model import Model
from fieldmark.models import hub, plain_cnn, resnext_vit, small_cnn  # noqa: F401  (register themselves with timm)
from fieldmark.models.given_weights import read_given_weights
from fieldmark.models.heads import build_head
from fieldmark.models.pooling import average_last_features
from fieldmark.models.weights import load_tensors
from fieldmark.models.weights_file import recorded

TORCHVISION = (
    "squeezenet1_0",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
)
_SHAPED = {"small_cnn": ("width",), "plain_cnn": ("width", "depth")}
"""Our own architectures whose width or depth is a setting."""


class Classifier(nn.Module):
    """`backbone` (float (B, 3, S, S) -> pooled features (B, D)), `dropout`, `head` (D -> C, see heads.py).

    Below `backbone.`, parameters keep their names in timm or torchvision.
    """

    def __init__(self, architecture: str, backbone: nn.Module, num_features: int, dropout: float, head: nn.Linear, native_head: NativeHead):
        super().__init__()
        self.architecture = architecture
        self.num_features = num_features
        self.num_classes = head.out_features
        self.native_head = native_head
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_features(x)[0]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and the pooled features (B, D) before dropout."""
        features = self.backbone(x)
        return self.head(self.dropout(features)), features


@dataclass(frozen=True)
class NativeHead:
    """The classifier of the architecture's library, which `head` replaces."""

    names: frozenset[str]
    """Names of its tensors."""
    linear: str | None
    """Its name if it is one linear layer on the pooled features, so that its weights fit `head`; None otherwise."""
    dropped: frozenset[str] | None = None
    """Names of the backbone's tensors that `model.pooling=average` leaves out; None if the pooling is the architecture's own."""


@dataclass(frozen=True)
class Built:
    model: Classifier
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    notes: tuple[str, ...]
    architecture: str
    trained: Preprocessing | None = None
    """How images were prepared for the starting weights, if their file says so."""
    weights: StartingWeights | None = None
    """The file that the recipe names; None for none, and for weights of the hub."""
    licence: str | None = None
    """Of weights of the hub."""


def build_model(recipe_model: Model, num_classes: int, size: int, seed: int, class_names: Sequence[str] = ()) -> Built:
    """The network of a recipe for images of `size` x `size` pixels, in training mode, on the CPU.

    With `class_names`, the classifier of a file that names its classes is matched by name.

    The same arguments always return the same weights; the state of PyTorch's global generator does not change. Raises InputError for an
    unknown name, a size that the architecture cannot take, settings that have no effect on it, and weights that cannot be obtained or do
    not fit.
    """
    name, weights = recipe_model.name, recipe_model.weights
    check_name(name)
    _check_shape(recipe_model)
    of_timm = name not in TORCHVISION and name not in resnext_vit.PARTS
    pretrained = hub.timm_file(name) if weights == "pretrained" and of_timm else None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(seed, "backbone"))
        native = _native(recipe_model, size, pretrained)
        tensors = native.state_dict()
        native_head = _remove_head(name, native)
        num_features = _num_features(recipe_model, native, size)
        if recipe_model.pooling == "average":
            native_head = NativeHead(native_head.names, None, average_last_features(native, name, size))
            num_features = _num_features(recipe_model, native, size)
        torch.default_generator.manual_seed(key(seed, "head"))
        head = build_head(recipe_model.head, num_features, num_classes)
        model = Classifier(get_arch_name(name), native, num_features, recipe_model.dropout, head, native_head)
    if len(list(model.parameters())) < len(list(model.named_parameters(remove_duplicate=False))):
        raise InputError(
            f"model.name: {name} shares parameters between its layers, which is not supported", hint="Choose another model.name."
        )
    config, trained, started, licence = _config(name), None, None, None
    if weights == "none":
        notes: tuple[str, ...] = ("weights: random",)
    elif weights != "pretrained":
        given = read_given_weights(weights)
        notes = load_tensors(model, given.tensors, str(given.file), metadata=given.metadata, class_names=class_names)
        trained, started = _prepared(given.metadata), recorded(given.file)
    elif isinstance(native, resnext_vit.ResNextVit):
        notes = load_tensors(model, *resnext_vit.pretrained_tensors(name, native))
    elif config is None:
        notes = load_tensors(model, hub.torchvision_tensors(name), f"{name} of torchvision")
    else:
        notes = load_tensors(model, tensors, f"{get_arch_name(name)}.{config.tag} of the hub")
        licence = config.license
    mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    if trained is not None:
        mean, std = trained.mean, trained.std
    return Built(model, _three(mean), _three(std), notes, model.architecture, trained, started, licence)


def model_names(pattern: str = "*") -> list[str]:
    """The architectures that the factory can build whose names match a shell pattern, sorted."""
    return sorted(fnmatch.filter([*timm.list_models(), *TORCHVISION], pattern))


def describe(name: str) -> tuple[int, bool]:
    """Usual side of an architecture's images, in pixels, and whether `pretrained` weights exist."""
    config = _config(name)
    return (config.input_size[-1], bool(config.hf_hub_id) or name in resnext_vit.PARTS) if config else (224, True)


def _prepared(metadata: Mapping[str, Any]) -> Preprocessing | None:
    """The preprocessing that Fieldmark records in its files of weights."""
    try:
        return Preprocessing.model_validate_json(json.dumps(metadata.get("preprocess")))
    except ValidationError:
        return None


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def check_name(name: str) -> None:
    if name in TORCHVISION:
        return
    if "/" in name or ":" in name:
        raise InputError(
            f"model.name: {name} is not a network of timm, and only those are built by name",
            hint="For weights of the hub in timm's naming, download their file and give both: model.name=ARCHITECTURE model.weights=FILE.",
        )
    if not is_model(name):
        near = suggest(name, model_names(), most=3)
        raise InputError(f"model.name: there is no model {name!r}{near}", hint="`fieldmark models PATTERN` lists the names.")
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
    """timm's configuration of the weights; None for torchvision's."""
    return None if name in TORCHVISION else get_pretrained_cfg(name)


def _check_shape(settings: Model) -> None:
    """Refuse a width or depth that the architecture does not have."""
    given = [key for key in ("width", "depth") if getattr(settings, key) is not None and key not in _SHAPED.get(settings.name, ())]
    if given:
        having = [f"model.{key} is for {' and '.join(name for name, keys in _SHAPED.items() if key in keys)}" for key in given]
        raise InputError(*(f"model.{key}: {settings.name} has no configurable {key}" for key in given), hint=f"{', '.join(having)}.")


def _create(settings: Model, size: int, pretrained: Path | None) -> nn.Module:
    """The architecture as its library builds it, with its own classifier."""
    name = settings.name
    if name in TORCHVISION:
        from torchvision.models import get_model

        return get_model(name, weights=None)
    options: dict[str, Any] = {key: getattr(settings, key) for key in _SHAPED.get(name, ()) if getattr(settings, key) is not None}
    config = _config(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    if pretrained is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(pretrained), "custom_load": False}}
    try:
        return timm.create_model(name, drop_path_rate=settings.drop_path, **options)  # passed even if 0: some default to more
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        return timm.create_model(name, **options)


def _native(settings: Model, size: int, pretrained: Path | None) -> nn.Module:
    if settings.depth is not None and (refusal := _refusal(settings, size)):  # before memory is allocated for too many stages
        raise _unusable(settings, size, refusal)
    try:
        native = _create(settings, size, pretrained)
    except Exception as error:  # architectures refuse a size in many ways: assertions, reshapes, empty pools
        raise _unusable(settings, size, error, pretrained) from error
    rate = settings.drop_path
    if rate > 0 and not any(isinstance(module, DropPath) and (module.drop_prob or 0) > 0 for module in native.modules()):
        raise InputError(
            f"model.drop_path: {settings.name} has no stochastic depth, so {rate:g} would have no effect", hint="Leave it at 0."
        )
    return native


def _run(module: nn.Module, size: int) -> Any:
    """The module's output for one black image; it is in training mode before and after."""
    module.eval()
    with torch.no_grad():
        output = module(torch.zeros(1, 3, size, size))
    module.train()
    return output


def _unusable(settings: Model, size: int, error: Exception, pretrained: Path | None = None) -> InputError:
    name = settings.name
    reason = reason_of(error)
    if _refusal(settings, size) is None:
        if pretrained is not None:
            return InputError(
                f"the pretrained weights of {name} cannot be loaded ({reason})", hint=f"Delete {pretrained} to fetch them again."
            )
        return InputError(f"model.name: {name} cannot be used as a classifier ({reason})", hint="Choose another model.name.")
    near = {describe(name)[0], max(size // 32, 1) * 32, (size // 32 + 1) * 32} - {size}
    fitting = [str(other) for other in sorted(near) if _refusal(settings, other) is None]
    otherwise = "Choose another model.name." if settings.depth is None else "Lower model.depth."
    hint = f"Sizes that it accepts: {', '.join(fitting)}." if fitting else otherwise
    return InputError(f"data.size: {name} cannot take {size} x {size}: {reason}", hint=hint)


def _refusal(settings: Model, size: int) -> Exception | None:
    """Why the architecture cannot take images of this size; None if it can."""
    try:
        with torch.device("meta"):
            _run(_create(settings, size, None), size)
    except Exception as error:  # as above
        return error
    return None


def _remove_head(name: str, native: nn.Module) -> NativeHead:
    """Remove the classifier, so that the module returns pooled features."""
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
        linear = None  # a ReLU comes between its classifier and the pooling
    return NativeHead(removed, linear)


def _num_features(settings: Model, backbone: nn.Module, size: int) -> int:
    try:
        features = _run(backbone, size)
    except Exception as error:  # as above
        raise _unusable(settings, size, error) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise InputError(f"model.name: {settings.name} does not return one feature vector per image", hint="Choose another model.name.")
    return features.shape[1]
