"""The section `data`: the images, their splits, what is seen of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fieldmark.core.recipe.section import Conflict, Probability, Refused, Section, setting

MissingLabels = Literal["words", "blank"]
SeveralObjects = Literal["ask", "largest", "leave-out"]
Resize = Literal["squash", "shorter-side", "letterbox"]


def _held_out(value: Any) -> Any:
    names = isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(name, str) for name in value)
    if not names and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise Refused(f"expected how many classes, at least 1, or a list of their names, got {value!r}", "data.unknown_classes")
    return tuple(value) if names else value


_CLASS_LEVELS = re.compile(r"([1-9]\d?)(-([1-9]\d?)?)?")


def class_levels(depth: int | str) -> tuple[int, int | None]:
    """The first and last folder level that `data.class_depth` says name the class, counted from 1; None for the innermost.

    Raises ValueError for what is neither "N", "N-M" nor "N-".
    """
    found = _CLASS_LEVELS.fullmatch(str(depth)) if isinstance(depth, (int, str)) and not isinstance(depth, bool) else None
    if found is None:
        raise ValueError(f"expected a folder level such as 1, or several such as 2-3 or 2-, got {depth!r}")
    first = int(found[1])
    last = None if found[2] == "-" else int(found[3] or first)
    if last is not None and last < first:
        raise ValueError(f"the last level ({last}) is above the first ({first})")
    return first, last


def _class_depth(value: Any) -> Any:
    try:
        if value is not None:
            class_levels(value)
    except ValueError as error:
        raise Refused(str(error), "data.class_depth") from None
    return value


ClassDepth = Annotated[int | str | None, BeforeValidator(_class_depth)]
HeldOut = Annotated[int | tuple[str, ...], BeforeValidator(_held_out)]


class WholeImage(Section):
    name: Literal["none"] = setting("none", "whole images")


class BoxCrop(Section):
    name: Literal["box"] = setting("box", "each image cropped to the box of its object; an image without a box stays whole")
    margin: Annotated[float, Field(ge=0, le=2)] = setting(0.0, "margin around the box, as a share of its sides")
    jitter: Annotated[float, Field(ge=0, le=0.5)] = setting(
        0.0, "in training each edge of the crop moves in or out by at most this share of the box's side"
    )


Crop = WholeImage | BoxCrop


class WholeTrain(Section):
    name: Literal["all"] = setting("all", "all of train")


class FractionOfTrain(Section):
    name: Literal["fraction"] = setting("fraction", "a share of each class of train, at least one image")
    share: Annotated[float, Field(gt=0, le=1)] = setting(0.1, "the share of each class")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which images; a smaller share is part of a larger one")


class PerClass(Section):
    name: Literal["per-class"] = setting("per-class", "a number of images of each class of train: few-shot")
    count: Annotated[int, Field(ge=1)] = setting(5, "images per class", "images")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which images; a smaller number is part of a larger one")


class LongTailed(Section):
    name: Literal["long-tailed"] = setting("long-tailed", "classes of train that keep exponentially fewer images (Cui et al., 2019)")
    ratio: Annotated[float, Field(ge=1)] = setting(100.0, "ratio of the share that the first class keeps to that of the last")
    seed: Annotated[int, Field(ge=0)] = setting(0, "the order of the classes, and which images they keep")


Subset = WholeTrain | FractionOfTrain | PerClass | LongTailed


class TrueLabels(Section):
    name: Literal["none"] = setting("none", "the labels of the data")


class UniformNoise(Section):
    name: Literal["uniform"] = setting("uniform", "a share of train's labels replaced by any other class")
    share: Probability = setting(0.2, "the share of labels")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which labels, and what they become")


class Siblings(Section):
    name: Literal["siblings"] = setting("siblings", "a share of train's labels replaced by another class with the same parent")
    share: Probability = setting(0.2, "the share of labels")
    level: str | None = setting(None, "taxonomy level of the parents; the first one by default")
    seed: Annotated[int, Field(ge=0)] = setting(0, "which labels, and what they become")


NoisyLabels = TrueLabels | UniformNoise | Siblings


LayoutName = Literal[
    "cub",
    "nabirds",
    "stanford-cars",
    "cifar10",
    "cifar100",
    "aircraft",
    "flowers",
    "pets",
    "dogs",
    "food101",
    "tiny-imagenet",
    "gtsrb",
    "coco",
    "voc",
    "path-lists",
    "huggingface",
    "webdataset",
    "table",
    "birds",
    "class-folders",
]
"""The layouts that can be read: each in the module of its name in datasets/layouts/, `stanford-cars` in stanford_cars.py."""


class Data(Section):
    layout: Literal["auto", LayoutName] = setting("auto", "how DATA is laid out; auto recognises it")
    columns: str | None = setting(
        None,
        "what a table's columns hold, such as label=species,parents=genus, or group= for none; read off their names by default",
    )
    images: str | None = setting(None, "folder in which the images that a table names are looked up, relative to the table")
    suffix: str | None = setting(None, "what is added to the names in a table, such as .jpg; found by itself if only one fits")
    missing_labels: MissingLabels = setting(
        "words", "labels in a table that say that there is none: blank ones and words such as nan, None and N/A, or blank ones alone"
    )
    several_objects: SeveralObjects = setting(
        "ask", "an image of COCO or VOC that shows several classes: refused, labelled as its largest box, or left out"
    )
    class_depth: ClassDepth = setting(
        None,
        "which folder on the way from DATA to an image names its class: its level, from 1, or several as 2-3 or 2-; found out by default",
    )
    taxonomy: str = setting("auto", "parents of the classes: auto (from the data), none, or a table with a column per level")
    level: str | None = setting(None, "taxonomy level to classify, such as genus; the classes themselves by default")
    classes: Annotated[int, Field(ge=2)] | None = setting(None, "use only this many classes, evenly spread over the list of their names")
    unknown_classes: HeldOut | None = setting(
        None, "classes held out of training, to see whether they are rejected: a number, evenly spread over the names, or the names"
    )
    crop: Annotated[Crop, Field(discriminator="name")] = setting(WholeImage(), "which part of an image is used")
    size: Annotated[int, Field(ge=16, le=2048)] = setting(224, "side of the square that the model is given", "pixels")
    resize: Resize = setting(
        "squash",
        "how an image becomes a square: squash it, cut out the middle square, or fit it whole with grey bars",
    )
    cache_scale: Annotated[float, Field(ge=1, le=4)] = setting(
        1.5, "side of the decoded training images, from which random crops are taken, as a multiple of size"
    )
    storage: Literal["auto", "mapped", "resident"] = setting(
        "auto", "where decoded training images are kept: mapped from disk, or resident on the device; auto: resident on a GPU if they fit"
    )
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "share of train that becomes val if the data have no val")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = setting(0.15, "share of all images that becomes test if the data have no test")
    splits: Literal["official", "own"] = setting("official", "keep the splits of the data, or draw new ones from all images")
    folds: Annotated[int, Field(ge=2)] | None = setting(None, "divide train into this many folds, one of which is val")
    fold: Annotated[int, Field(ge=0)] = setting(0, "which fold is val, from 0")
    subset: Annotated[Subset, Field(discriminator="name")] = setting(WholeTrain(), "which images of train are used")
    label_noise: Annotated[NoisyLabels, Field(discriminator="name")] = setting(TrueLabels(), "train labels made wrong on purpose")
    corrupt: str = setting("none", "a corruption of all images and its severity, such as fog:3, or none")
    normalise: Literal["weights", "imagenet", "unit", "measured"] = setting(
        "weights",
        "mean and standard deviation: those of the starting weights, ImageNet's, none (values from 0 to 1), or measured on train",
    )
    split_seed: Annotated[int, Field(ge=0)] = setting(0, "seed of the splits that are drawn, separate from train.seed")
    max_unreadable: Probability = setting(0.01, "largest share of unreadable images that a run accepts")

    @model_validator(mode="after")
    def _folds(self) -> Data:
        if self.folds is None and self.fold:
            raise Conflict("data.fold has no effect without data.folds", "data.fold", "data.folds", remedy="set data.folds")
        if self.folds is not None and self.fold >= self.folds:
            what = f"data.fold={self.fold} is not one of the {self.folds} folds, which are numbered from 0"
            raise Conflict(what, "data.fold", "data.folds")
        return self
