"""Combining the members' answers: with equal weights, or by a fit, as a rule on images that they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.ensembles.members import Members
from fieldmark.ensembles.method import MeanOf, StackOn
from fieldmark.ensembles.stack import fit_stack, train_stack
from fieldmark.ensembles.weights import equal_weights, fit_weights
from fieldmark.scoring.combination import Combination, Mean, Stack, combined
from fieldmark.scoring.crossfit import FOLDS, cross_fitted
from fieldmark.scoring.predictions import Predictions

FittedOn = Literal["val", "out-of-fold", "train"]
_FEWEST = FOLDS


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was fitted, and its predictions of val: each image is answered by a fit without it (except for a stack's one penalty).

    fitted_on: val, out-of-fold, train, or None if nothing was fitted; penalty: of a stack's deviation from the mean.
    """

    combination: Combination
    val: Predictions
    fitted_on: FittedOn | None = None
    penalty: float | None = None


def fit(members: Members, method: MeanOf | StackOn, console: Console) -> Fitted:
    """Raises InputError if there is nothing to fit on that the members were not trained on."""
    if isinstance(method, StackOn) and method.fit_on == "train":
        return _trained_stack(members, console)
    parts = members.unseen()
    seen = combined(parts, Mean("logits", equal_weights(len(parts))))
    if isinstance(method, MeanOf) and not method.fitted:
        mean = Mean(method.of, equal_weights(len(parts)))
        return Fitted(Mean(method.of, _each(members, mean.weights)), combined(parts, mean))
    if refitted := [run for run in members.runs if run.recipe.train.refit]:
        raise InputError(
            *(f"{run.path} was refitted on train and val together, so nothing can be fitted on its val" for run in refitted),
            hint="Train it without train.refit, or use an equal mean.",
        )
    _check_enough(members, parts, seen)
    groups = members.groups(seen.ids)
    where: FittedOn = "out-of-fold" if members.folds else "val"
    console.say(f"fitting the {'weights' if isinstance(method, MeanOf) else 'stack'} on {len(seen):,} images ({where})")
    if isinstance(method, StackOn):
        with console.progress("fitting", "fits") as advance:
            layer, penalty, held_out = fit_stack(seen.features, seen.labels, groups, len(members.class_names), advance)
        return Fitted(Stack(members.inputs, *layer), replace(seen, logits=held_out), where, penalty)
    logits = np.split(seen.features, len(parts), axis=1)

    def answer(fitted: np.ndarray, held: np.ndarray) -> np.ndarray:
        weights = fit_weights([each[fitted] for each in logits], seen.labels[fitted], method.of)
        return Mean(method.of, weights)([each[held] for each in logits])

    weights = fit_weights(logits, seen.labels, method.of)
    return Fitted(Mean(method.of, _each(members, weights)), replace(seen, logits=cross_fitted(answer, groups)), where)


def _check_enough(members: Members, parts: Sequence[Predictions], seen: Predictions) -> None:
    """Raise InputError if hardly any image has finite logits of all members."""
    if np.isfinite(seen.features).all(axis=1).sum() >= _FEWEST:
        return
    broken = [
        f"{name} returned logits that are not finite for {(~np.isfinite(part.logits)).any(axis=1).sum():,} of {len(part):,} images of val"
        for name, part in zip(members.names, parts, strict=False)
        if not np.isfinite(part.logits).all()
    ]
    raise InputError(f"too few images of val to fit on: at least {_FEWEST} are needed", *broken, hint="An equal mean needs no fit.")


def _trained_stack(members: Members, console: Console) -> Fitted:
    if members.folds:
        raise InputError("there is no image that all folds were trained on", hint="Leave out --fit-on train.")
    seen = combined(members.predictions("train"), Mean("logits", equal_weights(len(members.runs))))
    console.say(f"training the stack on the {len(seen):,} images that its members were trained on, where they are overconfident")
    with console.progress("training", "epochs") as advance:
        layer = train_stack(seen.features, seen.labels, len(members.class_names), advance)
    stack = Stack(members.inputs, *layer)
    return Fitted(stack, combined(members.predictions("val"), stack), "train")


def _each(members: Members, weights: np.ndarray) -> np.ndarray:
    """The weight of each member: its share of its input's."""
    belongs = np.array(members.inputs)
    return np.asarray(weights[belongs] / np.bincount(belongs)[belongs])
