"""The section `augment`: random changes to training images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldmark.core.recipe.section import NonNegative, Positive, Probability, Range, Refused, Section, check_range, setting


class RandomResizedCrop(Section):
    name: Literal["random-resized"] = setting("random-resized", "a random part of the image, resized (Szegedy et al., 2015)")
    area: Range = setting((0.35, 1.0), "share of the image's area that is kept, lowest and highest")
    aspect: Range = setting((0.75, 1.3333), "factor on the aspect ratio, lowest and highest")

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        check_range("augment.crop.area", self.area)
        check_range("augment.crop.aspect", self.aspect)
        if self.area[1] > 1:
            raise Refused("a crop cannot be larger than the image", "augment.crop.area", remedy="use augment.zoom to shrink it")
        return self


class PaddedCrop(Section):
    name: Literal["padded"] = setting("padded", "the whole image, shifted at random after padding with grey")
    padding: Annotated[float, Field(gt=0, le=0.5)] = setting(0.1, "padding on every edge, as a share of the side")


class NoCrop(Section):
    name: Literal["none"] = setting("none", "the whole image, as in evaluation")


class NoPolicy(Section):
    name: Literal["none"] = setting("none", "no learned or random policy")


class TrivialAugment(Section):
    name: Literal["trivial"] = setting("trivial", "one operation of random strength, over a wide range (Mueller and Hutter, 2021)")


class RandAugment(Section):
    name: Literal["rand"] = setting("rand", "a number of random operations of one strength (Cubuk et al., 2020)")
    operations: Annotated[int, Field(ge=1, le=8)] = setting(2, "how many operations")
    magnitude: Annotated[int, Field(ge=0, le=30)] = setting(9, "their strength, from 0 to 30")


class AutoAugment(Section):
    name: Literal["auto"] = setting("auto", "two operations of the policy learnt on ImageNet (Cubuk et al., 2019)")


Policy = NoPolicy | TrivialAugment | RandAugment | AutoAugment


class NoErasing(Section):
    name: Literal["none"] = setting("none", "nothing is erased")


class _Erasing(Section):
    name: str
    probability: Probability = setting(0.25, "how often an image is erased")
    area: Range = setting((0.02, 0.3333), "share of the image that is erased, smallest and largest")
    aspect: Range = setting((0.3, 3.3333), "height over width of the erased rectangle, lowest and highest")

    @model_validator(mode="after")
    def _ordered(self) -> _Erasing:
        check_range("augment.erase.area", self.area)
        check_range("augment.erase.aspect", self.aspect)
        if self.area[1] > 1:
            raise Refused("no more than the whole image can be erased", "augment.erase.area", remedy="give shares of at most 1")
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
    alpha: Positive = setting(0.2, "both parameters of the Beta distribution of the shares")
    probability: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "how often an image is mixed")


class Cutmix(Section):
    name: Literal["cutmix"] = setting("cutmix", "a rectangle of another image is pasted in, labels shared by area (Yun et al., 2019)")
    alpha: Positive = setting(1.0, "both parameters of the Beta distribution of the areas")
    probability: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "how often an image is mixed")


class MixupOrCutmix(Section):
    name: Literal["either"] = setting("either", "mixup or cutmix for each image, with equal probability")
    mixup_alpha: Positive = setting(0.2, "alpha of mixup")
    cutmix_alpha: Positive = setting(1.0, "alpha of cutmix")
    probability: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "how often an image is mixed")


Mix = NoMixing | Mixup | Cutmix | MixupOrCutmix


class Augment(Section):
    crop: Annotated[RandomResizedCrop | PaddedCrop | NoCrop, Field(discriminator="name")] = setting(
        RandomResizedCrop(), "which part of the image is used"
    )
    flip: Probability = setting(0.5, "probability of a horizontal flip")
    rotate: Annotated[float, Field(ge=0, le=180)] = setting(0.0, "largest rotation in either direction", "degrees")
    zoom: Range = setting((1.0, 1.0), "magnification about the centre, lowest and highest")
    translate: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "largest shift, as a share of the side")
    shear: Annotated[float, Field(ge=0, lt=90)] = setting(0.0, "largest horizontal shear in either direction", "degrees")
    perspective: Probability = setting(0.0, "largest displacement of a corner, as a share of half the side")
    brightness: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "brightness is multiplied by a factor within 1 ± this")
    contrast: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "contrast is multiplied by a factor within 1 ± this")
    saturation: Annotated[float, Field(ge=0, le=1)] = setting(0.0, "saturation is multiplied by a factor within 1 ± this")
    hue: Annotated[float, Field(ge=0, le=0.5)] = setting(0.0, "hue is shifted by at most this share of the colour circle, either way")

    lighting: NonNegative = setting(0.0, "standard deviation of noise along the principal colours of ImageNet (Krizhevsky et al., 2012)")
    policy: Annotated[Policy, Field(discriminator="name")] = setting(NoPolicy(), "random operations in addition to those above")
    erase: Annotated[Erase, Field(discriminator="name")] = setting(NoErasing(), "a rectangle of the image is erased")
    mix: Annotated[Mix, Field(discriminator="name")] = setting(NoMixing(), "images of a batch and their labels are mixed")

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        check_range("augment.zoom", self.zoom)
        return self
