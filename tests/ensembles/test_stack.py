import numpy as np
import pytest
import torch
from torch import nn

from fieldmark.ensembles import stack as module
from fieldmark.ensembles.stack import fit_stack, train_stack
from fieldmark.scoring.combination import Stack
from fieldmark.scoring.crossfit import cross_fitted
from fieldmark.scoring.metrics import nll


def problem(n: int = 300, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two networks that know different halves of the classes: what either says of the other half is noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    right = 3 * np.eye(classes)[labels]
    known = np.arange(classes) < classes // 2
    parts = [np.where(knows, right, 0) + rng.normal(0, 1.5, (n, classes)) for knows in (known, ~known)]
    return np.concatenate(parts, axis=1).astype(np.float32), labels


def nothing(*_):
    pass


def answers(layer, seen: np.ndarray) -> np.ndarray:
    return Stack((0, 1), *layer)(np.split(seen, 2, axis=1))


def test_a_stack_learns_what_a_mean_cannot():
    seen, labels = problem()
    layer, penalty, _ = fit_stack(seen, labels, np.arange(len(labels)), 5, nothing)
    fresh, fresh_labels = problem(seed=1)
    mean = (fresh[:, :5] + fresh[:, 5:]) / 2
    assert penalty < 1 and nll(answers(layer, fresh), fresh_labels) < nll(mean, fresh_labels) - 0.1


def test_what_it_finds_is_the_optimum():
    """The gradient of the penalised loss, written down by hand in NumPy, vanishes there."""
    seen, labels = problem()
    penalty = 0.05
    weight, bias = (each.numpy().astype(float) for each in module._fit(torch.from_numpy(seen), torch.from_numpy(labels), 5, penalty))
    logits = seen @ weight.T + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(5)[labels]) / len(labels)
    assert np.abs(error.sum(axis=0) + penalty * bias).max() < 1e-3
    gradient = error.T @ seen  # = -penalty * deviation, where the deviation is what the weight has beside two multiples of the identity
    deviation = -gradient / penalty
    rest = weight - deviation
    for part in np.split(rest, 2, axis=1):
        assert np.abs(part - np.eye(5) * np.diag(part).mean()).max() < 0.02


def test_answers_for_val_are_by_stacks_that_have_not_seen_it():
    """Labels that say nothing: a stack knows those that it was fitted to, and not those that it was not."""
    rng = np.random.default_rng(0)
    seen, labels = rng.normal(0, 1, (60, 40)).astype(np.float32), rng.integers(0, 4, 60)
    layer, _, held_out = fit_stack(seen, labels, np.arange(len(labels)), 4, nothing)
    within = Stack(tuple(range(10)), *layer)(np.split(seen, 10, axis=1))
    assert nll(held_out, labels) > nll(within, labels)


def test_cross_fitting_answers_every_row_once_by_a_fit_without_it():
    def answer(fitted, held):
        assert not set(fitted) & set(held) and len(fitted) + len(held) == 23
        return held.astype(float)

    assert cross_fitted(answer, np.arange(23)).tolist() == list(range(23))
    assert cross_fitted(answer, np.arange(23) % 2 * 900).tolist() == list(range(23))


def test_images_of_a_group_are_not_split_by_cross_fitting():
    groups = np.random.default_rng(0).integers(0, 12, 100)

    def answer(fitted, held):
        assert not set(groups[fitted]) & set(groups[held])
        return held

    assert cross_fitted(answer, groups).tolist() == list(range(100))


def test_rows_that_are_not_finite_are_passed_over():
    seen, labels = problem(60)
    broken = np.concatenate([seen, np.full((1, 10), np.inf, np.float32)])
    layer, _, held_out = fit_stack(broken, np.append(labels, 0), np.arange(61), 5, nothing)
    again, _, _ = fit_stack(seen, labels, np.arange(len(labels)), 5, nothing)
    assert np.array_equal(layer[0], again[0]) and np.isnan(held_out[-1]).all() and np.isfinite(held_out[:-1]).all()


def test_the_published_stack_is_twenty_epochs_of_sgd(monkeypatch):
    """Against a loop written down again: batches of 32, momentum 0.9, a cosine from 1e-3 to 1e-6."""
    seen, labels = problem(100)
    orders = [np.random.default_rng(epoch).permutation(100) for epoch in range(20)]
    handed = iter(orders)
    monkeypatch.setattr(module, "permutation", lambda *_: next(handed))
    weight, bias = train_stack(seen, labels, 5, nothing)
    torch.manual_seed(0)
    layer = nn.Linear(10, 5)
    velocity = [torch.zeros_like(each) for each in layer.parameters()]
    step = 0
    for order in orders:
        for start in (0, 32, 64):
            chosen = order[start : start + 32]
            layer.zero_grad()
            nn.functional.cross_entropy(layer(torch.from_numpy(seen[chosen])), torch.from_numpy(labels[chosen])).backward()
            rate = 1e-6 + (1e-3 - 1e-6) * (1 + np.cos(np.pi * step / 60)) / 2
            with torch.no_grad():
                for moving, parameter in zip(velocity, layer.parameters(), strict=True):
                    moving.mul_(0.9).add_(parameter.grad)
                    parameter.sub_(rate * moving)
            step += 1
    assert weight == pytest.approx(layer.weight.detach().numpy(), abs=1e-5) and bias == pytest.approx(layer.bias.detach().numpy(), abs=1e-5)
