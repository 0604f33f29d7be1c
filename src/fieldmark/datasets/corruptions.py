"""Corruptions of an image at five severities, to measure how robust a model is.

The kinds are those of "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (Hendrycks and Dietterich, 2019).
Formulas and strengths are our own: figures cannot be compared with those on ImageNet-C.

Parameters hold for an image whose shorter side is 224. Lengths grow with the side, so that a blur hides as large a part of the object at
every size; the power of noise does too, because a larger image has more pixels to average over.

One seed draws one noise, one rain, one direction of motion, which the severity only makes stronger (shot noise is drawn anew).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest
from fieldmark.core.randomness import key

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 224

Operator = Callable[[np.ndarray, float, float, np.random.Generator], np.ndarray]
"""(image, parameter, the shorter side / 224, random numbers) → image, either uint8 or float32 that may leave 0 … 255."""


@dataclass(frozen=True)
class Corruption:
    """`parameters` are the operator's, one per severity."""

    name: str
    family: str
    apply: Operator
    parameters: tuple[float, float, float, float, float]


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """The image, uint8 (height, width, 3), corrupted: a new array alike in type and shape, which follows from the arguments alone.

    Images given the same seed get the same noise; `fieldmark.core.randomness.key(seed, path)` gives each its own.

    Raises InputError for an unknown name or severity.
    """
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size
    _check(name, severity)
    corruption = CORRUPTIONS[name]
    draws = np.random.Generator(np.random.PCG64(key(seed, "corruption", name)))
    scale = min(image.shape[:2]) / _SIDE
    corrupted = corruption.apply(image, corruption.parameters[SEVERITIES.index(severity)], scale, draws)
    return corrupted if corrupted.dtype == np.uint8 else np.rint(np.clip(corrupted, 0, 255)).astype(np.uint8)


def parse(text: str) -> tuple[str, int]:
    """ "fog:3" as ("fog", 3). Raises InputError that says what is wrong with it."""
    name, colon, severity = text.strip().partition(":")
    if not colon:
        _check(name, SEVERITIES[0])
        raise InputError(f"{name} has no severity", hint=f"Write {name}:1 (mild) to {name}:5 (strong).")
    severities = {str(each): each for each in SEVERITIES}
    _check(name, severities.get(severity, severity))
    return name, severities[severity]


