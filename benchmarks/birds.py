"""How far a linear classifier gets on the built-in birds: the accuracy possible without looking for field marks.

    python benchmarks/birds.py

Fits multinomial logistic regression on the training images' pixels (16, 32 and 48 a side) and on their colour histograms (8 bins per
channel jointly, and 32 per channel separately), with the regularisation that is best on val, and prints the accuracy on test.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import read_dataset


def pixels(side: int) -> Callable[[Image.Image], np.ndarray]:
    return lambda image: np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32).ravel() / 255


def joint_histogram(image: Image.Image) -> np.ndarray:
    return np.histogramdd(np.asarray(image).reshape(-1, 3), bins=8, range=[(0, 256)] * 3)[0].ravel().astype(np.float32) ** 0.5


def channel_histograms(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).reshape(-1, 3)
    return np.concatenate([np.bincount(values[:, channel] // 8, minlength=32) for channel in range(3)]).astype(np.float32) ** 0.5


FEATURES = {
    "pixels, 16 x 16": pixels(16),
    "pixels, 32 x 32": pixels(32),
    "pixels, 48 x 48": pixels(48),
    "colour histogram, 8 x 8 x 8": joint_histogram,
    "colour histograms, 3 x 32": channel_histograms,
}


def accuracy(dataset: Dataset, images: list[Image.Image], features: Callable[[Image.Image], np.ndarray]) -> tuple[float, float]:
    """(val, test) accuracy in per cent of the regularisation that is best on val."""
    table = np.stack([features(image) for image in images])
    train, val, test = (dataset.rows(split) for split in ("train", "val", "test"))
    fitted = []
    for strength in (1e-4, 1e-3, 1e-2):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(table[train], dataset.labels[train])
        fitted.append((model.score(table[val], dataset.labels[val]), model))
    best, model = max(fitted, key=lambda pair: pair[0])
    return 100 * best, 100 * model.score(table[test], dataset.labels[test])


def main() -> None:
    dataset = read_dataset("birds")
    images = [Image.open(dataset.root / dataset.paths[row]).convert("RGB") for row in range(len(dataset))]
    print(f"{len(dataset.class_names)} species, chance {100 / len(dataset.class_names):.1f} %")
    answer = {}
    for name, features in FEATURES.items():
        val, test = accuracy(dataset, images, features)
        answer[name] = round(test, 1)
        print(f"{name:<28} val {val:5.1f} %   test {test:5.1f} %", flush=True)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
