"""The built-in birds: drawn pictures whose species, within a genus, differ by one field mark only."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fieldmark.core import randomness
from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error

VERSION = "1"  # of the drawings: raise it whenever they change

Colour = tuple[float, float, float]
Point = tuple[float, float]
Draw = Callable[[float, float], float]


class Genus(NamedTuple):
    """What the species of a genus share. Lengths are in units of about two thirds of the bird's length."""

    name: str
    back: Colour
    belly: Colour
    bill: Colour
    girth: float
    head: float
    bill_length: float
    bill_depth: float
    tail: float


GENERA = (
    Genus("Warbler", (116, 126, 62), (222, 206, 96), (70, 62, 54), 0.17, 0.125, 0.11, 0.035, 0.30),
    Genus("Finch", (142, 82, 66), (214, 152, 128), (196, 168, 120), 0.21, 0.150, 0.11, 0.105, 0.24),
    Genus("Thrush", (112, 86, 62), (228, 214, 188), (206, 160, 60), 0.20, 0.140, 0.15, 0.050, 0.36),
    Genus("Jay", (74, 108, 160), (196, 204, 214), (48, 46, 50), 0.18, 0.145, 0.17, 0.075, 0.46),
)
MARKS = ("Wing-barred", "Eye-ringed", "Capped", "Banded", "Masked", "Streaked")
_TOGETHER = 3  # species of one genus that come before the next genus begins
SPECIES = tuple((genus, mark) for first in range(0, len(MARKS), _TOGETHER) for genus in GENERA for mark in MARKS[first : first + _TOGETHER])
_HABITATS: Sequence[tuple[Colour, Colour]] = (
    ((176, 206, 232), (222, 232, 236)),
    ((96, 132, 78), (148, 170, 104)),
    ((150, 136, 108), (196, 184, 156)),
    ((120, 140, 150), (168, 180, 178)),
)


