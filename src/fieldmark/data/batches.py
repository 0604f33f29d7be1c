"""Training batches: uint8 tiles in, augmented and normalised pictures out.

What a batch holds is a function of (seed, epoch, step) alone. For a GPU the next batch is made in a background thread while the model
works on this one; on the CPU a second thread would only take cores away from the model.
"""

from __future__ import annotations

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
        self._scale = 1 / (torch.tensor(std, device=device).view(1, 3, 1, 1) * 255)
        self._shift = -torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255 * self._scale

    @property
    def steps_per_epoch(self) -> int:
        """Full batches only: what is left over in one epoch's order is seen in another's."""
        return len(self.rows) // self.batch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on."""
        order = self.rows[permutation(key(self.seed, "order", epoch), len(self.rows))]
        chosen = [order[step * self.batch : (step + 1) * self.batch] for step in range(first_step, self.steps_per_epoch)]
        if self.device.type == "cpu":
            yield from (self.make(rows, epoch) for rows in chosen)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = pool.submit(self.make, chosen[0], epoch) if chosen else None
            for following in [*chosen[1:], None]:
                assert ahead is not None
                batch = ahead.result()
                ahead = pool.submit(self.make, following, epoch) if following is not None else None
                yield batch

    def make(self, rows: np.ndarray, epoch: int) -> Batch:
        """The augmented batch of these rows in this epoch."""
        draws = uniform(key(self.seed, "augment", epoch), rows, geometry.DRAWS + photometric.DRAWS)
        matrices = geometry.random_matrices(self.augment, self.frame[rows], draws[:, : geometry.DRAWS])
        pictures = geometry.resample(self.tiles, rows, matrices, self.size, self.fill, self.device)
        pictures = photometric.jitter(pictures, self.augment, draws[:, geometry.DRAWS :])
        images = torch.addcmul(self._shift, pictures, self._scale).to(dtype=self.dtype, memory_format=self.memory_format)
        return Batch(images, torch.from_numpy(self.labels[rows].astype(np.int64)).to(self.device))
