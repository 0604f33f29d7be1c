"""The graph of a bundle as a session that answers, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fieldmark.answering.networks import Outputs
from fieldmark.runtime.preprocess import Preprocess

Run = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Of exactly as many images as the graph was made for, uint8 in its layout, contiguous: its outputs, in order."""


@dataclass(frozen=True, eq=False)
class GraphSession:
    """`batches` are the sizes that there are graphs for, and `open_graph` opens the one of a size, when it is first needed.

    channels_last: whether they take images as (batch, size, size, 3).
    head: what answers in place of the graph's logits, from its features; the map, which is of one of these logits, is then left out.
    """

    preprocess: Preprocess
    batches: tuple[int, ...]
    open_graph: Callable[[int], Run]
    channels_last: bool = False
    head: Callable[[np.ndarray], Outputs] | None = None
    _opened: dict[int, Run] = field(default_factory=dict)

    def __call__(self, pixels: np.ndarray) -> Outputs:
        logits, features, *_ = self.outputs(pixels)
        return logits, features

    def outputs(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """All that the graph returns, float32, of uint8 (n, 3, size, size) with at least one image."""
        parts = list(self._parts(pixels))
        outputs = tuple(np.concatenate(each).astype(np.float32, copy=False) for each in zip(*parts, strict=True))
        return outputs if self.head is None else self.head(outputs[1])

    def warm_up(self) -> None:
        """Open the graph for the fewest images, so that the first answer does not wait for it."""
        self._graph(min(self.batches))

    def _graph(self, batch: int) -> Run:
        if batch not in self._opened:
            self._opened[batch] = self.open_graph(batch)
        return self._opened[batch]

    def _parts(self, pixels: np.ndarray) -> Iterator[list[np.ndarray]]:
        """Of as many images at a time as the largest graph that they fill; the last part is filled up with its last image."""
        start = 0
        while start < len(pixels):
            left = len(pixels) - start
            batch = max((each for each in self.batches if each <= left), default=min(self.batches))
            part = pixels[start : start + batch]
            if len(part) < batch:
                part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            if self.channels_last:
                part = part.transpose(0, 2, 3, 1)
            yield [each[:left] for each in self._graph(batch)(np.ascontiguousarray(part))]
            start += batch
