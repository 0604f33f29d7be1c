"""Draws one bird: a silhouette filled layer by layer, then lit as a round body.

A bird is drawn facing right in its own coordinates: the middle of the trunk is the origin, the trunk is one long, y points down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from fieldmark.datasets.birds.species import BLACK, WHITE, Colour, Look

Points = Sequence[tuple[float, float]] | np.ndarray


@dataclass(frozen=True)
class Pose:
    """How a bird holds itself, in degrees; positive turns the front down."""

    tilt: float
    head: float
    tail: float
    yaw: float
    """How far it turns away from the side view."""
    facing_left: bool


@dataclass(frozen=True)
class Drawn:
    image: Image.Image
    """RGB; of interest where `cover` is."""
    cover: Image.Image
    """L: 255 where the bird is."""
    feet: tuple[float, float]
    """Where it stands, in pixels."""


def draw_bird(look: Look, pose: Pose, side: int, scale: float, light: float, grain: np.ndarray) -> Drawn:
    """Draw a bird in the middle of a square of `side` pixels.

    Args:
        scale: pixels per unit.
        light: direction that light comes from, in degrees; 0 is from above, positive from the right.
        grain: float (k, k) in [-1, 1], the texture of the feathers.
    """
    sketch = _Sketch(side, scale, pose)
    bird = _Bird(look, sketch)
    bird.draw()
    image = _lit(sketch, light - (2 * light if pose.facing_left else 0), grain)
    cover = sketch.cover
    feet_x, feet_y = bird.feet
    if pose.facing_left:
        image, cover = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), cover.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        feet_x = side - feet_x
    return Drawn(image, cover, (feet_x, feet_y))


class _Sketch:
    """A canvas on which shapes are given in the bird's coordinates, and part of the bird may be turned about a joint."""

    def __init__(self, side: int, scale: float, pose: Pose):
        self.side, self.scale, self.pose = side, scale, pose
        self.image = Image.new("RGB", (side, side))
        self.cover = Image.new("L", (side, side))
        self.narrow = math.cos(math.radians(pose.yaw))

    def place(self, points: Points, joint: tuple[float, float] | None = None, turn: float = 0.0) -> np.ndarray:
        """Pixels (n, 2) of points, first turned about the joint."""
        placed = np.asarray(points, np.float64)
        if joint is not None:
            placed = _turned(placed - joint, turn) + joint
        placed = placed * (self.narrow, 1.0)
        return _turned(placed, self.pose.tilt) * self.scale + self.side / 2

    def shape(self, pixels: np.ndarray, soft: float = 0.0) -> _Mask:
        """A filled polygon; `soft` is the width of its edge in the bird's units."""
        blur = soft * self.scale
        edge = 3 * blur + 2
        left, top = np.maximum(np.floor(pixels.min(0) - edge), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(pixels.max(0) + edge), self.side).astype(int).tolist()
        mask = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in (pixels - (left, top)).tolist()], fill=255)
        return _Mask(mask.filter(ImageFilter.GaussianBlur(blur)) if blur else mask, left, top)

    def area(self, mask: _Mask) -> Image.Image:
        """A mask of the whole canvas."""
        whole = Image.new("L", (self.side, self.side))
        whole.paste(mask.image, (mask.left, mask.top))
        return whole

    def fill(self, mask: _Mask, colour: Colour, within: Image.Image | None = None, strength: float = 1.0) -> None:
        """Paint a mask; only where `within` is, or, without it, as a new part of the bird."""
        image = mask.image.point(lambda value: value * strength) if strength < 1 else mask.image
        box = (mask.left, mask.top, mask.left + image.width, mask.top + image.height)
        if within is None:
            self.cover.paste(ImageChops.lighter(self.cover.crop(box), image), box)
        else:
            image = ImageChops.multiply(image, within.crop(box))
        self.image.paste(_rgb(colour), box, image)


class _Mask(NamedTuple):
    """A part of the canvas: 255 where a shape is."""

    image: Image.Image
    left: int
    top: int


