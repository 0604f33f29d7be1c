"""Whether the answers of late are as sure, and as often "unknown", as they were for validation images."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fieldmark.answering.answer import Answer
from fieldmark.answering.predictor import OnVal

_WINDOW = 1000


class Drift(Collector):
    """Of each model, the last thousand answers; what is not known of validation images has no figure."""

    def __init__(self) -> None:
        self._answers: dict[str, deque[tuple[float, bool | None]]] = {}
        self._on_val: dict[str, OnVal] = {}

    def expect(self, model: str, on_val: OnVal) -> None:
        """What a model was like for validation images; its earlier answers, which may be another's, are forgotten."""
        self._on_val[model], self._answers[model] = on_val, deque(maxlen=_WINDOW)

    def add(self, model: str, answers: Iterable[Answer]) -> None:
        self._answers[model].extend((float(each.probabilities[0]), each.unknown) for each in answers if each.classes)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        figures = {
            "answers_in_window": "The answers of late that the figures of drift are of.",
            "confidence": "Mean probability of the likeliest class.",
            "confidence_drift": "The same, less what it was for validation images.",
            "unknown_share": "Share of answers that are unknown.",
            "unknown_drift": "The same, less what it was for validation images.",
        }
        gauges = {name: GaugeMetricFamily(f"fieldmark_{name}", meaning, labels=["model"]) for name, meaning in figures.items()}
        for model, kept in self._answers.items():
            answers, on_val = list(kept), self._on_val[model]
            found = {"answers_in_window": float(len(answers))}
            if answers:
                found["confidence"] = sum(probability for probability, _ in answers) / len(answers)
                if on_val.confidence is not None:
                    found["confidence_drift"] = found["confidence"] - on_val.confidence
            if told := [unknown for _, unknown in answers if unknown is not None]:
                found["unknown_share"] = sum(told) / len(told)
                if on_val.unknown is not None:
                    found["unknown_drift"] = found["unknown_share"] - on_val.unknown
            for name, value in found.items():
                gauges[name].add_metric([model], value)
        yield from gauges.values()
