"""The section `model`: the network, its head and its starting weights."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fieldmark.core.recipe.section import Fraction, Section, setting

WEIGHTS = (
    "model.weights is pretrained, none, a file of weights, or a run folder. Weights of timm on the hub are chosen by model.name, such as "
    "model.name=resnet18.a1_in1k."
)
"""What to say of weights that are not there."""


def _count(value: Any) -> Any:
    """Read 10M, 4.2M or 500k as a whole number."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG])", value)):
        return round(float(match[1]) * {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]])
    return value


def _name(value: Any) -> Any:
    """Read timm/NAME, hf-hub:timm/NAME and the address of its page as timm's NAME."""
    if isinstance(value, str) and (match := re.fullmatch(r"(?:https://huggingface\.co/|hf[-_]hub:)?timm/([^/:]+)/?", value.strip())):
        return match[1]
    return value


Count = Annotated[int, BeforeValidator(_count), Field(gt=0)]


class LinearHead(Section):
    name: Literal["linear"] = setting("linear", "one linear layer")


class HiddenHead(Section):
    name: Literal["hidden"] = setting("hidden", "a hidden layer before the linear one")
    width: Annotated[int, Field(ge=1)] = setting(512, "units of the hidden layer")
    activation: Literal["relu", "leaky-relu", "gelu"] = setting("relu", "activation of the hidden layer")
    dropout: Fraction = setting(0.0, "dropout after the activation")


class ActivatedLogits(Section):
    name: Literal["activated-logits"] = setting("activated-logits", "a linear layer with an activation and dropout of its class outputs")
    activation: Literal["relu", "leaky-relu"] = setting("relu", "activation of the class outputs")
    dropout: Fraction = setting(0.0, "dropout of the activated class outputs")


Head = LinearHead | HiddenHead | ActivatedLogits


class Model(Section):
    name: Annotated[str, BeforeValidator(_name)] = setting(
        "efficientnet_b0", "architecture: any timm model, torchvision's squeezenet and shufflenet, or one of ours"
    )
    weights: str = setting("pretrained", "pretrained (from the hub), none (random), a run folder, or a file of weights")
    max_parameters: Count | None = setting(None, "refuse a model with more parameters than this, such as 10M")
    max_latency_ms: Annotated[float, Field(gt=0)] | None = setting(
        None, "refuse a model that takes longer than this for one image, by PyTorch in float32 on this machine's processor"
    )
    width: Annotated[int, Field(ge=1)] | None = setting(None, "channels of the first convolution, for small_cnn and plain_cnn")
    depth: Annotated[int, Field(ge=1)] | None = setting(None, "number of stages, for plain_cnn")
    pooling: Literal["own", "average"] = setting(
        "own", "how features become one vector: as the architecture does it, or by averaging its last convolutions alone"
    )
    dropout: Fraction = setting(0.0, "dropout of the features before the head")
    drop_path: Fraction = setting(0.0, "stochastic depth in the backbone, for architectures that have it")
    head: Annotated[Head, Field(discriminator="name")] = setting(LinearHead(), "the classifier on the features")

    def structure(self) -> Model:
        """The same without starting weights and limits, which decide nothing about how the network is built."""
        return self.model_copy(update={"weights": "none", "max_parameters": None, "max_latency_ms": None})
