"""Images of many kinds and sizes, for programs that must see them as Fieldmark does."""

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_odd_images(folder: Path) -> list[Path]:
    """PNG: large and tiny, wide and high, transparent, grey, of a palette, of two levels, of 16 bits; JPEG in each orientation."""
    folder.mkdir(parents=True)
    whole = Image.fromarray(pixels(61, 47))
    alpha = Image.fromarray(np.random.default_rng(1).integers(0, 256, (47, 61), dtype=np.uint8))
    images = {
        "whole": whole,
        "large": Image.fromarray(pixels(301, 83)),
        "high": Image.fromarray(pixels(3, 90)),
        "dot": Image.fromarray(pixels(1, 1)),
        "transparent": Image.merge("RGBA", [*whole.split(), alpha]),
        "grey": whole.convert("L"),
        "palette": whole.quantize(12),
        "two-levels": whole.convert("1"),
        "deep": Image.fromarray(pixels(20, 30)[..., 0].astype(np.uint16) << 8),
    }
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    smooth = whole.resize((100, 60), Image.Resampling.BICUBIC)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        smooth.save(folder / f"orientation-{orientation}.jpg", exif=exif)
    smooth.convert("L").save(folder / "grey.jpg")
    return sorted(folder.iterdir())
