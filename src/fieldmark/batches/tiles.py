"""Tiles: the images of train and val, decoded once at the size that training needs."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fieldmark.batches.geometry import Frame
from fieldmark.batches.windows import windows
from fieldmark.core.console import Console
from fieldmark.core.manifest import Colours
from fieldmark.core.recipe.data import BoxCrop, Data
from fieldmark.datasets.loading import LoadedData, check_readable
from fieldmark.datasets.pixel_cache import Decoding, default_cache_dir, open_pixels
from fieldmark.datasets.regions import margin_of, tile_margin_of

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Tiles:
    """`pixels[i]` is row `rows[i]` of `loaded`: the whole image, or its box with all pixels that training may move it to.

    `pixels` are uint8 (all, 3, side, side), mapped from disk; `rows` int64 (all,), ascending. `loaded` sets aside the images that cannot be
    decoded.
    """

    loaded: LoadedData
    rows: np.ndarray
    pixels: np.ndarray

    @classmethod
    def decode(
        cls, loaded: LoadedData, settings: Data, console: Console, cache_dir: Path | None = None, colours: Colours = "srgb"
    ) -> Tiles:
        """Decode train and val into the cache, or into `cache_dir`; `colours` are as in runtime.decode.

        Raises InputError if more files fail than `data.max_unreadable` allows; in `cache_dir`, for a sample, any number may fail.
        """
        rows, crop = loaded.rows("train", "val"), settings.crop
        regions = loaded.regions(rows, tile_margin_of(crop))
        sides = (regions[:, 2:] - regions[:, :2]).max(axis=1)
        around = (1 + 2 * crop.margin + 2 * crop.jitter) / (1 + 2 * crop.margin) if isinstance(crop, BoxCrop) else 1.0
        side = min(math.ceil(settings.size * settings.cache_scale * around), max(int(np.median(sides)), 1))
        with console.progress("decoding", "images") as advance:
            decoding = Decoding(side, "squash", settings.corrupt, colours)
            cache = open_pixels(loaded.selection(rows, tile_margin_of(crop)), decoding, cache_dir or default_cache_dir(), advance)
        if not cache.unreadable:
            console.say(*(cache.remarks([loaded.dataset.paths[row] for row in rows]) if cache_dir is None else ()))
            return cls(loaded, rows, cache.array)
        found = loaded.without({int(rows[index]): reason for index, reason in cache.unreadable.items()})
        if cache_dir is None:
            check_readable(found, settings.max_unreadable, console, said=loaded.content.problems)
        return cls.decode(found, settings, console, cache_dir, colours)

    @property
    def labels(self) -> np.ndarray:
        return self.loaded.dataset.labels[self.rows]

    def of(self, *splits: str) -> np.ndarray:
        """Positions in `rows` of the images of these splits, int64."""
        return np.flatnonzero(np.isin(self.loaded.dataset.splits[self.rows], splits))

    def frame(self, settings: Data) -> Frame:
        """How views lie on the tiles."""
        seen = self.loaded.regions(self.rows, margin_of(settings.crop))
        whole = self.loaded.regions(self.rows, tile_margin_of(settings.crop))
        width, height = (seen[:, 2:] - seen[:, :2]).T
        return Frame.of(settings.resize, width, height, windows(whole, seen, settings.crop))

    def placed(self, device: torch.device, storage: str) -> torch.Tensor:
        """The pixels mapped from disk, or resident on the device."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            pixels = torch.from_numpy(self.pixels)
        if storage == "auto":
            fits = device.type == "cuda" and pixels.nbytes < torch.cuda.mem_get_info(device)[0] / 2
            storage = "resident" if fits else "mapped"
        return pixels.to(device, copy=True) if storage == "resident" else pixels

    def mean_and_std(self, positions: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of each channel over the tiles at these positions, scaled to [0, 1]; from exact sums."""
        totals, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
        for start in range(0, len(positions), _CHUNK):
            part = self.pixels[positions[start : start + _CHUNK]].astype(np.int64)
            totals += part.sum(axis=(0, 2, 3))
            squares += (part**2).sum(axis=(0, 2, 3))
        count = len(positions) * self.pixels.shape[2] * self.pixels.shape[3]
        mean = totals / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        red, green, blue = (mean / 255).tolist()
        return (red, green, blue), tuple(np.maximum(std / 255, 1 / 255).tolist())
