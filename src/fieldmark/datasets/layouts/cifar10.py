"""CIFAR-10: 10 classes, its train in five files."""

from __future__ import annotations

from fieldmark.datasets.layouts.cifar import Version, layout

LAYOUT = layout(
    "cifar10",
    "CIFAR-10",
    Version(
        folder="cifar-10-batches-py",
        meta="batches.meta",
        files={**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"},
        labels="labels",
        names="label_names",
    ),
)
