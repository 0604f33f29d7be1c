"""The one evaluation preprocessing: from an image's bytes, and the box of the object in it, to the square that a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fieldmark.core.manifest import Colours, Preprocessing
from fieldmark.core.recipe.data import Resize
from fieldmark.runtime.decode import UnreadableImage, dimensions, open_rgb, read

_BAR = 128


@dataclass(frozen=True)
class Preprocess:
    """Decode, crop, resize, normalise.

    `mean` and `std` are per channel (red, green, blue), of values in [0, 1]. With `margin`, the model was trained on objects cropped to
    their boxes with this margin, a share of the box's sides, around them; with None, on whole images. `colours` is "stored" for runs that
    recorded nothing: earlier versions ignored profiles.
    """

    size: int
    resize: Resize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    margin: float | None = None
    colours: Colours = "stored"

    def pixels(
        self, source: bytes | Path, name: str | None = None, box: Sequence[float] | None = None, notes: list[str] | None = None
    ) -> np.ndarray:
        """uint8 of shape (3, size, size), of the whole image or of the object in `box` (left, top, right and bottom edge in pixels).

        `notes` are as in runtime.decode.open_rgb. Raises runtime.decode.UnreadableImage, also for a box that lies outside the image.
        """
        if box is None:
            return np.ascontiguousarray(square(source, self.size, self.resize, name, colours=self.colours, notes=notes))
        name = name or ("image" if isinstance(source, bytes) else str(source))
        data = source if isinstance(source, bytes) else read(source, name)
        region = grown(np.array([box], np.float64), self.margin or 0, *(np.array([side]) for side in dimensions(data, name)))[0]
        if is_empty(region):
            raise UnreadableImage(name, "its box holds less than a pixel of it")
        return np.ascontiguousarray(square(data, self.size, self.resize, name, region.tolist(), self.colours, notes))

    @property
    def view(self) -> Preprocess:
        """The same without normalisation: networks with the same view see the same pixels."""
        return replace(self, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    @classmethod
    def of(cls, recorded: Preprocessing) -> Preprocess:
        return cls(recorded.size, recorded.resize, recorded.mean, recorded.std, recorded.margin, recorded.colours)

    def record(self) -> Preprocessing:
        return Preprocessing(**asdict(self))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        return cls(**(values | {"mean": tuple(values["mean"]), "std": tuple(values["std"])}))


def grown(boxes: np.ndarray, margin: float, widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Boxes with a margin on every side, a share of the box's width or height, clipped to their images.

    Both float64 (n, 4): left, top, right and bottom edge in pixels.
    """
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2) * margin * [-1, -1, 1, 1]
    limits = np.column_stack([widths, heights, widths, heights])
    return np.clip(boxes + sides, 0, limits)


def is_empty(regions: np.ndarray) -> np.ndarray:
    """Whether regions (..., 4) hold less than a pixel in some direction."""
    return (regions[..., 2] - regions[..., 0] < 1) | (regions[..., 3] - regions[..., 1] < 1)


def square(
    source: bytes | Path,
    size: int,
    resize: Resize,
    name: str | None = None,
    region: Sequence[float] | None = None,
    colours: Colours = "srgb",
    notes: list[str] | None = None,
) -> np.ndarray:
    """An image, or a region of it, as a square, resampled bilinearly with antialiasing; `region` to `notes` as in runtime.decode.open_rgb.

    uint8 of shape (3, size, size), channels last in memory.

    "squash" ignores its proportions, "shorter-side" cuts the middle square, "letterbox" fits it whole between grey bars (128).
    """
    image = open_rgb(source, name, size, region, colours, notes)
    width, height = image.size
    if resize == "squash":
        tile = image.resize((size, size), Image.Resampling.BILINEAR)
    elif resize == "shorter-side":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        tile = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    else:
        scale = size / max(width, height)
        fitted = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
        tile = Image.new("RGB", (size, size), (_BAR, _BAR, _BAR))
        tile.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return np.array(tile).transpose(2, 0, 1)