class _Bird:
    def __init__(self, look: Look, sketch: _Sketch):
        self.look, self.sketch = look, sketch
        self.head = np.array([0.36, -look.neck])
        self.neck = (0.24, -look.neck * 0.55)
        self.feet = (0.0, 0.0)
        self.dark = _shade(look.back, 0.42)

    def draw(self) -> None:
        self._legs()
        self._tail()
        self._trunk()
        self._breast()
        self._wing()
        self._face()
        self._bill()
        self._eye()

    def _body(self, points: Points, soft: float = 0.0) -> _Mask:
        return self.sketch.shape(self.sketch.place(points), soft)

    def _headed(self, points: Points, soft: float = 0.0) -> _Mask:
        """A shape that moves with the head; its points are relative to the head's middle, in units of its radius."""
        pixels = self.sketch.place(np.asarray(points) * self.look.head + self.head, self.neck, self.sketch.pose.head)
        return self.sketch.shape(pixels, soft)

    def _legs(self) -> None:
        look, sketch = self.look, self.sketch
        (hip_x, hip_y), width = sketch.place([(-0.02, look.girth * 0.75)])[0], max(0.026 * sketch.scale, 1.0)
        length = (look.leg_length + look.girth * 0.25) * sketch.scale
        foot_y = hip_y + length
        for offset, colour in ((-0.07, _shade(look.legs, 0.75)), (0.05, look.legs)):
            mask = Image.new("L", (sketch.side, sketch.side))
            brush = ImageDraw.Draw(mask)
            x = hip_x + offset * sketch.scale
            knee = (x - 0.05 * sketch.scale, hip_y + 0.45 * length)
            foot = (x + 0.01 * sketch.scale, foot_y)
            brush.line([(x, hip_y), knee, foot], fill=255, width=round(width), joint="curve")
            for toe in (-0.07, 0.06, 0.10):
                brush.line([foot, (foot[0] + toe * sketch.scale, foot_y + 0.015 * sketch.scale)], fill=255, width=round(width * 0.8))
            sketch.fill(_Mask(mask, 0, 0), colour)
        self.feet = (float(hip_x), float(foot_y))

    def _tail(self) -> None:
        look, sketch = self.look, self.sketch
        start, end = -0.38, -0.44 - look.tail_length
        root, tip = 0.065, 0.085 if look.tail == "square" else 0.10
        middle = {"square": end - 0.01, "notched": end + 0.06, "forked": end + 0.70 * look.tail_length}[look.tail]
        if look.tail == "forked":
            tip = 0.17
        joint, turn = (start, 0.0), sketch.pose.tail
        outline = [(start, -root), (end, -tip * 0.55), (middle, 0.02), (end + 0.015, tip), (start, root + 0.03)]
        sketch.fill(sketch.shape(sketch.place(outline, joint, turn)), _shade(look.back, 0.66))
        for y in (-0.02, 0.02, 0.05):
            line = [(start, y), (middle, y * 1.3), (middle, y * 1.3 + 0.012), (start, y + 0.008)]
            sketch.fill(sketch.shape(sketch.place(line, joint, turn)), _shade(look.back, 0.46), within=sketch.cover)

    def _trunk(self) -> None:
        """Trunk, neck and head as one shape whose hollows are rounded."""
        look, sketch = self.look, self.sketch
        girth = look.girth
        trunk = _spline(
            np.concatenate(
                [
                    [(0.40, -0.02), (0.33, girth * 0.62), (0.10, girth), (-0.20, girth * 0.80), (-0.44, 0.10), (-0.50, 0.03)],
                    [(-0.44, -0.05), (-0.20, -girth * 0.72), (0.10, -girth * 0.95), (0.30, -girth * 0.80)],
                ]
            )
        )
        shape = sketch.area(self._body(trunk))
        head = sketch.area(self._headed(_circle(1.0)))
        pivot = sketch.place(self.head[None], self.neck, sketch.pose.head)[0]
        chest = sketch.place([(0.02, -girth * 0.93), (0.39, girth * 0.25)])
        away = chest[1] - chest[0]
        across = np.array([away[1], -away[0]]) / np.linalg.norm(away) * look.head * sketch.scale
        direction = np.array([-across[1], across[0]])
        neck = np.array([chest[0], pivot - direction * 0.86, pivot + direction * 0.86, chest[1]])
        union = ImageChops.lighter(ImageChops.lighter(shape, head), sketch.area(sketch.shape(neck)))
        smooth = union.filter(ImageFilter.GaussianBlur(0.045 * sketch.scale))
        self.body = smooth.point(lambda value: min(255, max(0, (value - 108) * 7)))
        sketch.fill(_Mask(self.body, 0, 0), look.back)
        self.head_area = ImageChops.multiply(sketch.area(self._headed(_circle(1.25))), self.body)

    def _breast(self) -> None:
        look, sketch, girth = self.look, self.sketch, self.look.girth
        under = [(0.55, 0.0), (0.30, -0.02), (0.05, girth * 0.20), (-0.25, girth * 0.18), (-0.55, 0.02), (-0.5, 0.4), (0.3, 0.5)]
        sketch.fill(self._body(_spline(under), soft=0.03), look.belly, within=self.body)
        cheek = [(1.3, 0.30), (0.6, 0.34), (0.0, 0.62), (-0.6, 1.0), (-0.2, 2.4), (1.6, 2.2)]
        sketch.fill(self._headed(cheek, soft=0.03), look.belly, within=self.body)
        if look.throat:
            patch = [(1.15, 0.18), (0.70, 0.22), (0.05, 0.62), (0.05, 1.25), (0.65, 1.45), (1.3, 0.8)]
            sketch.fill(self._headed(patch, soft=0.008), (250, 248, 244), within=self.body)
            edge = [(0.05, 1.18), (0.65, 1.38), (1.0, 1.15), (1.15, 1.35), (0.65, 1.68), (0.0, 1.42)]
            sketch.fill(self._headed(edge, soft=0.008), self.dark, within=self.body)
        if look.streaks:
            for column in range(6):
                for row in range(4):
                    x, y = 0.33 - 0.10 * column + 0.045 * (row % 2), girth * (0.08 + 0.24 * row) - 0.02 * column
                    streak = _ellipse((x, y), 0.048, 0.014, 24)
                    sketch.fill(self._body(streak), self.dark, within=self.body)
        if look.spots:
            for column in range(6):
                for row in range(4):
                    x, y = 0.34 - 0.105 * column + 0.05 * (row % 2), girth * (0.04 + 0.25 * row) - 0.012 * column
                    sketch.fill(self._body(_ellipse((x, y), 0.024, 0.026)), self.dark, within=self.body)
        if look.band:
            band = [(0.16, -girth * 0.72), (0.29, -girth * 0.60), (0.50, -0.01), (0.50, 0.12), (0.33, 0.13), (0.22, -0.02)]
            sketch.fill(self._body(_spline(band), soft=0.006), BLACK, within=self.body)

    def _wing(self) -> None:
        look, sketch, girth = self.look, self.sketch, self.look.girth
        tip = (-look.wing, 0.03)
        outline = _spline(
            [(0.22, -girth * 0.42), (0.10, -girth * 0.82), (-0.18, -girth * 0.74), tip, (-0.26, girth * 0.34), (0.02, girth * 0.40)]
        )
        shape = self._body(outline)
        wing = sketch.area(shape)
        sketch.fill(shape, _shade(look.back, 0.72))
        coverts = [(0.24, -girth), (-0.10, -girth), (-0.14, 0.0), (-0.02, girth * 0.5), (0.24, girth * 0.5)]
        sketch.fill(self._body(_spline(coverts), soft=0.015), _shade(look.back, 0.92), within=wing)
        for feather in range(6):
            y = girth * (0.30 - 0.17 * feather)
            start = -0.06 - 0.02 * feather
            line = [(start, y), (tip[0], tip[1] - 0.008 * feather), (tip[0], tip[1] - 0.008 * feather - 0.004), (start, y - 0.016)]
            sketch.fill(self._body(line), _shade(look.back, 0.46), within=wing)
            if feather < 4:
                pale = [(x, y + 0.010) for x, y in line]
                sketch.fill(self._body(pale), _shade(look.back, 1.12), within=wing, strength=0.6)
        if look.wing_patch:
            patch = [(-0.10, girth * 0.05), (-0.34, girth * 0.06), (-0.38, girth * 0.36), (-0.10, girth * 0.44)]
            sketch.fill(self._body(_spline(patch)), WHITE, within=wing)
        for bar in range(look.wing_bars):
            x = 0.045 - 0.135 * bar
            stripe = [(x + 0.045, -girth * 0.80), (x + 0.095, -girth * 0.74), (x + 0.045, girth * 0.02), (x - 0.025, girth * 0.46)]
            sketch.fill(self._body([*stripe, (x - 0.09, girth * 0.42), (x - 0.015, girth * 0.0)]), WHITE, within=wing)
        if look.rump:
            patch = [(-0.22, -girth * 0.80), (-0.30, -girth * 0.10), (-0.44, 0.03), (-0.56, 0.02), (-0.52, -0.08), (-0.36, -girth * 0.75)]
            sketch.fill(self._body(_spline(patch)), WHITE, within=sketch.cover)

    def _face(self) -> None:
        look, sketch = self.look, self.sketch
        if look.crest:
            crest = [(0.60, -0.75), (0.10, -1.12), (-0.70, -1.50), (-1.75, -1.80), (-1.25, -1.05), (-0.95, -0.30)]
            sketch.fill(self._headed(_spline(crest)), _shade(look.back, 0.9))
        if look.cap:
            cap = [(1.25, -0.18), (0.4, -0.26), (-0.3, -0.16), (-1.15, 0.12), (-1.6, -0.4), (-0.9, -1.5), (0.7, -1.5)]
            sketch.fill(self._headed(cap, soft=0.006), BLACK, within=self.head_area)
        if look.crown_stripe:
            for (low, high), colour in (((-0.28, -0.52), BLACK), ((-0.52, -0.80), WHITE), ((-0.80, -1.3), BLACK)):
                stripe = [(1.2, low - 0.02), (0.2, low - 0.05), (-1.2, low + 0.25), (-1.4, high + 0.25), (0.2, high - 0.05), (1.2, high)]
                sketch.fill(self._headed(stripe), colour, within=self.head_area)
        if look.brow:
            brow = [(0.95, -0.16), (0.35, -0.42), (-0.45, -0.40), (-1.05, -0.06), (-1.05, -0.30), (-0.45, -0.70), (0.40, -0.74)]
            sketch.fill(self._headed(brow), WHITE, within=self.head_area)
            line = [(1.0, 0.02), (0.4, -0.14), (-0.5, -0.10), (-1.0, 0.16), (-0.5, 0.14), (0.5, 0.12)]
            sketch.fill(self._headed(line), self.dark, within=self.head_area)
        if look.mask:
            mask = [(1.05, -0.12), (0.4, -0.36), (-0.5, -0.26), (-1.0, 0.16), (-0.6, 0.44), (0.3, 0.36), (1.05, 0.20)]
            sketch.fill(self._headed(mask), BLACK, within=self.head_area)
        if look.moustache:
            stripe = [(1.0, 0.18), (0.55, 0.22), (-0.15, 0.85), (-0.35, 1.35), (0.10, 1.35), (0.55, 0.75), (1.05, 0.42)]
            sketch.fill(self._headed(stripe, soft=0.004), BLACK, within=self.body)

    def _bill(self) -> None:
        look, sketch = self.look, self.sketch
        length, half, hang = look.bill_length / look.head, look.bill_depth / look.head / 2, look.bill_curve * look.bill_length / look.head
        along = np.linspace(0, 1, 9)
        x = 0.82 + along * (length + 0.12)
        middle = 0.08 + hang * along**2 + 0.04 * along
        thick = half * (1 - along) ** 0.75 + 0.012 / look.head * (1 - along)
        upper, lower = np.stack([x, middle - thick], 1), np.stack([x, middle + thick], 1)
        sketch.fill(self._headed(np.concatenate([upper, lower[::-1]])), look.bill)
        gape = np.concatenate([np.stack([x, middle + 0.02], 1), np.stack([x, middle + 0.02 + thick], 1)[::-1]])
        sketch.fill(self._headed(gape), _shade(look.bill, 0.7))

    def _eye(self) -> None:
        look, sketch = self.look, self.sketch
        eye = (0.34, -0.12)
        if look.eye_ring:
            sketch.fill(self._headed(_ellipse(eye, 0.46, 0.44)), (250, 248, 240), within=sketch.cover)
        sketch.fill(self._headed(_ellipse(eye, 0.215, 0.215)), (22, 18, 18), within=sketch.cover)
        sketch.fill(self._headed(_ellipse((eye[0] + 0.07, eye[1] - 0.08), 0.07, 0.07)), (240, 240, 240), within=sketch.cover)


