"""Soups: the weights of several trainings of one architecture averaged into one network (Wortsman et al., ICML 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from fieldmark.core.console import Advance, Console
from fieldmark.core.errors import InputError
from fieldmark.core.randomness import key, permutation
from fieldmark.datasets.dataset import UNKNOWN
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.split_file import restore_data
from fieldmark.ensembles.members import Members
from fieldmark.ensembles.method import SoupOf, unlike_networks
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.split import SplitPixels, open_split
from fieldmark.models.evaluating import evaluating
from fieldmark.models.factory import Classifier
from fieldmark.models.weights import load_tensors, read_weights
from fieldmark.scoring.metrics import top_k
from fieldmark.scoring.predictions import Predictions

_BATCH = 128
_IMAGES = 4096
"""Number of training images from which the statistics of batch norms are estimated."""


@dataclass(frozen=True, eq=False)
class Soup:
    """One network, the members it is made of (the best on val first), and its predictions of each split."""

    model: Classifier
    chosen: tuple[int, ...]
    greedy: bool
    predictions: dict[str, Predictions]


def cook(members: Members, method: SoupOf, console: Console) -> Soup:
    """Average the weights of all runs, or, from the best on val down, of each that does not lower val top-1; then evaluate test.

    Raises InputError if the runs are not of one architecture, or there is no val that none of them was trained on.
    """
    _check_ingredients(members)
    by_val = sorted(range(len(members.runs)), key=lambda index: -members.runs[index].summary.val.top1)
    best = Run(members.runs[by_val[0]].folder)
    loaded = restore_data(best.folder, best.class_names, console)
    kitchen = _Kitchen.of(best, loaded, console)
    if method.greedy:
        chosen, top1 = by_val[:1], kitchen.val_top1([members.runs[by_val[0]]])
        for index in by_val[1:]:
            tried = kitchen.val_top1([members.runs[each] for each in (*chosen, index)])
            console.say(f"{members.names[index]}: val top-1 {top1:.1f} % {'becomes' if tried >= top1 else 'would become'} {tried:.1f} %")
            if tried >= top1:
                chosen, top1 = [*chosen, index], tried
    else:
        chosen = by_val
    kitchen.fill([members.runs[index] for index in chosen])
    splits = ("train", "val", "test", UNKNOWN)
    predictions = {split: best.predict_rows(loaded, rows, console) for split in splits if len(rows := loaded.rows(split))}
    return Soup(best.model, tuple(chosen), method.greedy, predictions)


def _check_ingredients(members: Members) -> None:
    first = members.runs[0]
    problems = []
    if members.folds:
        problems.append("a soup of folds has no val that none of them was trained on; --method mean takes folds")
    for run in members.runs:
        if run.recipe.train.refit:
            problems.append(f"{run.path} was refitted on train and val together, so val says nothing about a soup of it")
    for run in members.runs[1:]:
        different = unlike_networks(first.recipe, run.recipe)
        if run.preprocess != first.preprocess:
            different.append("their preprocessing (size, resize, crop, colours or normalisation)")
        if different:
            problems.append(f"{first.path} and {run.path} differ in {', '.join(different)}")
    if problems:
        raise InputError(*problems, hint="A soup averages the weights of one architecture; --method mean takes any networks.")


def averaged(runs: Sequence[Run]) -> dict[str, Tensor]:
    """The mean of the runs' weights, on the CPU. Other tensors than floating-point ones are the first run's.

    Raises InputError if the files hold different tensors.
    """
    total: dict[str, Tensor] = {}
    for count, run in enumerate(runs, 1):
        tensors = read_weights(run.folder.best_weights)[0]
        if count > 1 and {name: tensor.shape for name, tensor in tensors.items()} != {name: each.shape for name, each in total.items()}:
            raise InputError(f"{runs[0].folder.best_weights} and {run.folder.best_weights} hold different tensors")
        for name, tensor in tensors.items():
            if count == 1:
                total[name] = tensor.double() if tensor.is_floating_point() else tensor
            elif tensor.is_floating_point():
                total[name] += (tensor.double() - total[name]) / count
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in total.items()}


@dataclass(frozen=True, eq=False)
class _Kitchen:
    """The network of `run`, whose weights are replaced, and the images for estimating batch norms and for scoring soups."""

    run: Run
    train: SplitPixels
    val: SplitPixels
    console: Console

    @classmethod
    def of(cls, run: Run, loaded: LoadedData, console: Console) -> _Kitchen:
        rows = loaded.rows("train")
        some = rows[permutation(key(0, "soup"), len(rows))[:_IMAGES]]  # shuffled: batches of one class have other statistics
        train, val = (open_split(loaded, each, run.preprocess, run.recipe.data.corrupt, console) for each in (some, loaded.rows("val")))
        return cls(run, train, val, console)

    def fill(self, runs: Sequence[Run]) -> None:
        """Load the mean of these runs' weights; if there are several, estimate batch norms' statistics again.

        The means of the statistics are not those of the averaged network (Izmailov et al., UAI 2018).
        """
        load_tensors(self.run.model, averaged(runs), str(runs[0].folder.best_weights))
        if len(runs) > 1:
            with self.console.progress("batch norms", "batches") as advance:
                _estimate_norms(self.run, self.train, advance)

    def val_top1(self, runs: Sequence[Run]) -> float:
        self.fill(runs)
        run = self.run
        with run.computing() as execution:
            logits, _ = self.val.logits_and_features(run.model, execution, run.recipe.evaluate.batch, self.console)
        return 100 * top_k(logits, self.val.labels, 1)


def _estimate_norms(run: Run, split: SplitPixels, advance: Advance) -> None:
    """Set the statistics of batch norms to those of images as evaluation sees them."""
    model = run.model
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    parts = np.array_split(split.sound, max(len(split.sound) // _BATCH, 1))
    with run.computing() as execution, evaluating(model), torch.no_grad(), execution.autocast():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        for done, part in enumerate(parts, 1):
            images = run.normalisation(torch.from_numpy(split.shown(part)).to(execution.device))
            model(images.to(memory_format=execution.memory_format))
            advance(done, len(parts))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
