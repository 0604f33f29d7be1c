"""The recipe: one frozen, validated object holding everything that decides a run.

Every field has a type, a default, a meaning and, where it has one, a unit; `fieldmark fields` prints them. Choices between variants
(optimiser, schedule, loss, crop) are tagged unions whose tag is `name`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Range = tuple[Positive, Positive]


def setting(default: Any, meaning: str, unit: str | None = None) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None)


def _check_range(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name}: the first number ({bounds[0]:g}) is larger than the second ({bounds[1]:g})")


def _count(value: Any) -> Any:
    """Read 10M, 4.2M or 500k as a whole number."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG])", value)):
        return round(float(match[1]) * {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]])
    return value


Count = Annotated[int, BeforeValidator(_count), Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class WholePicture(Section):
    name: Literal["none"] = setting("none", "whole pictures")


class BoxCrop(Section):
    name: Literal["box"] = setting("box", "each picture cropped to the box of its object; one without a box is seen whole")
    margin: Annotated[float, Field(ge=0, le=2)] = setting(0.0, "how much around the box is seen too, as a share of its sides")
    jitter: Annotated[float, Field(ge=0, le=0.5)] = setting(
        0.0, "in training each edge of the crop moves by up to this share of the box's side to either side"
    )


Crop = WholePicture | BoxCrop


class WholeTrain(Section):
    name: Literal["all"] = setting("all", "all of train")


class FractionOfTrain(Section):
    name: Literal["fraction"] = setting("fraction", "a share of each class of train, at least one picture")
    share: Annotated[float, Field(gt=0, le=1)] = setting(0.1, "the share")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which pictures; a smaller share is a part of a larger one")


class PerClass(Section):
    name: Literal["per-class"] = setting("per-class", "so many pictures of each class of train: few-shot")
    count: Annotated[int, Field(ge=1)] = setting(5, "the number", "pictures")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which pictures; a smaller number is a part of a larger one")


class LongTailed(Section):
    name: Literal["long-tailed"] = setting("long-tailed", "classes of train that keep ever less, exponentially (Cui et al., 2019)")
    ratio: Annotated[float, Field(ge=1)] = setting(100.0, "share that the first class keeps over that of the last")
    seed: Annotated[int, Field(ge=0)] = setting(0, "the order of the classes, and which pictures they keep")


Subset = WholeTrain | FractionOfTrain | PerClass | LongTailed


class TrueLabels(Section):
    name: Literal["none"] = setting("none", "labels as they are")


class UniformNoise(Section):
    name: Literal["uniform"] = setting("uniform", "a share of the labels of train replaced by any other class")
    share: Probability = setting(0.2, "the share")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which labels, and what they become")


class Siblings(Section):
    name: Literal["siblings"] = setting("siblings", "a share of the labels of train replaced by another class with the same parent")
    share: Probability = setting(0.2, "the share")
    level: str | None = setting(None, "the level of the taxonomy whose parents count; the first one by default")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which labels, and what they become")


NoisyLabels = TrueLabels | UniformNoise | Siblings


class Data(Section):
    layout: Literal[
        "auto",
        "cub",
        "nabirds",
        "stanford-cars",
        "cifar100",
        "aircraft",
        "flowers",
        "pets",
        "dogs",
        "coco",
        "huggingface",
        "webdataset",
        "table",
        "birds",
        "class-folders",
    ] = setting("auto", "how DATA is laid out; auto recognises it")
    columns: str | None = setting(None, "which column of a table is what, such as label=species,parents=genus; by their names by default")
    taxonomy: str = setting("auto", "parents of the classes: auto (from the data), none, or a table with a column for each level")
    level: str | None = setting(None, "the level of the taxonomy that is told apart, such as genus; the classes themselves by default")
    classes: Annotated[int, Field(ge=2)] | None = setting(None, "only so many of the classes, evenly spread over the list of their names")
    crop: Annotated[Crop, Field(discriminator="name")] = setting(WholePicture(), "what part of a picture is seen")
    size: Annotated[int, Field(ge=16, le=2048)] = setting(224, "side of the square that the model sees", "pixels")
    resize: Literal["squash", "shorter-side", "letterbox"] = setting(
        "squash",
        "how a picture becomes a square: squash its sides, cut the middle square, or fit it whole with grey bars",
    )
    cache_scale: Annotated[float, Field(ge=1, le=4)] = setting(
        1.5, "side of the decoded training pictures, which random crops are taken from, as a multiple of size"
    )
    storage: Literal["auto", "mapped", "resident"] = setting(
        "auto", "where decoded training pictures live: mapped from disk or resident on the device; auto: resident on a GPU if they fit"
    )
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "share of train that becomes val where the data has no val")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = setting(0.15, "share of all that becomes test where the data has no test")
    splits: Literal["official", "own"] = setting("official", "keep the splits that the data have, or draw all anew from all pictures")
    folds: Annotated[int, Field(ge=2)] | None = setting(None, "deal train into so many folds, one of which is val")
    fold: Annotated[int, Field(ge=0)] = setting(0, "which fold is val, from 0")
    subset: Annotated[Subset, Field(discriminator="name")] = setting(WholeTrain(), "which pictures of train are used")
    label_noise: Annotated[NoisyLabels, Field(discriminator="name")] = setting(TrueLabels(), "labels of train made wrong on purpose")
    corrupt: str = setting("none", "a corruption of all pictures and its severity, such as fog:3; none leaves them as they are")
    normalise: Literal["weights", "imagenet", "unit", "measured"] = setting(
        "weights",
        "mean and standard deviation: those of the starting weights, ImageNet's, none (values from 0 to 1), or measured on train",
    )
    split_seed: Annotated[int, Field(ge=0)] = setting(0, "seed of the splits that are drawn; separate from train.seed")
    max_unreadable: Probability = setting(0.01, "largest share of unreadable pictures that a run accepts")

    @model_validator(mode="after")
    def _folds(self) -> Data:
        if self.folds is None and self.fold:
            raise ValueError("data.fold has no effect without data.folds; set data.folds")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"data.fold={self.fold} is not one of the {self.folds} folds; they are numbered from 0")
        return self


