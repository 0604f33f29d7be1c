"""Validation after an epoch: the figures of val, and the best weights so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fieldmark.scoring.metrics import macro_f1, nll, top_k
from fieldmark.training.average import Averaging
from fieldmark.training.features import Predict
from fieldmark.training.monitor import is_better, note_best, note_plateau
from fieldmark.training.position import Position, Weights
from fieldmark.training.setup import Setup


class Validation:
    """`save_best` saves the model's current weights as those of the position's best epoch."""

    def __init__(self, setup: Setup, averaging: Averaging, save_best: Callable[[Position], None]):
        self._recipe, self._console = setup.recipe, setup.console
        self._val, self._averaging, self._save_best = setup.split("val"), averaging, save_best

    def after_epoch(self, at: Position, predict: Predict) -> dict[str, Any]:
        """The figures of val for the row of this epoch, noted in the position.

        With an average that is used if it is better, both kinds of weights are evaluated.
        """
        kinds, monitor = self._averaging.kinds, self._recipe.evaluate.monitor
        found: dict[Weights, dict[str, float]] = {}
        for kind in kinds:
            with self._averaging.in_model(kind):
                found[kind] = self._figures(predict)
        chosen = kinds[0]
        for kind in kinds[1:]:
            if is_better(found[kind][monitor], found[chosen][monitor], monitor):
                chosen = kind
        row: dict[str, Any] = {f"val_{name}": value for name, value in found[chosen].items()}
        if self._averaging.is_kept:
            row |= {"weights": chosen} | {f"val_{monitor}_{kind}": found[kind][monitor] for kind in kinds[1:] and kinds}
        note_plateau(at, self._recipe, found[chosen])
        if note_best(at, self._recipe, found[chosen][monitor], chosen):
            with self._averaging.in_model(chosen):
                self._save_best(at)
        return row

    def _figures(self, predict: Predict) -> dict[str, float]:
        logits, _ = predict(self._val, self._recipe.evaluate.batch, self._console)
        labels = self._val.labels
        return {"top1": 100 * top_k(logits, labels, 1), "macro_f1": 100 * macro_f1(logits, labels), "nll": nll(logits, labels)}
