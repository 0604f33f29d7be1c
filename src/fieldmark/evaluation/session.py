"""A run of one network as a session that answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.answering.networks import Outputs
from fieldmark.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from fieldmark.evaluation.run import Run


@dataclass(frozen=True)
class TorchSession:
    """The network of a run, by PyTorch on the run's device; it is loaded at the first image."""

    run: Run

    @property
    def preprocess(self) -> Preprocess:
        return self.run.preprocess

    def __call__(self, pixels: np.ndarray) -> Outputs:
        run = self.run
        with run.computing() as execution:
            from fieldmark.evaluation.inference import logits_and_features

            return logits_and_features(run.model, pixels, run.normalisation, execution, run.recipe.evaluate.batch)