class Model(Section):
    name: str = setting("efficientnet_b0", "architecture: any timm model, or torchvision's squeezenet and shufflenet")
    weights: str = setting("pretrained", "pretrained (from the hub), none (random), or a safetensors file")
    max_parameters: Count | None = setting(None, "refuse a model with more parameters than this, such as 10M")
    dropout: Fraction = setting(0.0, "dropout before the classifier")
    drop_path: Fraction = setting(0.0, "stochastic depth in the backbone, for architectures that have it")


class SGD(Section):
    name: Literal["sgd"] = setting("sgd", "stochastic gradient descent with momentum")
    lr: Positive = setting(0.1, "peak learning rate")
    momentum: Fraction = setting(0.9, "momentum")
    nesterov: bool = setting(True, "Nesterov's momentum")
    weight_decay: NonNegative = setting(1e-4, "weight decay")
    decay_norm_and_bias: bool = setting(False, "apply weight decay to normalisation weights and biases as well")
    head_lr_factor: Positive = setting(1.0, "learning rate of the classifier as a multiple of lr")


class AdamW(Section):
    name: Literal["adamw"] = setting("adamw", "Adam with decoupled weight decay")
    lr: Positive = setting(1e-3, "peak learning rate")
    betas: tuple[Fraction, Fraction] = setting((0.9, 0.999), "decay of the running mean of gradients and of their squares")
    eps: Positive = setting(1e-8, "added to the denominator")
    weight_decay: NonNegative = setting(0.05, "weight decay")
    decay_norm_and_bias: bool = setting(False, "apply weight decay to normalisation weights and biases as well")
    head_lr_factor: Positive = setting(1.0, "learning rate of the classifier as a multiple of lr")


class Cosine(Section):
    name: Literal["cosine"] = setting("cosine", "half a cosine from the peak to the floor")
    warmup_epochs: NonNegative = setting(1.0, "linear warmup before it", "epochs")
    warmup_factor: Fraction = setting(0.01, "where warmup starts, as a multiple of lr")
    floor_factor: Probability = setting(0.0, "where the cosine ends, as a multiple of lr")


class Constant(Section):
    name: Literal["constant"] = setting("constant", "the same learning rate throughout")
    warmup_epochs: NonNegative = setting(0.0, "linear warmup before it", "epochs")
    warmup_factor: Fraction = setting(0.01, "where warmup starts, as a multiple of lr")


class CrossEntropy(Section):
    name: Literal["cross-entropy"] = setting("cross-entropy", "softmax cross-entropy")
    label_smoothing: Fraction = setting(0.1, "share of the target spread evenly over all classes")


class RandomResizedCrop(Section):
    name: Literal["random-resized"] = setting("random-resized", "a random part of the picture, resized (Szegedy et al., 2015)")
    area: Range = setting((0.35, 1.0), "share of the picture's area that is kept, from and to")
    aspect: Range = setting((0.75, 1.3333), "change of aspect ratio, from and to")

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        _check_range("augment.crop.area", self.area)
        _check_range("augment.crop.aspect", self.aspect)
        if self.area[1] > 1:
            raise ValueError("augment.crop.area: a crop cannot be larger than the picture; use augment.zoom to shrink it")
        return self


