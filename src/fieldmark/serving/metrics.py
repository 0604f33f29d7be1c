"""What Prometheus is told: how fast answers are, what waits, what was turned away, and whether answers drift from those of validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fieldmark.serving.drift import Drift
from fieldmark.serving.models import Result

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts what happens; each server has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "fieldmark_request_seconds",
            "From the headers of a request to its answer.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram("fieldmark_batch_images", "Images computed together.", ["model"], buckets=_SIZES, registry=self.registry)
        self.shed = Counter("fieldmark_shed", "Requests turned away because there was too much to do.", registry=self.registry)
        self.answers = Counter("fieldmark_answers", "Images answered for.", ["model", "answer"], registry=self.registry)
        self.drift = Drift()
        self.registry.register(self.drift)
        self.reloads = Counter("fieldmark_reloads", "Models loaded again.", ["model", "result"], registry=self.registry)

    def watch_queue(self, pending: Callable[[], dict[str, int]]) -> None:
        """Have what waits asked for whenever the figures are read."""

        class Queue(Collector):
            def collect(self) -> list[GaugeMetricFamily]:
                gauge = GaugeMetricFamily("fieldmark_queue_images", "Images that wait or are worked at.", labels=["model"])
                for name, count in pending().items():
                    gauge.add_metric([name], count)
                return [gauge]

        self.registry.register(Queue())

    def count(self, model: str, results: Sequence[Result | Exception]) -> None:
        """What came of images."""
        answers = [each.answer for each in results if isinstance(each, Result)]
        for what, number in (
            ("unreadable", len(results) - len(answers)),
            ("unknown", sum(each.unknown is True for each in answers)),
            ("known", sum(each.unknown is not True for each in answers)),
        ):
            if number:
                self.answers.labels(model, what).inc(number)
        self.drift.add(model, answers)

    def text(self) -> bytes:
        return generate_latest(self.registry)