def write_birds(root: Path, species: int = 6, per_class: int = 40, size: int = 96, seed: int = 0) -> None:
    """Draw birds into root/{train,test}/<species>/<number>.png, each size x size RGB; a fifth of `per_class` goes to test, at least one.

    The first species are three each of one genus. The same arguments give the same pixels.
    Raises InputError where the numbers cannot be or `root` cannot be written.
    """
    if not 2 <= species <= len(SPECIES):
        raise InputError(f"there are no {species} species of birds", hint=f"From 2 to {len(SPECIES)} can be drawn.")
    if per_class < 2 or size < 16:
        raise InputError(f"cannot draw {per_class} birds per species of {size} pixels", hint="At least 2 birds of 16 pixels are needed.")
    test = max(1, per_class // 5)
    try:
        for genus, mark in SPECIES[:species]:
            name = f"{mark} {genus.name}"
            for split in ("train", "test"):
                (root / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(per_class):
                split = "test" if number < test else "train"
                draw_bird(genus, mark, size, randomness.key(seed, name, number)).save(root / split / name / f"{number:04d}.png")
    except OSError as error:
        raise storage_error(error, root / "train") from error


def birds_folder(cache_dir: Path | None = None) -> Path:
    """The folder of the built-in set in the cache, drawn there the first time."""
    if cache_dir is None:
        from fieldmark.data.pixels import default_cache_dir

        cache_dir = default_cache_dir()
    folder = cache_dir / "birds" / VERSION
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f".{VERSION}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            unfinished.mkdir(parents=True)
        except OSError as error:
            raise storage_error(error, unfinished) from error
        write_birds(unfinished)
        try:
            os.rename(unfinished, folder)
        except OSError as error:
            if not folder.is_dir():  # otherwise another process was faster, and drew the same
                raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def draw_bird(genus: Genus, mark: str, size: int, key: int) -> Image.Image:
    """One bird on a branch; pose, light, colours and surroundings follow from `key`. Drawn at twice the size, then averaged down."""
    numbers = iter(randomness.uniform(key, np.zeros(1), 200)[0])

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(next(numbers))

    side = 2 * size
    image = _surroundings(side, draw)
    _Bird(genus, mark, side, draw).paint(ImageDraw.Draw(image))
    image = image.filter(ImageFilter.GaussianBlur(draw(0.0, 0.006) * side)).resize((size, size), Image.Resampling.BOX)
    light = draw(0.8, 1.2) * np.array([draw(0.94, 1.06), 1.0, draw(0.94, 1.06)])
    grain = randomness.uniform(key, np.arange(1, size * size + 1), 3).reshape(size, size, 3) - 0.5
    pixels = np.asarray(image, np.float64) * light + grain * draw(4, 24)
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


class _Bird:
    """Paints in the bird's own coordinates: the body's centre is the origin, x points to the bill, y down."""

    def __init__(self, genus: Genus, mark: str, side: int, draw: Draw):
        self.genus, self.mark, self.draw = genus, mark, draw
        self.scale = side * draw(0.55, 0.70)
        self.centre = side * draw(0.46, 0.54), side * draw(0.44, 0.52)
        self.tilt = math.radians(draw(-28, 4))
        self.facing = 1 if draw(0, 1) < 0.5 else -1
        tint = [draw(-12, 12) for _ in range(3)]
        self.back: Colour = (genus.back[0] + tint[0], genus.back[1] + tint[1], genus.back[2] + tint[2])
        self.belly: Colour = (genus.belly[0] + tint[2], genus.belly[1] + tint[0], genus.belly[2] + tint[1])
        self.head = 0.27, -0.17

    def paint(self, canvas: ImageDraw.ImageDraw) -> None:
        genus, (hx, hy) = self.genus, self.head
        girth, head = genus.girth * self.draw(0.93, 1.07), genus.head
        dark, pale = _shade(self.back, 0.45), (242.0, 236.0, 222.0)
        self._legs_and_branch(canvas, girth)
        self._fill(canvas, [(-0.20, -0.05), (-0.34 - genus.tail, 0.03), (-0.32 - genus.tail, 0.12), (-0.20, 0.09)], _shade(self.back, 0.75))
        self._oval(canvas, (0, 0), 0.34, girth, self.back)
        self._oval(canvas, (0.05, 0.045), 0.285, girth * 0.76, self.belly)
        self._oval(canvas, (0.19, -0.07), 0.14, 0.12, self.back, angle=-40)
        self._oval(canvas, (hx, hy), head, head * 0.96, self.back)
        self._oval(canvas, (hx + 0.01, hy + head * 0.5), head * 0.72, head * 0.45, self.belly)

        if self.mark == "Streaked":
            for column in range(4):
                for row in range(2):
                    x, y = -0.02 + 0.07 * column + 0.03 * row, 0.075 + 0.05 * row - 0.012 * column
                    self._oval(canvas, (x, y), 0.026, 0.011, dark, angle=35)
        if self.mark == "Banded":
            self._fill(canvas, [(0.17, -0.06), (0.27, -0.04), (0.21, 0.14), (0.12, 0.17)], dark)

        self._wing(canvas, girth, pale)
        if self.mark == "Capped":
            self._fill(canvas, _arc((hx, hy), head * 1.02, head, 165, 360), dark)
        if self.mark == "Masked":
            self._oval(canvas, (hx + 0.03, hy - 0.005), head * 0.82, head * 0.30, dark)

        half, tip = genus.bill_depth / 2, hx + head * 0.85 + genus.bill_length
        self._fill(canvas, [(hx + head * 0.85, hy + 0.01 - half), (tip, hy + 0.03), (hx + head * 0.85, hy + 0.01 + half)], genus.bill)
        eye = hx + 0.045, hy - 0.012
        if self.mark == "Eye-ringed":
            self._oval(canvas, eye, 0.056, 0.056, pale)
        self._oval(canvas, eye, 0.027, 0.027, (22, 18, 18))
        self._oval(canvas, (eye[0] + 0.008, eye[1] - 0.010), 0.008, 0.008, (240, 240, 240))

    def _wing(self, canvas: ImageDraw.ImageDraw, girth: float, pale: Colour) -> None:
        lift = self.draw(-0.02, 0.02)
        tip = (-0.46, 0.05 + lift)
        self._fill(canvas, [(0.14, -0.06), (0.02, -girth * 0.80), tip, (-0.10, 0.09 + lift), (0.08, 0.07)], _shade(self.back, 0.68))
        for feather in range(3):
            start = (-0.02 - 0.05 * feather, 0.06 + lift - 0.035 * feather)
            self._fill(canvas, [start, tip, (start[0], start[1] - 0.012)], _shade(self.back, 0.5))
        if self.mark == "Wing-barred":
            for x in (0.055, -0.045):
                self._fill(canvas, [(x, -0.11), (x + 0.035, -0.10), (x + 0.005, 0.075), (x - 0.03, 0.07)], pale)

    def _legs_and_branch(self, canvas: ImageDraw.ImageDraw, girth: float) -> None:
        slope, wood = self.draw(-0.10, 0.10), (96 + self.draw(-20, 20), 76 + self.draw(-16, 16), 56.0)
        y = girth + 0.10
        for x in (-0.02, 0.06):
            self._fill(canvas, [(x - 0.035, girth * 0.7), (x - 0.015, girth * 0.7), (x + 0.012, y), (x - 0.010, y)], _shade(wood, 0.6))
        self._fill(canvas, [(-1.6, y - slope), (1.6, y + slope), (1.6, y + slope + 0.05), (-1.6, y - slope + 0.07)], wood)

    def _oval(self, canvas: ImageDraw.ImageDraw, at: Point, rx: float, ry: float, colour: Colour, angle: float = 0.0) -> None:
        self._fill(canvas, _arc(at, rx, ry, 0, 360, angle), colour)

    def _fill(self, canvas: ImageDraw.ImageDraw, points: Sequence[Point], colour: Colour) -> None:
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        canvas.polygon(
            [
                (self.centre[0] + self.facing * self.scale * (x * cos - y * sin), self.centre[1] + self.scale * (x * sin + y * cos))
                for x, y in points
            ],
            fill=_rgb(colour),
        )


def _surroundings(side: int, draw: Draw) -> Image.Image:
    """Sky, leaves, ground or rock, out of focus."""
    above, below = _HABITATS[int(draw(0, len(_HABITATS)))]
    ramp = np.linspace(0, 1, side)[:, None, None]
    pixels = np.array(above) * (1 - ramp) + np.array(below) * ramp
    image = Image.fromarray(np.broadcast_to(pixels, (side, side, 3)).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    for _ in range(14):
        x, y, radius = side * draw(0, 1), side * draw(0, 1), side * draw(0.05, 0.2)
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_rgb(_shade(below, draw(0.72, 1.2))))
    return image.filter(ImageFilter.GaussianBlur(side * 0.045))


def _arc(at: Point, rx: float, ry: float, start: float, end: float, angle: float = 0.0) -> list[Point]:
    """The rim of an oval from one angle to another, in degrees clockwise from the right; turned by `angle`."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rim = []
    for step in range(37):
        turn = math.radians(start + (end - start) * step / 36)
        x, y = rx * math.cos(turn), ry * math.sin(turn)
        rim.append((at[0] + x * cos - y * sin, at[1] + x * sin + y * cos))
    return rim


def _shade(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(value))) for value in colour)
    return red, green, blue