class PaddedCrop(Section):
    name: Literal["padded"] = setting("padded", "the whole picture, shifted at random after padding with its edge")
    padding: Annotated[float, Field(gt=0, le=0.5)] = setting(0.1, "padding on every side, as a share of the side")


class NoCrop(Section):
    name: Literal["none"] = setting("none", "the whole picture, as in evaluation")


class Augment(Section):
    crop: Annotated[RandomResizedCrop | PaddedCrop | NoCrop, Field(discriminator="name")] = setting(
        RandomResizedCrop(), "which part of the picture is seen"
    )
    flip: Probability = setting(0.5, "probability of a horizontal flip")
    rotate: Annotated[float, Field(ge=0, le=180)] = setting(0.0, "largest rotation to either side", "degrees")
    zoom: Range = setting((1.0, 1.0), "magnification about the centre, from and to")
    translate: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "largest shift, as a share of the side")
    shear: Annotated[float, Field(ge=0, lt=90)] = setting(0.0, "largest horizontal shear to either side", "degrees")
    perspective: Probability = setting(0.0, "largest displacement of the corners, as a share of half the side")
    brightness: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "brightness is multiplied by up to 1 ± this")
    contrast: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "contrast is multiplied by up to 1 ± this")
    saturation: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "saturation is multiplied by up to 1 ± this")
    hue: Annotated[float, Field(ge=0, le=0.5)] = setting(0.0, "hue is turned by up to ± this share of the colour circle")

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        _check_range("augment.zoom", self.zoom)
        return self


class Train(Section):
    epochs: Annotated[int, Field(ge=1)] = setting(30, "passes over the training pictures")
    batch: Annotated[int, Field(ge=1)] = setting(64, "pictures per step, over all devices together")
    seed: Annotated[int, Field(ge=0)] = setting(0, "seed of initial weights, order, augmentation and dropout")
    patience: Annotated[int, Field(ge=1)] | None = setting(None, "stop after this many epochs without a better val figure", "epochs")
    refit: bool = setting(False, "afterwards train once more on train and val together, for the epochs that val chose")
    clip_norm: Positive | None = setting(None, "scale gradients down to at most this norm")
    checkpoint_minutes: Positive = setting(5.0, "time between checkpoints within an epoch", "minutes")
    keep_checkpoints: Annotated[int, Field(ge=1)] = setting(2, "how many of the newest checkpoints stay")
    log_every: Annotated[int, Field(ge=1)] = setting(10, "write a line to steps.jsonl this often", "steps")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "arithmetic of the network; auto measures")
    memory_format: Literal["auto", "contiguous", "channels-last"] = setting("auto", "layout of tensors in memory; auto measures")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train; auto takes a GPU if there is one")
    threads: Annotated[int, Field(ge=1)] | None = setting(None, "CPU threads; all cores by default")
    tensorboard: bool = setting(False, "write TensorBoard events too (needs the extra fieldmark[tensorboard])")


class Evaluate(Section):
    batch: Annotated[int, Field(ge=1)] = setting(128, "pictures per step")
    monitor: Literal["top1", "macro_f1", "nll"] = setting("top1", "the val figure that chooses the best epoch")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = setting(1000, "bootstrap resamples behind each interval")


class Recipe(Section):
    data: Data = Field(default_factory=Data, description="the pictures: size, splits, decoding")
    model: Model = Field(default_factory=Model, description="the network and its starting weights")
    optim: Annotated[SGD | AdamW, Field(discriminator="name")] = setting(SGD(), "the optimiser")
    schedule: Annotated[Cosine | Constant, Field(discriminator="name")] = setting(Cosine(), "the learning rate over time")
    loss: Annotated[CrossEntropy, Field()] = setting(CrossEntropy(), "what is minimised")
    augment: Augment = Field(default_factory=Augment, description="random changes to training pictures")
    train: Train = Field(default_factory=Train, description="the loop: epochs, batch, seed, checkpoints, arithmetic")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="validation and test")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.schedule.warmup_epochs >= self.train.epochs and self.schedule.warmup_epochs > 0:
            raise ValueError(
                f"schedule.warmup_epochs ({self.schedule.warmup_epochs:g}) leaves nothing of train.epochs ({self.train.epochs}); "
                "lower schedule.warmup_epochs"
            )
        schedule = self.schedule
        if schedule.warmup_epochs == 0 and schedule.warmup_factor != type(schedule).model_fields["warmup_factor"].default:
            raise ValueError("schedule.warmup_factor has no effect without a warmup; set schedule.warmup_epochs above 0")
        if isinstance(self.optim, SGD) and self.optim.nesterov and self.optim.momentum == 0:
            raise ValueError("optim.nesterov needs optim.momentum above 0")
        return self
