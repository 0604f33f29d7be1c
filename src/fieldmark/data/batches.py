"""Training batches: uint8 tiles in, augmented and normalised pictures out.

What a batch holds is a function of (seed, epoch, step) alone. While the model works on one batch, a background thread fetches the next,
with NumPy and one-threaded operators only: operators that start threads of their own would fight with the model's for the cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from fieldmark.core.randomness import key, permutation, uniform
from fieldmark.core.schema import Augment
from fieldmark.data import geometry, photometric
from fieldmark.data.geometry import Frame


@dataclass(frozen=True)
class Batch:
    images: torch.Tensor
    """Normalised, (n, 3, size, size), in the dtype and memory format of the loader."""
    labels: torch.Tensor
    """int64 (n,)."""


@dataclass(frozen=True)
class _Fetched:
    rows: np.ndarray
    pixels: torch.Tensor
    """uint8: whole tiles, or the views themselves where `matrices` is None."""
    matrices: np.ndarray | None
    colours: np.ndarray


class TrainBatches:
    """Batches of every epoch.

    Args:
        tiles: uint8 (all, 3, side, side); mapped from disk or resident on the device.
        rows: int64 (n,), the tiles that are trained on.
        labels: int (all,).
        frame: of all pictures.
        fill: whether views may show what lies outside the picture.
    """

    def __init__(
        self,
        tiles: torch.Tensor,
        rows: np.ndarray,
        labels: np.ndarray,
        frame: Frame,
        augment: Augment,
        *,
        size: int,
        batch: int,
        seed: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        fill: bool,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ):
        self.tiles, self.rows, self.labels, self.frame, self.augment = tiles, rows, labels, frame, augment
        self.size, self.seed, self.fill = size, seed, fill
        self.batch = min(batch, len(rows))
        self.device, self.dtype, self.memory_format = device, dtype, memory_format
        self._scale = 1 / (torch.tensor(std, device=device) * 255)
        self._shift = -torch.tensor(mean, device=device) * 255 * self._scale

    @property
    def steps_per_epoch(self) -> int:
        """Full batches only: what is left over in one epoch's order is seen in another's."""
        return len(self.rows) // self.batch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on."""
        order = self.rows[permutation(key(self.seed, "order", epoch), len(self.rows))]
        chosen = [order[step * self.batch : (step + 1) * self.batch] for step in range(first_step, self.steps_per_epoch)]
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = deque(pool.submit(self._fetch, rows, epoch) for rows in chosen[:1])
            for following in chosen[1:]:
                batch = self._finish(ahead.popleft().result())
                ahead.append(pool.submit(self._fetch, following, epoch))
                yield batch
            while ahead:
                yield self._finish(ahead.popleft().result())

    def make(self, rows: np.ndarray, epoch: int) -> Batch:
        """The augmented batch of these rows in this epoch."""
        return self._finish(self._fetch(rows, epoch))

    def _fetch(self, rows: np.ndarray, epoch: int) -> _Fetched:
        draws = uniform(key(self.seed, "augment", epoch), rows, geometry.DRAWS + photometric.DRAWS)
        matrices = geometry.random_matrices(self.augment, self.frame[rows], draws[:, : geometry.DRAWS])
        colours = draws[:, geometry.DRAWS :]
        if self.tiles.device.type != "cpu":
            return _Fetched(rows, self.tiles[torch.from_numpy(rows).to(self.tiles.device)], matrices, colours)
        if self.device.type == "cpu" and not self.fill and geometry.are_upright(matrices):
            return _Fetched(rows, torch.from_numpy(geometry.cut(self.tiles.numpy(), rows, matrices, self.size)), None, colours)
        return _Fetched(rows, torch.from_numpy(np.ascontiguousarray(self.tiles.numpy()[rows])), matrices, colours)

    def _finish(self, fetched: _Fetched) -> Batch:
        pixels = fetched.pixels.to(self.device)
        pictures = pixels.float() if fetched.matrices is None else geometry.resample(pixels, fetched.matrices, self.size, self.fill)
        pictures = photometric.jitter(pictures, self.augment, fetched.colours)
        images = _normalise(pictures, self._scale, self._shift).to(dtype=self.dtype, memory_format=self.memory_format)
        return Batch(images, torch.from_numpy(self.labels[fetched.rows].astype(np.int64)).to(self.device))


def _normalise(pictures: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """pictures * scale + shift per colour, in place.

    Where the colours of a pixel lie side by side, whole rows are scaled by a repeated pattern: ten times as fast on a CPU as a broadcast
    over an innermost axis of three.
    """
    if pictures.is_contiguous(memory_format=torch.channels_last):
        width = pictures.shape[3]
        pictures.permute(0, 2, 3, 1).flatten(2).mul_(scale.repeat(width)).add_(shift.repeat(width))
        return pictures
    return pictures.mul_(scale.view(1, 3, 1, 1)).add_(shift.view(1, 3, 1, 1))
