"""Predictions whose features lie about class means, made for tests."""

from __future__ import annotations

import numpy as np

from fieldmark.scoring.predictions import Predictions


def predictions(n: int, classes: int = 4, width: int = 12, seed: int = 0, spread: float = 1.0) -> Predictions:
    """Features about class means, and the logits that one linear layer gives for them."""
    layer, rng = np.random.default_rng(99), np.random.default_rng(seed)
    means, mixing = 2 * layer.normal(size=(classes, width)), layer.normal(size=(width, width)) * np.linspace(0.1, 1, width)
    weight, bias = means + layer.normal(size=(classes, width)), layer.normal(size=classes)
    labels = rng.permutation(np.arange(n) % classes).astype(np.int32)
    features = (means[labels] + spread * rng.normal(size=(n, width)) @ mixing).astype(np.float32)
    logits = (features @ weight.T / 8 + bias).astype(np.float32)
    return Predictions(np.arange(n).astype(str), labels, logits, features, tuple("abcdefgh"[:classes]))
