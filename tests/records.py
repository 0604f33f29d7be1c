"""Whole records with plausible values, for tests that need some run's."""

from datetime import UTC, datetime
from typing import Any

from fieldmark.core.manifest import Manifest, Origin, Preprocessing
from fieldmark.core.summary import DatasetSummary, ModelSummary, SplitMetrics, Summary, TrainingSummary
from fieldmark.scoring.metrics import METRICS


def a_manifest(**values: Any) -> Manifest:
    given: dict[str, Any] = {
        "status": "finished",
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "versions": {"fieldmark": "0.1.0", "torch": "2.11.0", "platform": "Linux"},
        "device": "a processor, 2 threads",
        "given": "cars",
        "data": Origin(name="cars", root="/data/cars", layout="class-folders"),
        "fingerprint": "0123",
        "class_names": ("lark", "pipit"),
        "levels": {},
        "preprocess": Preprocessing(size=32, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        "notes": ("weights: random",),
    }
    return Manifest(**given | values)


def some_metrics(n: int = 100, top1: float = 90.0, **values: float | None) -> SplitMetrics:
    """As measured; the intervals of those that are not given have no width."""
    given = {"top1": top1} | values
    return SplitMetrics.model_validate(
        {"n": n} | {f"{key}{end}": given.get(key, 0.5) for key in METRICS for end in ("", "_low", "_high")} | given
    )


def a_summary(top1: float = 90.0, val: dict[str, Any] | None = None, test: dict[str, Any] | None = None, **values: Any) -> Summary:
    """With this top-1 on both splits, unless `val` or `test` say another; `values` replace whole parts."""
    given: dict[str, Any] = {
        "status": "finished",
        "dataset": DatasetSummary(name="cars", classes=2, train=800, val=100, test=100),
        "model": ModelSummary(name="a_network", parameters=4_000_000, trainable=4_000_000, macs=390_000_000, input=(3, 32, 32)),
        "training": TrainingSummary(
            epochs=10,
            best_epoch=10,
            refit=False,
            steps=250,
            samples_seen=8000,
            seconds=60.0,
            images_per_second=133.3,
            device="a processor, 2 threads",
            precision="float32",
            stages=(),
        ),
        "val": some_metrics(**{"top1": top1} | (val or {})),
        "test": some_metrics(**{"top1": top1} | (test or {})),
    }
    return Summary(**given | values)
