"""CIFAR-100: 100 classes in 20 superclasses."""

from __future__ import annotations

from fieldmark.datasets.layouts.cifar import Version, layout

LAYOUT = layout(
    "cifar100",
    "CIFAR-100",
    Version(
        folder="cifar-100-python",
        meta="meta",
        files={"train": "train", "test": "test"},
        labels="fine_labels",
        names="fine_label_names",
        superlabels="coarse_labels",
        supernames="coarse_label_names",
    ),
)
