"""Training batches: uint8 tiles in, augmented and normalised images out.

The content of a batch is a function of (seed, epoch, step) alone; the augmentation of an image, before it is mixed with another, of (seed,
epoch, image). While the model works on one batch, a background thread fetches the next, with NumPy, OpenCV and one-threaded operators only:
operators that start their own threads would compete with the model's for the cores.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from fieldmark.batches import erasing, geometry, mixing, operations, photometric, policies, view_operations
from fieldmark.batches.geometry import Frame
from fieldmark.core.randomness import key, permutation, uniform
from fieldmark.core.recipe.augment import Augment, NoErasing, NoMixing, NoPolicy


@dataclass(frozen=True)
class Batch:
    images: torch.Tensor
    """Normalised, (n, 3, size, size), in the dtype and memory format of the loader."""
    labels: torch.Tensor
    """int64 (n,)."""
    other_labels: torch.Tensor | None = None
    """int64 (n,): label of the image that each is mixed with; None if the recipe does not mix."""
    shares: torch.Tensor | None = None
    """float32 (n,): weight of `labels`, the rest being that of `other_labels`; 1 if an image is not mixed."""

    def split(self, size: int) -> Iterator[Batch]:
        """Its images in order, in the fewest parts of at most `size`; the sizes of the parts differ by at most one."""
        parts = -(-len(self.labels) // size)
        tensors = (self.images, self.labels, self.other_labels, self.shares)
        for images, labels, *mixed in zip(*([None] * parts if each is None else each.tensor_split(parts) for each in tensors), strict=True):
            assert images is not None and labels is not None
            yield Batch(images, labels, *mixed)


@dataclass(frozen=True)
class _Fetched:
    rows: np.ndarray
    pixels: torch.Tensor
    """uint8: whole tiles, or the views themselves if `matrices` is None."""
    matrices: np.ndarray | None
    colours: np.ndarray
    light: np.ndarray | None
    operations: policies.Drawn | None
    """Operations still to be applied."""
    patches: list[erasing.Patch]


class TrainBatches:
    """Batches of every epoch.

    Args:
        tiles: uint8 (all, 3, side, side); mapped from disk or resident on the device.
        rows: int64 (n,), the tiles to train on.
        labels: int (all,).
        frame: of all images.
        fill: whether views may show anything outside the image.
        views: how many views of each image there are: epoch e shows view e % views, in an order of its own. Every epoch shows another by
            default.
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
        views: int | None = None,
    ):
        self.tiles, self.rows, self.labels, self.frame, self.augment = tiles, rows, labels, frame, augment
        self.size, self.seed, self.fill, self.views = size, seed, fill, views
        self.batch = min(batch, len(rows))
        self.device, self.dtype, self.memory_format = device, dtype, memory_format
        self._scale = 1 / (torch.tensor(std, device=device) * 255)
        self._shift = -torch.tensor(mean, device=device) * 255 * self._scale
        jittered = augment.brightness or augment.contrast or augment.saturation or augment.hue or augment.lighting
        self._operations_last = bool(jittered) or device.type != "cpu"

    @property
    def steps_per_epoch(self) -> int:
        """Full batches only: images left over in one epoch's order are seen in another's."""
        return len(self.rows) // self.batch

    def with_views(self, views: int | None) -> TrainBatches:
        """The same images with this many views of each."""
        batches = copy.copy(self)
        batches.views = views
        return batches

    def order(self, epoch: int) -> np.ndarray:
        """The order of an epoch: positions in `rows`, int64 (n,)."""
        return permutation(key(self.seed, "order", epoch), len(self.rows))

    def places(self, epoch: int, first_step: int = 0) -> list[np.ndarray]:
        """Which images each batch of an epoch holds, from `first_step` on: positions in `rows`, int64 (batch,)."""
        order = self.order(epoch)
        return [order[step * self.batch : (step + 1) * self.batch] for step in range(first_step, self.steps_per_epoch)]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on."""
        chosen = [self.rows[places] for places in self.places(epoch, first_step)]
        view = epoch if self.views is None else epoch % self.views
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = deque((rows, pool.submit(self._fetch, rows, view)) for rows in chosen[:1])
            for following in chosen[1:]:
                rows, fetched = ahead.popleft()
                batch = self._finish(fetched.result(), self._mixture(rows, epoch))
                ahead.append((following, pool.submit(self._fetch, following, view)))
                yield batch
            for rows, fetched in ahead:
                yield self._finish(fetched.result(), self._mixture(rows, epoch))

    def make(self, rows: np.ndarray, epoch: int) -> Batch:
        """The augmented batch of these rows in this epoch."""
        view = epoch if self.views is None else epoch % self.views
        return self._finish(self._fetch(rows, view), self._mixture(rows, epoch))

    def make_view(self, rows: np.ndarray, view: int) -> Batch:
        """These rows in this view, not mixed: as the epoch of the same number shows them, whatever else is in the batch."""
        return self._finish(self._fetch(rows, view), None)

    def _fetch(self, rows: np.ndarray, view: int) -> _Fetched:
        augment = self.augment
        draws = uniform(key(self.seed, "augment", view), rows, geometry.DRAWS + photometric.DRAWS)
        matrices = geometry.random_matrices(augment, self.frame[rows], draws[:, : geometry.DRAWS])
        colours = draws[:, geometry.DRAWS :]
        light = uniform(key(self.seed, "lighting", view), rows, photometric.LIGHTING_DRAWS) if augment.lighting else None
        drawn = None
        if not isinstance(augment.policy, NoPolicy):
            policy_draws = uniform(key(self.seed, "policy", view), rows, policies.draws_of(augment.policy))
            drawn = policies.draw(augment.policy, self.size, policy_draws)
            matrices = policies.moved(matrices, drawn, self.size)
        covering: list[erasing.Patch] = []
        if not isinstance(augment.erase, NoErasing):
            stream = key(self.seed, "erase", view)
            covering = erasing.patches(augment.erase, self.size, uniform(stream, rows, erasing.DRAWS), stream, rows)
        if self.tiles.device.type != "cpu":
            tiles = self.tiles[torch.from_numpy(rows).to(self.tiles.device)]
            return _Fetched(rows, tiles, matrices, colours, light, drawn, covering)
        if self.device.type != "cpu":
            tiles = torch.from_numpy(np.ascontiguousarray(self.tiles.numpy()[rows]))
            return _Fetched(rows, tiles, matrices, colours, light, drawn, covering)
        views = geometry.look(self.tiles.numpy(), rows, matrices, self.size)
        if drawn is not None and not self._operations_last:
            view_operations.change_views(views, drawn)
            drawn = None
        return _Fetched(rows, torch.from_numpy(views), None, colours, light, drawn, covering)

    def _mixture(self, rows: np.ndarray, epoch: int) -> mixing.Mixture | None:
        if isinstance(self.augment.mix, NoMixing):
            return None
        return mixing.draw(self.augment.mix, self.size, uniform(key(self.seed, "mix", epoch), rows, mixing.DRAWS))

    def _finish(self, fetched: _Fetched, mixture: mixing.Mixture | None) -> Batch:
        pixels = fetched.pixels.to(self.device)
        images = pixels.float() if fetched.matrices is None else geometry.resample(pixels, fetched.matrices, self.size, self.fill)
        images = photometric.jitter(images, self.augment, fetched.colours)
        if fetched.light is not None:
            images = photometric.lighting(images, self.augment.lighting, fetched.light)
        if fetched.operations is not None:
            images = operations.change_images(images, fetched.operations)
        images = _normalise(images, self._scale, self._shift)
        erasing.cover(images, fetched.patches)
        if mixture is not None:
            images = mixing.mix_images(images, mixture)
        images = images.to(dtype=self.dtype, memory_format=self.memory_format)
        labels = torch.from_numpy(self.labels[fetched.rows].astype(np.int64)).to(self.device)
        if mixture is None:
            return Batch(images, labels)
        return Batch(images, labels, labels.roll(-1), torch.from_numpy(mixture.shares).to(self.device))


def _normalise(images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """images * scale + shift per colour, in place.

    If channels are last in memory, whole rows are scaled by a repeated pattern: ten times as fast on a CPU as a broadcast
    over an innermost axis of three.
    """
    if images.is_contiguous(memory_format=torch.channels_last):
        width = images.shape[3]
        images.permute(0, 2, 3, 1).flatten(2).mul_(scale.repeat(width)).add_(shift.repeat(width))
        return images
    return images.mul_(scale.view(1, 3, 1, 1)).add_(shift.view(1, 3, 1, 1))
