"""The decoded images that training draws on: tiles of train and val, how views lie on them, and what they are normalised by."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import torch

from fieldmark.batches.geometry import Frame, leaves_image
from fieldmark.batches.train_batches import TrainBatches
from fieldmark.batches.windows import windows
from fieldmark.core.console import Console
from fieldmark.core.recipe.data import BoxCrop, Data
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.datasets.loading import LoadedData, check_readable
from fieldmark.datasets.pixel_cache import PixelCache, View, default_cache_dir, open_pixels
from fieldmark.datasets.regions import margin_of, tile_margin_of
from fieldmark.models.arithmetic import Arithmetic
from fieldmark.models.factory import Built
from fieldmark.runtime.preprocess import Preprocess

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHUNK = 256


def training_tiles(loaded: LoadedData, recipe: Recipe, console: Console, cache_dir: Path | None = None) -> tuple[LoadedData, PixelCache]:
    """Decode train and val into tiles, one for each row of `loaded.rows("train", "val")`; files that fail are set aside first.

    They go into the cache, or into a folder of the caller's.
    """
    rows, crop = loaded.rows("train", "val"), recipe.data.crop
    regions = loaded.regions(rows, tile_margin_of(crop))
    sides = (regions[:, 2:] - regions[:, :2]).max(axis=1)
    around = (1 + 2 * crop.margin + 2 * crop.jitter) / (1 + 2 * crop.margin) if isinstance(crop, BoxCrop) else 1.0
    side = min(math.ceil(recipe.data.size * recipe.data.cache_scale * around), max(int(np.median(sides)), 1))
    with console.progress("decoding", "images") as advance:
        view = View(side, "squash", recipe.data.corrupt)
        cache = open_pixels(loaded.selection(rows, tile_margin_of(crop)), view, cache_dir or default_cache_dir(), advance)
    if cache.unreadable:
        loaded = loaded.without({int(rows[index]): reason for index, reason in cache.unreadable.items()})
        if cache_dir is None:  # a caller's own folder holds a sample, whose share of unreadable files says nothing
            check_readable(loaded, recipe.data.max_unreadable, console)
        return training_tiles(loaded, recipe, console, cache_dir)
    return loaded, cache


def frame_of(loaded: LoadedData, rows: np.ndarray, data: Data) -> Frame:
    """How views lie on the tiles of these rows."""
    seen, tiles = loaded.regions(rows, margin_of(data.crop)), loaded.regions(rows, tile_margin_of(data.crop))
    width, height = (seen[:, 2:] - seen[:, :2]).T
    return Frame.of(data.resize, width, height, windows(tiles, seen, data.crop))


def placed_tiles(cache: PixelCache, device: torch.device, storage: str) -> torch.Tensor:
    """The tiles mapped from disk, or resident on the device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tiles = torch.from_numpy(cache.array)
    if storage == "auto":
        fits = device.type == "cuda" and tiles.nbytes < torch.cuda.mem_get_info(device)[0] / 2
        storage = "resident" if fits else "mapped"
    return tiles.to(device, copy=True) if storage == "resident" else tiles


def train_batches(
    loaded: LoadedData, cache: PixelCache, recipe: Recipe, preprocess: Preprocess, arithmetic: Arithmetic, trained: np.ndarray, seed: int
) -> TrainBatches:
    """The batches of a recipe from the tiles of train and val; `trained` are those that are trained on, int64 (n,)."""
    pool = loaded.rows("train", "val")
    assert len(pool) == len(cache.array), "each tile belongs to one row"
    return TrainBatches(
        placed_tiles(cache, arithmetic.device, recipe.data.storage),
        trained,
        loaded.dataset.labels[pool],
        frame_of(loaded, pool, recipe.data),
        recipe.augment,
        size=recipe.data.size,
        batch=recipe.train.batch,
        seed=seed,
        mean=preprocess.mean,
        std=preprocess.std,
        fill=leaves_image(recipe.augment, recipe.data.resize),
        device=arithmetic.device,
        dtype=arithmetic.dtype,
        memory_format=arithmetic.memory_format,
    )


def preprocessing(data: Data, built: Built, loaded: LoadedData, cache: PixelCache) -> Preprocess:
    """What evaluation does to an image: `cache` holds the tiles of train and val, which data.normalise=measured looks at."""
    if data.normalise == "weights":
        mean, std = built.mean, built.std
    elif data.normalise == "imagenet":
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    elif data.normalise == "unit":
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        train = loaded.dataset.splits[loaded.rows("train", "val")] == "train"
        mean, std = mean_and_std(cache.array, np.flatnonzero(train))
    return Preprocess(data.size, data.resize, mean, std, margin_of(data.crop))


def mean_and_std(tiles: np.ndarray, rows: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Of each colour over these rows of uint8 (all, 3, side, side), scaled to [0, 1]; from exact sums."""
    totals, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(rows), _CHUNK):
        part = tiles[rows[start : start + _CHUNK]].astype(np.int64)
        totals += part.sum(axis=(0, 2, 3))
        squares += (part**2).sum(axis=(0, 2, 3))
    count = len(rows) * tiles.shape[2] * tiles.shape[3]
    mean = totals / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    red, green, blue = (mean / 255).tolist()
    return (red, green, blue), tuple(np.maximum(std / 255, 1 / 255).tolist())
