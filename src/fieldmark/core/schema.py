"""The recipe: one frozen, validated object holding everything that decides a run.

Every field has a type, a default, a meaning and, where it has one, a unit; `fieldmark fields` prints them. Choices between variants
(optimiser, schedule, crop, mixing) are tagged unions whose tag is `name`. What there may be several of (stages) is a list of sections.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fieldmark.core.errors import Problem

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Range = tuple[Positive, Positive]


def setting(default: Any, meaning: str, unit: str | None = None) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None)


class Conflict(ValueError):
    """What a section's check raises of settings that do not go together: a whole sentence, and the keys."""

    def __init__(self, what: str, *keys: str):
        self.problem = Problem(what, keys=keys)
        super().__init__(str(self.problem))


class Refused(ValueError):
    """What a section's check raises of one key, the first; the others are those that the key is measured against."""

    def __init__(self, what: str, key: str, *others: str):
        self.problem = Problem(what, place=key, keys=(key, *others))
        super().__init__(str(self.problem))


def _check_range(key: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise Refused(f"the first number ({bounds[0]:g}) is larger than the second ({bounds[1]:g})", key)


def _count(value: Any) -> Any:
    """Read 10M, 4.2M or 500k as a whole number."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG])", value)):
        return round(float(match[1]) * {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]])
    return value


Count = Annotated[int, BeforeValidator(_count), Field(gt=0)]


def _held_out(value: Any) -> Any:
    names = isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(name, str) for name in value)
    if not names and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise Refused(f"expected how many classes, at least 1, or a list of their names, got {value!r}", "data.unknown_classes")
    return tuple(value) if names else value


HeldOut = Annotated[int | tuple[str, ...], BeforeValidator(_held_out)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class WholeImage(Section):
    name: Literal["none"] = setting("none", "whole images")


class BoxCrop(Section):
    name: Literal["box"] = setting("box", "each image cropped to the box of its object; one without a box is seen whole")
    margin: Annotated[float, Field(ge=0, le=2)] = setting(0.0, "how much around the box is seen too, as a share of its sides")
    jitter: Annotated[float, Field(ge=0, le=0.5)] = setting(
        0.0, "in training each edge of the crop moves by up to this share of the box's side to either side"
    )


Crop = WholeImage | BoxCrop


class WholeTrain(Section):
    name: Literal["all"] = setting("all", "all of train")


class FractionOfTrain(Section):
    name: Literal["fraction"] = setting("fraction", "a share of each class of train, at least one image")
    share: Annotated[float, Field(gt=0, le=1)] = setting(0.1, "the share")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which images; a smaller share is a part of a larger one")


class PerClass(Section):
    name: Literal["per-class"] = setting("per-class", "so many images of each class of train: few-shot")
    count: Annotated[int, Field(ge=1)] = setting(5, "the number", "images")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which images; a smaller number is a part of a larger one")


class LongTailed(Section):
    name: Literal["long-tailed"] = setting("long-tailed", "classes of train that keep ever less, exponentially (Cui et al., 2019)")
    ratio: Annotated[float, Field(ge=1)] = setting(100.0, "share that the first class keeps over that of the last")
    seed: Annotated[int, Field(ge=0)] = setting(0, "the order of the classes, and which images they keep")


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
    unknown_classes: HeldOut | None = setting(
        None, "classes held out of training, to see whether they are rejected: so many, evenly spread over the names, or their names"
    )
    crop: Annotated[Crop, Field(discriminator="name")] = setting(WholeImage(), "what part of an image is seen")
    size: Annotated[int, Field(ge=16, le=2048)] = setting(224, "side of the square that the model sees", "pixels")
    resize: Literal["squash", "shorter-side", "letterbox"] = setting(
        "squash",
        "how an image becomes a square: squash its sides, cut the middle square, or fit it whole with grey bars",
    )
    cache_scale: Annotated[float, Field(ge=1, le=4)] = setting(
        1.5, "side of the decoded training images, which random crops are taken from, as a multiple of size"
    )
    storage: Literal["auto", "mapped", "resident"] = setting(
        "auto", "where decoded training images live: mapped from disk or resident on the device; auto: resident on a GPU if they fit"
    )
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "share of train that becomes val where the data has no val")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = setting(0.15, "share of all that becomes test where the data has no test")
    splits: Literal["official", "own"] = setting("official", "keep the splits that the data have, or draw all anew from all images")
    folds: Annotated[int, Field(ge=2)] | None = setting(None, "deal train into so many folds, one of which is val")
    fold: Annotated[int, Field(ge=0)] = setting(0, "which fold is val, from 0")
    subset: Annotated[Subset, Field(discriminator="name")] = setting(WholeTrain(), "which images of train are used")
    label_noise: Annotated[NoisyLabels, Field(discriminator="name")] = setting(TrueLabels(), "labels of train made wrong on purpose")
    corrupt: str = setting("none", "a corruption of all images and its severity, such as fog:3; none leaves them as they are")
    normalise: Literal["weights", "imagenet", "unit", "measured"] = setting(
        "weights",
        "mean and standard deviation: those of the starting weights, ImageNet's, none (values from 0 to 1), or measured on train",
    )
    split_seed: Annotated[int, Field(ge=0)] = setting(0, "seed of the splits that are drawn; separate from train.seed")
    max_unreadable: Probability = setting(0.01, "largest share of unreadable images that a run accepts")

    @model_validator(mode="after")
    def _folds(self) -> Data:
        if self.folds is None and self.fold:
            raise Conflict("data.fold has no effect without data.folds; set data.folds", "data.fold", "data.folds")
        if self.folds is not None and self.fold >= self.folds:
            raise Conflict(
                f"data.fold={self.fold} is not one of the {self.folds} folds; they are numbered from 0", "data.fold", "data.folds"
            )
        return self


class LinearHead(Section):
    name: Literal["linear"] = setting("linear", "one linear layer")


class HiddenHead(Section):
    name: Literal["hidden"] = setting("hidden", "a hidden layer before the linear one")
    width: Annotated[int, Field(ge=1)] = setting(512, "units of the hidden layer")
    activation: Literal["relu", "leaky-relu", "gelu"] = setting("relu", "what follows the hidden layer")
    dropout: Fraction = setting(0.0, "dropout after the activation")


class ActivatedLogits(Section):
    name: Literal["activated-logits"] = setting("activated-logits", "a linear layer whose class outputs are activated and dropped out")
    activation: Literal["relu", "leaky-relu"] = setting("relu", "what the class outputs go through")
    dropout: Fraction = setting(0.0, "dropout of the activated class outputs")


Head = LinearHead | HiddenHead | ActivatedLogits


class Model(Section):
    name: str = setting("efficientnet_b0", "architecture: any timm model, torchvision's squeezenet and shufflenet, or one of our own")
    weights: str = setting("pretrained", "pretrained (from the hub), none (random), or a safetensors file")
    max_parameters: Count | None = setting(None, "refuse a model with more parameters than this, such as 10M")
    width: Annotated[int, Field(ge=1)] | None = setting(None, "channels of the first convolution, for small_cnn and plain_cnn")
    depth: Annotated[int, Field(ge=1)] | None = setting(None, "number of stages, for plain_cnn")
    pooling: Literal["own", "average"] = setting(
        "own", "how an image's features become one vector: as the architecture does, or the average of its last convolutions alone"
    )
    dropout: Fraction = setting(0.0, "dropout of the features before the head")
    drop_path: Fraction = setting(0.0, "stochastic depth in the backbone, for architectures that have it")
    head: Annotated[Head, Field(discriminator="name")] = setting(LinearHead(), "the classifier on the features")


class LrFactor(Section):
    parameters: str = setting("head", "which parameters: a word or a name as in stages.trainable")
    factor: Positive = setting(10.0, "what their learning rate is multiplied by")


class Optimizer(Section):
    """What all optimisers have."""

    name: str
    lr: Positive = setting(1e-3, "peak learning rate")
    lr_factors: tuple[LrFactor, ...] = setting((), "learning rates of parts of the network as multiples of lr")
    weight_decay: NonNegative = setting(0.0, "weight decay")
    decay_norm_and_bias: bool = setting(False, "apply weight decay to normalisation weights and biases as well")

    @model_validator(mode="after")
    def _decay(self) -> Optimizer:
        if self.decay_norm_and_bias and self.weight_decay == 0:
            raise Conflict(
                "optim.decay_norm_and_bias has no effect without weight decay; set optim.weight_decay above 0",
                "optim.decay_norm_and_bias",
                "optim.weight_decay",
            )
        return self


class SGD(Optimizer):
    name: Literal["sgd"] = setting("sgd", "stochastic gradient descent with momentum")
    lr: Positive = setting(0.1, "peak learning rate")
    momentum: Fraction = setting(0.9, "momentum")
    nesterov: bool = setting(True, "Nesterov's momentum")
    weight_decay: NonNegative = setting(1e-4, "weight decay")


class Adam(Optimizer):
    name: Literal["adam"] = setting("adam", "Adam, with weight decay as an L2 penalty (Kingma and Ba, 2015)")
    betas: tuple[Fraction, Fraction] = setting((0.9, 0.999), "decay of the running mean of gradients and of their squares")
    eps: Positive = setting(1e-8, "added to the denominator")


class AdamW(Optimizer):
    name: Literal["adamw"] = setting("adamw", "Adam with decoupled weight decay (Loshchilov and Hutter, 2019)")
    betas: tuple[Fraction, Fraction] = setting((0.9, 0.999), "decay of the running mean of gradients and of their squares")
    eps: Positive = setting(1e-8, "added to the denominator")
    weight_decay: NonNegative = setting(0.05, "weight decay")


class RMSprop(Optimizer):
    name: Literal["rmsprop"] = setting("rmsprop", "RMSprop")
    alpha: Fraction = setting(0.99, "decay of the running mean of squared gradients")
    eps: Positive = setting(1e-8, "added to the denominator")
    momentum: Fraction = setting(0.0, "momentum")


class TimmOptimizer(Optimizer):
    name: Literal["timm"] = setting("timm", "any optimiser of timm by its name, with its own defaults")
    algorithm: str = setting("lamb", "its name in timm, such as lamb, lion or nadamw")


Optim = SGD | Adam | AdamW | RMSprop | TimmOptimizer


class Warmup(Section):
    """What schedules with a linear warmup have."""

    name: str
    warmup_epochs: NonNegative = setting(0.0, "linear warmup before it", "epochs")
    warmup_factor: Fraction = setting(0.01, "where warmup starts, as a multiple of lr")


class Cosine(Warmup):
    name: Literal["cosine"] = setting("cosine", "half a cosine from the peak to the floor, after the warmup")
    warmup_epochs: NonNegative = setting(1.0, "linear warmup before it", "epochs")
    floor_factor: Probability = setting(0.0, "where the cosine ends, as a multiple of lr")


class Constant(Warmup):
    name: Literal["constant"] = setting("constant", "the same learning rate throughout")


class Step(Warmup):
    name: Literal["step"] = setting("step", "multiplied by gamma every so many epochs, those of the warmup counted")
    every: Annotated[int, Field(ge=1)] = setting(10, "how often", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")


class MultiStep(Warmup):
    name: Literal["multi-step"] = setting("multi-step", "multiplied by gamma after each of these epochs, those of the warmup counted")
    after: tuple[Annotated[int, Field(ge=1)], ...] = setting((15, 25), "after which epochs", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")

    @model_validator(mode="after")
    def _ordered(self) -> MultiStep:
        if not self.after or list(self.after) != sorted(set(self.after)):
            raise Refused(f"expected epochs in rising order, such as [15, 25], got {list(self.after)}", "schedule.after")
        return self


class Plateau(Warmup):
    name: Literal["plateau"] = setting("plateau", "multiplied by gamma whenever a val figure has not improved for a while")
    monitor: Literal["top1", "macro_f1", "nll"] = setting("nll", "the val figure that is watched")
    patience: Annotated[int, Field(ge=0)] = setting(3, "epochs without a better figure that are let pass", "epochs")
    gamma: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "the factor")
    floor_factor: Probability = setting(0.0, "how far it goes down at most, as a multiple of lr")


class OneCycle(Section):
    name: Literal["one-cycle"] = setting("one-cycle", "up to the peak and down again, by half cosines (Smith and Topin, 2018)")
    rise: Annotated[float, Field(gt=0, lt=1)] = setting(0.3, "share of the steps until the peak")
    start_factor: Probability = setting(0.04, "where it starts, as a multiple of lr")
    floor_factor: Probability = setting(4e-6, "where it ends, as a multiple of lr")


class Polynomial(Warmup):
    name: Literal["polynomial"] = setting("polynomial", "a power of the share of steps that remain, after the warmup")
    power: Positive = setting(1.0, "the power; 1 is a straight line")
    floor_factor: Probability = setting(0.0, "where it ends, as a multiple of lr")


Schedule = Cosine | Constant | Step | MultiStep | Plateau | OneCycle | Polynomial


class Stage(Section):
    epochs: Annotated[int, Field(ge=1)] | None = setting(None, "how long; what remains of train.epochs for the last stage", "epochs")
    trainable: tuple[str, ...] = setting(
        ("all",),
        "what is trained: all, head, norm, last-block, the names of modules or parameters such as layer4, or patterns such as *.bn?.weight",
    )
    frozen_norm: Literal["held", "adapting"] = setting(
        "held", "whether batch norms whose weights are frozen keep their running statistics, and use them, or go on adapting to batches"
    )
    lr_factor: Positive = setting(1.0, "the learning rate of this stage as a multiple of optim.lr")
    restart: bool = setting(True, "whether the schedule begins anew, warmup included, or goes on from the stage before")
    views: Annotated[int, Field(ge=1)] | None = setting(
        None,
        "so many fixed random views of each image, which frozen layers see only once; ever new ones by default",
    )

    @model_validator(mode="after")
    def _something_frozen(self) -> Stage:
        if "all" in self.trainable and self.frozen_norm != "held":
            raise Refused("`frozen_norm` has no effect where `trainable` is all; leave it out", "stages")
        return self

    @model_validator(mode="after")
    def _something_trained(self) -> Stage:
        if not self.trainable:
            raise Refused("a stage's `trainable` names nothing; give it head, for instance", "stages")
        return self


class CrossEntropy(Section):
    name: Literal["cross-entropy"] = setting("cross-entropy", "softmax cross-entropy")
    label_smoothing: Fraction = setting(0.1, "share of the target that is spread over the classes")
    smoothing_over: Literal["all", "others"] = setting(
        "all",
        "over all K classes, as most libraries do, or over the K - 1 others, so that the right one keeps the rest whole",
    )

    @model_validator(mode="after")
    def _smoothing(self) -> CrossEntropy:
        if self.label_smoothing == 0 and self.smoothing_over != "all":
            raise Conflict(
                "loss.smoothing_over has no effect without label smoothing; set loss.label_smoothing above 0",
                "loss.smoothing_over",
                "loss.label_smoothing",
            )
        return self


class NoAverage(Section):
    name: Literal["none"] = setting("none", "the weights as they are trained")


class ExponentialAverage(Section):
    name: Literal["exponential"] = setting("exponential", "a moving average of the weights (Polyak and Juditsky, 1992)")
    decay: Annotated[float, Field(gt=0, lt=1)] = setting(0.999, "share of the average that an update keeps")
    every: Annotated[int, Field(ge=1)] = setting(1, "how often the average is updated", "steps")
    warmup: bool = setting(True, "update n keeps (1 + n) / (10 + n) where that is less, so that the average soon forgets its start")
    buffers: Literal["averaged", "copied"] = setting("averaged", "running statistics of batch norm: averaged too, or the newest")
    use: Literal["averaged", "better"] = setting(
        "averaged", "which weights val sees and the run keeps: the averaged ones, or whichever of the two are better on val"
    )


Average = NoAverage | ExponentialAverage


class RandomResizedCrop(Section):
    name: Literal["random-resized"] = setting("random-resized", "a random part of the image, resized (Szegedy et al., 2015)")
    area: Range = setting((0.35, 1.0), "share of the image's area that is kept, from and to")
    aspect: Range = setting((0.75, 1.3333), "change of aspect ratio, from and to")

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        _check_range("augment.crop.area", self.area)
        _check_range("augment.crop.aspect", self.aspect)
        if self.area[1] > 1:
            raise Refused("a crop cannot be larger than the image; use augment.zoom to shrink it", "augment.crop.area")
        return self


class PaddedCrop(Section):
    name: Literal["padded"] = setting("padded", "the whole image, shifted at random after padding with grey")
    padding: Annotated[float, Field(gt=0, le=0.5)] = setting(0.1, "padding on every side, as a share of the side")


class NoCrop(Section):
    name: Literal["none"] = setting("none", "the whole image, as in evaluation")


class NoPolicy(Section):
    name: Literal["none"] = setting("none", "no learned or random policy")


class TrivialAugment(Section):
    name: Literal["trivial"] = setting("trivial", "one operation of random strength, over a wide range (Mueller and Hutter, 2021)")


class RandAugment(Section):
    name: Literal["rand"] = setting("rand", "so many random operations of one strength (Cubuk et al., 2020)")
    operations: Annotated[int, Field(ge=1, le=8)] = setting(2, "how many operations")
    magnitude: Annotated[int, Field(ge=0, le=30)] = setting(9, "their strength, from 0 to 30")


class AutoAugment(Section):
    name: Literal["auto"] = setting("auto", "two operations of the policy that was learned on ImageNet (Cubuk et al., 2019)")


Policy = NoPolicy | TrivialAugment | RandAugment | AutoAugment


class NoErasing(Section):
    name: Literal["none"] = setting("none", "nothing is erased")


class _Erasing(Section):
    name: str
    probability: Probability = setting(0.25, "how often")
    area: Range = setting((0.02, 0.3333), "share of the view that is erased, from and to")
    aspect: Range = setting((0.3, 3.3333), "height over width of what is erased, from and to")

    @model_validator(mode="after")
    def _ordered(self) -> _Erasing:
        _check_range("augment.erase.area", self.area)
        _check_range("augment.erase.aspect", self.aspect)
        if self.area[1] > 1:
            raise Refused("no more than the whole image can be erased; give shares of at most 1", "augment.erase.area")
        return self


class NoiseErasing(_Erasing):
    name: Literal["noise"] = setting("noise", "a rectangle is filled with random values (random erasing, Zhong et al., 2020)")


class ZeroErasing(_Erasing):
    name: Literal["zero"] = setting("zero", "a rectangle is filled with the mean colour, which is zero after normalisation")


Erase = NoErasing | NoiseErasing | ZeroErasing


class NoMixing(Section):
    name: Literal["none"] = setting("none", "images are not mixed")


class Mixup(Section):
    name: Literal["mixup"] = setting("mixup", "two images and their labels are blended (Zhang et al., 2018)")
    alpha: Positive = setting(0.2, "both parameters of the Beta distribution that shares are drawn from")
    probability: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "how often an image is mixed")


class Cutmix(Section):
    name: Literal["cutmix"] = setting("cutmix", "a rectangle of another image is pasted in, labels shared by area (Yun et al., 2019)")
    alpha: Positive = setting(1.0, "both parameters of the Beta distribution that areas are drawn from")
    probability: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "how often an image is mixed")


class MixupOrCutmix(Section):
    name: Literal["either"] = setting("either", "for each image one of mixup and cutmix, as likely as the other")
    mixup_alpha: Positive = setting(0.2, "alpha of mixup")
    cutmix_alpha: Positive = setting(1.0, "alpha of cutmix")
    probability: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "how often an image is mixed")


Mix = NoMixing | Mixup | Cutmix | MixupOrCutmix


class Augment(Section):
    crop: Annotated[RandomResizedCrop | PaddedCrop | NoCrop, Field(discriminator="name")] = setting(
        RandomResizedCrop(), "which part of the image is seen"
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

    lighting: NonNegative = setting(0.0, "standard deviation of noise along the principal colours of ImageNet (Krizhevsky et al., 2012)")
    policy: Annotated[Policy, Field(discriminator="name")] = setting(NoPolicy(), "random operations beyond those above")
    erase: Annotated[Erase, Field(discriminator="name")] = setting(NoErasing(), "a rectangle of the view is erased")
    mix: Annotated[Mix, Field(discriminator="name")] = setting(NoMixing(), "images of a batch are mixed, and their labels")

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        _check_range("augment.zoom", self.zoom)
        return self


class Train(Section):
    epochs: Annotated[int, Field(ge=1)] = setting(30, "passes over the training images")
    batch: Annotated[int, Field(ge=1)] = setting(64, "images per step, over all devices together")
    micro_batch: Annotated[int, Field(ge=1)] | None = setting(
        None, "images that go through the network at a time, their gradients added up to those of the batch; all of it by default"
    )
    seed: Annotated[int, Field(ge=0)] = setting(0, "seed of initial weights, order, augmentation and dropout")
    patience: Annotated[int, Field(ge=1)] | None = setting(
        None, "stop after this many epochs without a better val figure, in the last stage", "epochs"
    )
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
    batch: Annotated[int, Field(ge=1)] = setting(128, "images per step")
    monitor: Literal["top1", "macro_f1", "nll"] = setting("top1", "the val figure that chooses the best epoch")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = setting(1000, "bootstrap resamples behind each interval")


class Recipe(Section):
    data: Data = Field(default_factory=Data, description="the images: size, splits, decoding")
    model: Model = Field(default_factory=Model, description="the network and its starting weights")
    optim: Annotated[Optim, Field(discriminator="name")] = setting(SGD(), "the optimiser")
    schedule: Annotated[Schedule, Field(discriminator="name")] = setting(Cosine(), "the learning rate over time")
    stages: tuple[Stage, ...] = setting((), "what is trained when; all of the network throughout by default")
    loss: Annotated[CrossEntropy, Field()] = setting(CrossEntropy(), "what is minimised")
    ema: Annotated[Average, Field(discriminator="name")] = setting(NoAverage(), "averaging of the weights")
    augment: Augment = Field(default_factory=Augment, description="random changes to training images")
    train: Train = Field(default_factory=Train, description="the loop: epochs, batch, seed, checkpoints, arithmetic")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="validation and test")

    @model_validator(mode="after")
    def _optimiser(self) -> Recipe:
        if isinstance(self.optim, SGD) and self.optim.nesterov and self.optim.momentum == 0:
            raise Conflict("optim.nesterov needs optim.momentum above 0", "optim.nesterov", "optim.momentum")
        return self

    @model_validator(mode="after")
    def _mixing(self) -> Recipe:
        if self.train.batch == 1 and not isinstance(self.augment.mix, NoMixing):
            raise Conflict("augment.mix has no effect on batches of one image; raise train.batch", "augment.mix.name", "train.batch")
        return self

    @model_validator(mode="after")
    def _micro_batch(self) -> Recipe:
        if self.train.micro_batch is not None and self.train.micro_batch >= self.train.batch:
            raise Conflict(
                f"train.micro_batch ({self.train.micro_batch}) has no effect beside train.batch ({self.train.batch})",
                "train.micro_batch",
                "train.batch",
            )
        return self

    @model_validator(mode="after")
    def _stage_lengths(self) -> Recipe:
        stages, total = self.stages, self.train.epochs
        if any(stage.epochs is None for stage in stages[:-1]):
            raise Refused("only the last stage may leave out its epochs", "stages")
        given = sum(stage.epochs or 0 for stage in stages)
        if stages and stages[-1].epochs is None and given >= total:
            raise Refused(f"all but the last take {given} epochs and leave none of train.epochs ({total})", "stages", "train.epochs")
        if stages and stages[-1].epochs is not None and given != total:
            raise Refused(
                f"they take {given} epochs, and train.epochs is {total}; leave out the epochs of the last", "stages", "train.epochs"
            )
        if stages and not stages[0].restart:
            raise Refused("the first stage has no stage before it whose schedule could go on; leave out its `restart`", "stages")
        return self

    @model_validator(mode="after")
    def _warmup(self) -> Recipe:
        schedule = self.schedule
        if isinstance(schedule, OneCycle):
            return self
        if schedule.warmup_epochs == 0 and schedule.warmup_factor != type(schedule).model_fields["warmup_factor"].default:
            raise Conflict(
                "schedule.warmup_factor has no effect without a warmup; set schedule.warmup_epochs above 0",
                "schedule.warmup_factor",
                "schedule.warmup_epochs",
            )
        shortest = min(epochs for _, epochs in self.schedule_spans())
        if schedule.warmup_epochs >= shortest and schedule.warmup_epochs > 0:
            span = "a stage" if self.stages else "train.epochs"
            raise Conflict(
                f"schedule.warmup_epochs ({schedule.warmup_epochs:g}) leaves nothing of {span} ({shortest}); lower schedule.warmup_epochs",
                "schedule.warmup_epochs",
                "stages" if self.stages else "train.epochs",
            )
        return self

    @model_validator(mode="after")
    def _steps_of_the_rate(self) -> Recipe:
        schedule, longest = self.schedule, max(epochs for _, epochs in self.schedule_spans())
        span, length = ("any stage", "stages") if self.stages else ("train.epochs", "train.epochs")
        if isinstance(schedule, Step) and schedule.every >= longest:
            raise Conflict(
                f"schedule.every ({schedule.every}) is never reached within {span} ({longest}); lower schedule.every",
                "schedule.every",
                length,
            )
        if isinstance(schedule, MultiStep) and schedule.after[-1] >= longest:
            raise Refused(f"epoch {schedule.after[-1]} is not before the end of {span} ({longest}); leave it out", "schedule.after", length)
        return self

    def stage_spans(self) -> tuple[tuple[int, int], ...]:
        """First epoch, from 0, and number of epochs of each stage; of the whole training where there are no stages."""
        spans, first = [], 0
        for stage in self.stages or (Stage(),):
            epochs = self.train.epochs - first if stage.epochs is None else stage.epochs
            spans.append((first, epochs))
            first += epochs
        return tuple(spans)

    def schedule_spans(self) -> tuple[tuple[int, int], ...]:
        """First epoch and number of epochs of each stretch that the schedule runs over once."""
        spans: list[tuple[int, int]] = []
        for stage, (first, epochs) in zip(self.stages or (Stage(),), self.stage_spans(), strict=True):
            if stage.restart or not spans:
                spans.append((first, epochs))
            else:
                spans[-1] = (spans[-1][0], spans[-1][1] + epochs)
        return tuple(spans)