def _check(name: str, severity: object) -> None:
    problems, hints = [], []
    if name not in CORRUPTIONS:
        problems.append(f"there is no corruption called {name!r}{suggest(name, CORRUPTIONS)}")
        hints.append(f"The corruptions are {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        problems.append(f"there is no severity {severity!r}")
        hints.append("The severities are 1 (mild) to 5 (strong).")
    if problems:
        raise InputError(*problems, hint=" ".join(hints))


# Noise


def _gaussian_noise(image: np.ndarray, deviation: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    return image + 255 * deviation * math.sqrt(scale) * draws.standard_normal(image.shape, np.float32)


def _shot_noise(image: np.ndarray, photons: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """Every value is a count of photons, of which white has so many on average."""
    grain = 255 * scale / photons
    return draws.poisson(image / grain).astype(np.float32) * np.float32(grain)


def _impulse_noise(image: np.ndarray, share: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """Salt and pepper: this share of the values becomes 0 or 255."""
    half = (1 - (1 - share) ** scale) / 2
    chance = draws.random(image.shape, np.float32)
    return np.where(chance < half, np.uint8(0), np.where(chance >= 1 - half, np.uint8(255), image))


# Blur


def _gaussian_blur(image: np.ndarray, width: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """The standard deviation is that of a box of this width."""
    blur = ImageFilter.GaussianBlur(_pixels(width, scale) / math.sqrt(12))
    return np.array(Image.fromarray(image).filter(blur))


def _defocus_blur(image: np.ndarray, width: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    return _blurred(image, _stroke(_pixels(width, scale)))


def _motion_blur(image: np.ndarray, length: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    return _blurred(image, _stroke(1, _pixels(length, scale) - 1, draws.uniform(0, math.pi)))


def _pixels(length: float, scale: float) -> float:
    """A length at this scale. One pixel, which changes nothing, stays one: at 32 pixels, too, a blur is a blur."""
    return 1 + (length - 1) * scale


def _stroke(width: float, travel: float = 0.0, angle: float = 0.0, softness: float = 1.0) -> np.ndarray:
    """A disc moved along a line: its trace as a kernel with a sum of 1. `softness` is how wide its edge is; all in pixels and radians."""
    reach = math.ceil((width + travel + softness) / 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    distance = np.hypot(np.maximum(np.abs(along) - travel / 2, 0), across)
    weights = np.clip((width / 2 - distance) / softness + 0.5, 0, 1)
    return (weights / weights.sum()).astype(np.float32)


def _blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    reach = len(kernel) // 2
    return _convolved(np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric"), kernel)


def _convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Where the kernel lies within the image: float32 (height - k + 1, width - k + 1, channels) for a kernel of k x k."""
    from scipy import fft

    height, width = image.shape[:2]
    shape = (fft.next_fast_len(height, real=True), fft.next_fast_len(width, real=True))
    spectrum = fft.rfft2(image.astype(np.float32), shape, axes=(0, 1)) * fft.rfft2(kernel, shape)[..., None]
    return fft.irfft2(spectrum, shape, axes=(0, 1))[len(kernel) - 1 : height, len(kernel) - 1 : width]


# Digital


def _jpeg(image: np.ndarray, quality: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """The quantisation is scaled with the side: a block of 8 x 8 holds more of the object in a small image."""
    quantisation = (5000 / quality if quality < 50 else 200 - 2 * quality) * scale
    quality = 5000 / quantisation if quantisation > 100 else 100 - quantisation / 2
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=max(round(quality), 1), subsampling="4:2:0")
    return np.array(Image.open(file))


def _pixelate(image: np.ndarray, cell: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """Square cells of their mean colour; between two powers of two both are mixed. They nest, so that larger cells always lose more."""
    octave = math.log2(_pixels(cell, scale))
    fine, coarse = (_mosaic(image, 2 ** (math.floor(octave) + step)) for step in (0, 1))
    return fine + (coarse - fine) * (octave - math.floor(octave))


def _mosaic(image: np.ndarray, cell: int) -> np.ndarray:
    cells = np.asarray(Image.fromarray(image).reduce(cell), np.float32)
    return cells.repeat(cell, axis=0).repeat(cell, axis=1)[: image.shape[0], : image.shape[1]]


# Weather


@dataclass(frozen=True)
class _Layer:
    """Streaks or flakes at one distance: `density` of them in a square of the shorter side, the lengths in pixels."""

    width: float
    length: float
    density: float
    softness: float = 1.0


_STREAKS = (_Layer(0.5, 9, 1400), _Layer(0.8, 16, 500), _Layer(1.2, 30, 140))
_FLAKES = (_Layer(1.2, 1, 1600), _Layer(2.4, 2, 500, 1.5), _Layer(4.5, 3.5, 120, 3), _Layer(9, 6, 25, 7))


def _fog(image: np.ndarray, depth: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """Banks of haze of this optical depth on average, as bright as an overcast sky."""
    thickness = depth * (0.3 + 1.4 * _clouds(image.shape[:2], draws))
    return _veiled(image, 1 - np.exp(-thickness[..., None]), (222, 226, 230))


def _rain(image: np.ndarray, amount: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """Streaks at three distances before a darker, greyer image."""
    slant = math.pi / 2 + draws.uniform(-0.35, 0.35)
    image = _veiled(image, 0.45 * amount, (118, 122, 128))
    for layer, layer_draws in zip(_STREAKS, draws.spawn(len(_STREAKS)), strict=True):
        image = _veiled(image, 0.65 * _scattered(image.shape[:2], layer, amount, scale, slant, layer_draws), (214, 218, 224))
    return image


def _snow(image: np.ndarray, amount: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """Flakes at four distances, the nearest out of focus, before a paler image."""
    slant = math.pi / 2 + draws.uniform(-0.8, 0.8)
    image = _veiled(image, 0.5 * amount, (216, 220, 226))
    for layer, layer_draws in zip(_FLAKES, draws.spawn(len(_FLAKES)), strict=True):
        image = _veiled(image, 0.95 * _scattered(image.shape[:2], layer, amount, scale, slant, layer_draws), (248, 250, 252))
    return image


def _veiled(image: np.ndarray, opacity: np.ndarray | float, colour: tuple[int, int, int]) -> np.ndarray:
    return image + (np.array(colour, np.float32) - image) * opacity


def _clouds(shape: tuple[int, int], draws: np.random.Generator) -> np.ndarray:
    """Smooth random values, from 0 to 1, with ever less of ever finer detail: float32 of this shape."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(5):
        cell = min(shape) / (2 << octave)
        grid = draws.random((math.ceil(height / max(cell, 1)), math.ceil(width / max(cell, 1))), np.float32)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) * 0.6**octave
    total -= total.min()
    return total / max(total.max(), np.float32(1e-6))


def _scattered(shape: tuple[int, int], layer: _Layer, amount: float, scale: float, angle: float, draws: np.random.Generator) -> np.ndarray:
    """How much of each pixel the strokes of a layer cover, in random places: float32 (height, width, 1) in [0, 1].

    Where they would be thinner than a pixel they are a pixel wide and fewer, so that they cover as much.
    """
    length, thin, width = layer.length * scale, layer.width * scale, max(layer.width * scale, 1)
    area = width * (length + math.pi / 4 * width)
    density = amount * layer.density * thin * (length + math.pi / 4 * thin) / area
    kernel = _stroke(width, length, angle + draws.uniform(-0.1, 0.1), max(layer.softness * scale, 1))
    height, across = shape[0] + len(kernel) - 1, shape[1] + len(kernel) - 1
    places = draws.random((round(density * height * across / min(shape) ** 2), 3))
    strokes = np.zeros((height, across, 1), np.float32)
    rows, columns = (places[:, 0] * height).astype(np.int64), (places[:, 1] * across).astype(np.int64)
    np.maximum.at(strokes[..., 0], (rows, columns), 0.15 + 0.85 * places[:, 2].astype(np.float32))
    return np.clip(_convolved(strokes, kernel) * np.float32(area), 0, 1)


# Exposure


def _exposure(image: np.ndarray, stops: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """The light, doubled so many times; linear light, so that it is what a longer exposure gives."""
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) * 2**stops
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(np.clip(encoded * 255, 0, 255)).astype(np.uint8)[image]


def _contrast(image: np.ndarray, factor: float, scale: float, draws: np.random.Generator) -> np.ndarray:
    """This share of every value's distance from the image's mean stays."""
    mean = image.mean()
    return np.rint((np.arange(256) - mean) * factor + mean).astype(np.uint8)[image]


CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption("gaussian-noise", "noise", _gaussian_noise, (0.06, 0.09, 0.13, 0.18, 0.25)),
        Corruption("shot-noise", "noise", _shot_noise, (80, 40, 20, 10, 5)),
        Corruption("impulse-noise", "noise", _impulse_noise, (0.02, 0.04, 0.08, 0.14, 0.22)),
        Corruption("gaussian-blur", "blur", _gaussian_blur, (4, 6, 9, 13, 18)),
        Corruption("defocus-blur", "blur", _defocus_blur, (4, 6, 9, 12, 16)),
        Corruption("motion-blur", "blur", _motion_blur, (5, 9, 14, 20, 28)),
        Corruption("jpeg", "digital", _jpeg, (30, 20, 14, 11, 8)),
        Corruption("pixelate", "digital", _pixelate, (2, 3, 4, 6, 8)),
        Corruption("fog", "weather", _fog, (0.25, 0.45, 0.68, 0.93, 1.2)),
        Corruption("rain", "weather", _rain, (0.12, 0.25, 0.45, 0.7, 1.0)),
        Corruption("snow", "weather", _snow, (0.12, 0.25, 0.45, 0.7, 1.0)),
        Corruption("underexposure", "exposure", _exposure, (-1, -1.6, -2.2, -2.8, -3.4)),
        Corruption("overexposure", "exposure", _exposure, (0.4, 0.7, 1.0, 1.4, 1.8)),
        Corruption("contrast", "exposure", _contrast, (0.65, 0.5, 0.38, 0.28, 0.2)),
    )
}


def all_corruptions(text: str | None) -> tuple[int, ...]:
    """The severities that "all" or "all:3" ask for; none for any other text. Raises InputError for a severity that there is not."""
    name, _, severity = (text or "").partition(":")
    if name != "all":
        return ()
    if not severity:
        return SEVERITIES
    if severity not in map(str, SEVERITIES):
        raise InputError(f"there is no severity {severity!r}", hint=f"The severities are {', '.join(map(str, SEVERITIES))}.")
    return (int(severity),)
