"""The prediction pass: images in, logits and features out, as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fieldmark.core.console import Advance
from fieldmark.models.evaluating import evaluating
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier


@dataclass(frozen=True)
class Normalisation:
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, h, w) to float32, (x / 255 - mean) / std."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.float() / 255 - mean) / std


def logits_and_features(
    model: Classifier,
    pixels: np.ndarray,
    normalisation: Normalisation,
    execution: Execution,
    batch: int,
    rows: np.ndarray | None = None,
    advance: Advance | None = None,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 (n, classes) and features float32 (n, d) in evaluation mode; the model returns to the modes that it was in.

    Args:
        pixels: uint8 (all, 3, size, size).
        rows: int64 (n,), which of them; all by default.
        change: returns the pixels of some rows in another form, uint8 (m, 3, size, size); as they are by default.
    """
    rows = np.arange(len(pixels)) if rows is None else rows
    logits = np.empty((len(rows), model.num_classes), np.float32)
    features = np.empty((len(rows), model.num_features), np.float32)
    with evaluating(model), torch.inference_mode(), execution.autocast():
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            part = torch.from_numpy(pixels[chosen] if change is None else change(chosen)).to(execution.device)
            images = normalisation(part).to(memory_format=execution.memory_format)
            batch_logits, batch_features = model.forward_with_features(images)
            logits[start : start + batch] = batch_logits.float().cpu().numpy()
            features[start : start + batch] = batch_features.float().cpu().numpy()
            if advance is not None:
                advance(min(start + batch, len(rows)), len(rows))
    return logits, features
