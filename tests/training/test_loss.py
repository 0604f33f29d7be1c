"""Losses against targets written out in full."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.recipe.loss import CrossEntropy
from fieldmark.training.loss import loss_of


def batch(seed, count=7, classes=5):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    labels, others = (torch.randint(classes, (count,), generator=generator) for _ in range(2))
    return logits, labels, others, torch.rand(count, generator=generator)


def targets(labels, classes, smoothing, over):
    """What each class should get, one image and class at a time."""
    rows = []
    for label in labels.tolist():
        if over == "all":
            rows.append([smoothing / classes + (1 - smoothing) * (index == label) for index in range(classes)])
        else:
            rows.append([1 - smoothing if index == label else smoothing / (classes - 1) for index in range(classes)])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("over", ["all", "others"])
@given(st.integers(0, 10_000), st.floats(0.01, 0.95), st.integers(2, 9))
def test_smoothing(over, seed, smoothing, classes):
    logits, labels, _, _ = batch(seed, classes=classes)
    expected = -(targets(labels, classes, smoothing, over) * logits.log_softmax(1)).sum(1).mean()
    settings = CrossEntropy(label_smoothing=smoothing, smoothing_over=over)
    assert loss_of(settings, logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


@given(st.integers(0, 10_000), st.floats(0.01, 0.5), st.integers(2, 9))
def test_one_convention_is_the_other_with_another_share(seed, smoothing, classes):
    logits, labels, _, _ = batch(seed, classes=classes)
    others = loss_of(CrossEntropy(label_smoothing=smoothing * (classes - 1) / classes, smoothing_over="others"), logits, labels)
    assert others.item() == pytest.approx(loss_of(CrossEntropy(label_smoothing=smoothing), logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize(("smoothing", "over"), [(0.0, "all"), (0.1, "all"), (0.1, "others")])
@given(st.integers(0, 10_000))
def test_mixed_labels(smoothing, over, seed):
    logits, labels, others, shares = batch(seed)
    mixed = shares[:, None] * targets(labels, 5, smoothing, over) + (1 - shares[:, None]) * targets(others, 5, smoothing, over)
    expected = -(mixed * logits.log_softmax(1)).sum(1).mean()
    settings = CrossEntropy(label_smoothing=smoothing, smoothing_over=over)
    assert loss_of(settings, logits, labels, others, shares).item() == pytest.approx(expected.item(), rel=1e-5)


def test_bfloat16_logits_are_reckoned_with_in_float32():
    logits, labels, _, _ = batch(0)
    low = logits.bfloat16()
    assert loss_of(CrossEntropy(), low, labels).dtype == torch.float32
    assert loss_of(CrossEntropy(), low, labels) == loss_of(CrossEntropy(), low.float(), labels)
