"""One image of a bird: what it stands on, what is behind and before it, the light and the camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from fieldmark.core import randomness
from fieldmark.datasets.birds.drawing import Pose, draw_bird
from fieldmark.datasets.birds.species import Colour, Look

Draw = Callable[[float, float], float]
"""A number between two, the next of a stream."""

PLUMAGES = ("male", "female", "young")


@dataclass(frozen=True)
class Individual:
    """One bird: all its images show this plumage and build."""

    look: Look
    plumage: str


@dataclass(frozen=True)
class Photo:
    image: Image.Image
    box: tuple[int, int, int, int]
    """Left, top, width and height of the whole bird in pixels, hidden parts included."""


@dataclass(frozen=True)
class _Habitat:
    above: Colour
    below: Colour
    blobs: int
    strokes: int
    horizon: bool


_HABITATS = (
    _Habitat((170, 200, 226), (226, 232, 230), 3, 0, False),
    _Habitat((84, 116, 66), (138, 160, 92), 26, 0, False),
    _Habitat((150, 156, 96), (112, 112, 64), 6, 26, False),
    _Habitat((176, 188, 190), (112, 134, 142), 0, 0, True),
    _Habitat((186, 196, 196), (184, 164, 126), 4, 0, True),
    _Habitat((108, 92, 76), (148, 130, 108), 14, 8, False),
    _Habitat((206, 214, 222), (236, 238, 240), 5, 0, True),
)


def individual(look: Look, key: int) -> Individual:
    """A bird of a species: male, female or young, each a little different in colour and build."""
    draw = _numbers(key, 24)
    plumage = PLUMAGES[min(int(draw(0, 3)), 2)]
    saturation, contrast = {"male": (1.0, 1.0), "female": (0.55, 0.85), "young": (0.35, 0.7)}[plumage]
    tint = [draw(-16, 16) for _ in range(3)]
    grey = draw(-14, 14)
    middle = [(a + b) / 2 for a, b in zip(look.back, look.belly, strict=True)]

    def recoloured(colour: Colour) -> Colour:
        closer = [m + (value - m) * contrast for m, value in zip(middle, colour, strict=True)]
        mean = sum(closer) / 3
        red, green, blue = (mean + (value - mean) * saturation + shift + grey for value, shift in zip(closer, tint, strict=True))
        return red, green, blue

    changed = replace(
        look,
        back=recoloured(look.back),
        belly=recoloured(look.belly),
        girth=look.girth * draw(0.93, 1.08),
        head=look.head * draw(0.95, 1.05),
        bill_length=look.bill_length * draw(0.94, 1.06),
        tail_length=look.tail_length * draw(0.94, 1.06),
        leg_length=look.leg_length * draw(0.92, 1.08),
    )
    return Individual(changed, plumage)


def photograph(bird: Individual, size: int, key: int) -> Photo:
    """An image of `size` x `size` pixels; pose, distance, surroundings, light and camera follow from `key`."""
    draw = _numbers(key, 400)
    fine = size * (3 if size <= 160 else 2)
    look = bird.look
    pose = Pose(
        tilt=draw(-30, 4) if look.leg_length < 0.4 else draw(-14, 8),
        head=draw(-14, 24),
        tail=draw(-10, 12),
        yaw=draw(-24, 24),
        facing_left=draw(0, 1) < 0.5,
    )
    length = 1.0 + look.tail_length + look.head + look.bill_length
    height = look.neck + look.head + look.girth + look.leg_length + 0.35
    scale = fine * draw(0.80, 1.0) / max(length, height * 1.05)
    side = 2 * int(scale * (length + 0.6) / 2) + 2
    grain = _noise(key, 1, 40)
    drawn = draw_bird(look, pose, side, scale, draw(-40, 40), grain)
    bounds = drawn.cover.getbbox()
    assert bounds is not None
    (left, top), feathers, cover = bounds[:2], drawn.image.crop(bounds), drawn.cover.crop(bounds)
    width, tall = cover.size
    x = _between(0.0, fine - width, draw(0.15, 0.85))
    y = _between(0.0, fine - tall, draw(0.2, 0.8))
    ground = y + drawn.feet[1] - top

    image = _surroundings(fine, key, draw)
    shade = draw(0.55, 0.9)
    _perch(image, (x + drawn.feet[0] - left, ground), fine, scale, draw)
    shadow = cover.point(lambda value: value * (1 - shade)).filter(ImageFilter.GaussianBlur(0.03 * fine))
    image.paste((20, 20, 24), (x + round(draw(-0.04, 0.04) * fine), y + round(0.03 * fine)), shadow)
    image.paste(feathers, (x, y), cover)
    _foreground(image, (x, y, width, tall), fine, draw)
    box = (round(x * size / fine), round(y * size / fine), round(width * size / fine), round(tall * size / fine))
    return Photo(_camera(image, size, key, draw), box)


def _surroundings(side: int, key: int, draw: Draw) -> Image.Image:
    """Something out of focus."""
    small = max(side // 4, 24)
    habitat = _HABITATS[min(int(draw(0, len(_HABITATS))), len(_HABITATS) - 1)]
    shift = [draw(-16, 16) for _ in range(3)]
    above, below = (tuple(value + each for value, each in zip(colour, shift, strict=True)) for colour in (habitat.above, habitat.below))
    line = draw(0.35, 0.75) if habitat.horizon else 0.5
    steep = 14 if habitat.horizon else 1.0
    ramp = np.clip((np.arange(small) / small - line) * steep + 0.5, 0, 1)[:, None, None]
    pixels = np.broadcast_to(np.array(above) * (1 - ramp) + np.array(below) * ramp, (small, small, 3))
    image = Image.fromarray(np.clip(pixels + 18 * _stretched(_noise(key, 2, 7), small)[..., None], 0, 255).astype(np.uint8))
    brush = ImageDraw.Draw(image)
    for _ in range(habitat.blobs):
        x, y, radius = small * draw(0, 1), small * draw(0, 1), small * draw(0.04, 0.16)
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_shaded(above if draw(0, 1) < 0.5 else below, draw(0.6, 1.3)))
    for _ in range(habitat.strokes):
        x, lean = small * draw(-0.1, 1.1), small * draw(-0.2, 0.2)
        colour = _shaded(below, draw(0.6, 1.35))
        brush.line([(x, small), (x + lean, small * draw(0.0, 0.4))], fill=colour, width=max(round(small * draw(0.01, 0.035)), 1))
    image = image.filter(ImageFilter.GaussianBlur(small * draw(0.015, 0.05)))
    return image.resize((side, side), Image.Resampling.BICUBIC)


def _perch(image: Image.Image, feet: tuple[float, float], side: int, scale: float, draw: Draw) -> None:
    """A branch, a post or the ground under the feet."""
    x, y = feet
    kind = int(draw(0, 3.999))
    brush = ImageDraw.Draw(image)
    wood = (88 + draw(-24, 30), 72 + draw(-18, 22), 56 + draw(-14, 18))
    if kind <= 1:
        slope, thick = draw(-0.14, 0.14), scale * draw(0.05, 0.10)
        top = [(0, y - x * slope), (side, y + (side - x) * slope)]
        for part, shade in ((1.0, 0.62), (0.62, 0.85), (0.25, 1.12)):
            brush.polygon([*top, (side, top[1][1] + thick * part), (0, top[0][1] + thick * part)], fill=_shaded(wood, shade))
        for _ in range(2):
            at, reach = side * draw(0, 1), side * draw(0.08, 0.25)
            start = y + (at - x) * slope + thick * 0.4
            brush.line([(at, start), (at + draw(-1, 1) * reach, start + reach)], fill=_shaded(wood, 0.7), width=max(round(thick * 0.3), 1))
    elif kind == 2:
        half = scale * draw(0.14, 0.24)
        brush.rectangle((x - half, y, x + half, side), fill=_shaded(wood, 0.9))
        for part in (-0.5, 0.1, 0.55):
            brush.line([(x + part * half, y), (x + part * half, side)], fill=_shaded(wood, 0.65), width=max(round(0.02 * scale), 1))
        brush.rectangle((x - half, y, x + half, y + 0.03 * scale), fill=_shaded(wood, 1.2))
    else:
        earth = (132 + draw(-34, 40), 122 + draw(-32, 36), 92 + draw(-26, 36))
        edge = y - scale * draw(0.02, 0.10)
        brush.rectangle((0, edge, side, side), fill=_shaded(earth, 1.0))
        for _ in range(16):
            px, py, r = side * draw(0, 1), edge + (side - edge) * draw(0, 1), scale * draw(0.02, 0.09)
            brush.ellipse((px - r, py - r * 0.5, px + r, py + r * 0.5), fill=_shaded(earth, draw(0.72, 1.2)))


def _foreground(image: Image.Image, box: tuple[int, int, int, int], side: int, draw: Draw) -> None:
    """Sometimes a blade of grass or a leaf before the bird, out of focus; never much of it hidden."""
    if draw(0, 1) < 0.55:
        return
    mask = Image.new("L", (side, side))
    brush = ImageDraw.Draw(mask)
    left, _, width, _ = box
    for _ in range(1 + int(draw(0, 1.999))):
        foot, lean = left + width * draw(-0.1, 1.1), side * draw(-0.25, 0.25)
        if draw(0, 1) < 0.6:
            brush.line([(foot, side), (foot + lean, side * draw(0.3, 0.6))], fill=255, width=max(round(side * draw(0.008, 0.02)), 1))
        else:
            y, long, wide = side * draw(0.75, 0.98), side * draw(0.06, 0.12), side * draw(0.02, 0.05)
            brush.ellipse((foot - long, y - wide, foot + long, y + wide), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(side * draw(0.004, 0.014))).point(lambda value: value * 0.9)
    green = draw(0.6, 1.2)
    image.paste(_shaded((98, 118, 62), green), mask=mask)


def _camera(image: Image.Image, size: int, key: int, draw: Draw) -> Image.Image:
    """Dappled light, exposure, colour of the light, contrast, blur, and the sensor's noise."""
    blur, motion = draw(0.0, 0.007), draw(0, 1)
    if motion < 0.12:
        step = round(image.width * draw(0.006, 0.014))
        image = Image.blend(image, ImageChops.offset(image, step, round(step * draw(-1, 1))), 0.5)
    image = image.filter(ImageFilter.GaussianBlur(blur * image.width)).resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(image, np.float64)
    dapple = 1 + draw(0.0, 0.16) * _stretched(_noise(key, 3, 5), size)[..., None]
    warm = draw(-0.09, 0.09)
    light = draw(0.72, 1.22) * np.array([1 + warm, 1 + draw(-0.03, 0.03), 1 - warm])
    contrast = draw(0.8, 1.12)
    grain = randomness.uniform(key, np.arange(16, 16 + size * size), 3).reshape(size, size, 3) - 0.5
    pixels = (pixels * dapple * light - 118) * contrast + 118 + grain * draw(4, 18)
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def _numbers(key: int, count: int) -> Draw:
    stream: Iterator[float] = iter(randomness.uniform(key, np.zeros(1, np.int64), count)[0].tolist())

    def draw(low: float, high: float) -> float:
        return low + (high - low) * next(stream)

    return draw


def _noise(key: int, channel: int, cells: int) -> np.ndarray:
    return randomness.uniform(key, np.array([channel]), cells * cells).reshape(cells, cells) * 2 - 1


def _stretched(noise: np.ndarray, side: int) -> np.ndarray:
    """Smooth noise of side x side from a coarse grid, in [-1, 1]."""
    return np.asarray(Image.fromarray(noise.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC), np.float64)


def _between(low: float, high: float, share: float) -> int:
    return round(low + (high - low) * share)


def _shaded(colour: Sequence[float], factor: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, math.floor(value * factor + 0.5))) for value in colour)
    return red, green, blue
