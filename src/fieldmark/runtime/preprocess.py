"""The one evaluation preprocessing: from a picture's bytes to the square that a model sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from fieldmark.runtime.decode import open_rgb

Resize = Literal["squash", "shorter-side", "letterbox"]
_BAR = 128


@dataclass(frozen=True)
class Preprocess:
    """Decode, resize, normalise. `mean` and `std` are per channel (red, green, blue), of values in [0, 1]."""

    size: int
    resize: Resize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def pixels(self, source: bytes | Path, name: str | None = None) -> np.ndarray:
        """uint8 of shape (3, size, size). Raises runtime.decode.UnreadableImage."""
        return np.ascontiguousarray(square(source, self.size, self.resize, name))

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(x / 255 - mean) / std: float32 of the shape of `pixels`, (..., 3, height, width)."""
        mean = np.asarray(self.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None, None]
        return (pixels.astype(np.float32) / np.float32(255) - mean) / std

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        return cls(**(values | {"mean": tuple(values["mean"]), "std": tuple(values["std"])}))


def square(source: bytes | Path, size: int, resize: Resize, name: str | None = None) -> np.ndarray:
    """A picture as a square, resampled bilinearly with antialiasing.

    uint8 of shape (3, size, size), the colours of a pixel side by side in memory.

    "squash" squashes its sides, "shorter-side" cuts the middle square, "letterbox" fits it whole between grey bars (128).
    """
    picture = open_rgb(source, name, at_least=size)
    width, height = picture.size
    if resize == "squash":
        tile = picture.resize((size, size), Image.Resampling.BILINEAR)
    elif resize == "shorter-side":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        tile = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    else:
        scale = size / max(width, height)
        fitted = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
        tile = Image.new("RGB", (size, size), (_BAR, _BAR, _BAR))
        tile.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return np.array(tile).transpose(2, 0, 1)