def _lit(sketch: _Sketch, light: float, grain: np.ndarray) -> Image.Image:
    """Light a drawn bird as a round body with feathers."""
    width = 0.085 * sketch.scale
    height = np.asarray(sketch.cover.filter(ImageFilter.GaussianBlur(width)), np.float32) / 255
    down, right = np.gradient(height)
    towards = math.radians(light)
    slope = (down * math.cos(towards) - right * math.sin(towards)) * width
    texture = Image.fromarray((grain * 127 + 128).astype(np.uint8)).resize((sketch.side, sketch.side), Image.Resampling.BICUBIC)
    feathers = (np.asarray(texture, np.float32) - 128) / 127
    shade = 1 + 0.95 * slope + 0.09 * feathers
    return Image.fromarray(np.clip(np.asarray(sketch.image) * shade[..., None], 0, 255).astype(np.uint8))


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack([points[:, 0] * cos - points[:, 1] * sin, points[:, 0] * sin + points[:, 1] * cos], axis=1)


def _spline(points: Points, steps: int = 8) -> np.ndarray:
    """A closed Catmull-Rom curve through the points."""
    p1 = np.asarray(points, np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return curve.reshape(-1, 2)


def _circle(radius: float) -> np.ndarray:
    return _ellipse((0.0, 0.0), radius, radius)


def _ellipse(at: tuple[float, float], rx: float, ry: float, angle: float = 0.0) -> np.ndarray:
    turn = np.arange(28) / 28 * 2 * math.pi
    return _turned(np.stack([rx * np.cos(turn), ry * np.sin(turn)], axis=1), angle) + at


def _shade(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(value))) for value in colour)
    return red, green, blue
