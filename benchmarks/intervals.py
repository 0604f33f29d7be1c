"""How often the 95 % intervals of the metrics hold the truth, in simulated test sets whose truth is known.

    python benchmarks/intervals.py [--sets 400] [--sizes 100,300,1000] [--counts random] [--group 1] [--classes 3,10,50]
        [--resamples 400] [--seed 0]

An image of class c has normal noise about the corner of its class, at a distance of `spread`; the network knows that, and says its logits
times t: t = 1 is calibrated, t > 1 over-confident. A class has a random number of images, or the same as every other, or a fixed one,
the largest about 20 times the smallest. In groups of more than one, images of a group are of one class and share half of their noise.
The truth is that of 400,000 images; of macro F1 it is that of as many images of each class as the set has, in the limit. Each line has the
network, and for each metric how many of the intervals hold the truth, in per cent; a calibrated network's ECE, of 0, lies at the end of its
range, where 97.5 % is right. The mean errors in points follow, of macro F1, and of the ECE as it is computed and corrected.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fieldmark.scoring import metrics
from fieldmark.scoring.intervals import intervals

Counts = Literal["random", "equal", "uneven"]


@dataclass(frozen=True)
class World:
    """All classes are alike: each is recognised as often, and mistaken for each other one as often."""

    classes: int
    spread: float
    factor: float = 1.0
    group: int = 1

    def draw(self, n: int, rng: np.random.Generator, counts: Counts = "random") -> tuple[np.ndarray, np.ndarray]:
        """Logits, float32 (n, C), and labels, int32 (n,)."""
        units = self._labels(n // self.group, rng, counts)
        labels = np.repeat(units, self.group)
        seen = rng.normal(size=(len(labels), self.classes))
        if self.group > 1:
            seen = np.sqrt(0.5) * (seen + np.repeat(rng.normal(size=(len(units), self.classes)), self.group, axis=0))
        seen[np.arange(len(labels)), labels] += self.spread
        return (self.factor * self.spread * seen).astype(np.float32), labels.astype(np.int32)

    def _labels(self, n: int, rng: np.random.Generator, counts: Counts) -> np.ndarray:
        if counts == "random":
            return rng.integers(0, self.classes, n)
        if counts == "equal":
            return np.arange(n) % self.classes
        shares = np.exp(-3 * np.arange(self.classes) / self.classes)
        return np.repeat(np.arange(self.classes), np.maximum(np.round(n * shares / shares.sum()).astype(int), 1))

    def truth(self, rng: np.random.Generator) -> dict[str, float]:
        if self.classes <= 20:
            return metrics.figures(*self.draw(400_000, rng))
        parts = [metrics.figures(*self.draw(40_000, rng)) for _ in range(10)]
        together = metrics.figures(*self.draw(80_000, rng))
        return together | {key: float(np.mean([part[key] for part in parts])) for key in ("top1", "balanced_accuracy", "nll", "brier")}

    def macro_f1(self, logits: np.ndarray, labels: np.ndarray, top1: float) -> float:
        """Of ever more images of the classes that these are of, in the same shares, and with the same classes among their answers."""
        _, actual, given = metrics.class_counts(logits, labels)
        predicted = actual * top1 + (len(labels) - actual) * (1 - top1) / (self.classes - 1)
        return float(metrics.f1_scores(actual * top1, actual, predicted)[(actual > 0) | (given > 0)].mean())


NETWORKS = [(3, 1.5), (3, 3.5), (10, 2.5), (10, 4.0), (50, 3.0), (50, 4.5)]
"""Numbers of classes, and the spread."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="simulated test sets of each size")
    parser.add_argument("--sizes", default="100,300,1000")
    parser.add_argument("--counts", default="random", help=f"images of each class: {', '.join(get_args(Counts))}")
    parser.add_argument("--group", type=int, default=1, help="images that belong together")
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--classes", default="3,10,50", help="networks of so many classes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shown = [key for key in metrics.METRICS if key != "top5"]
    print("classes spread t | accuracy, ECE | images: coverage in per cent of", ", ".join(shown), "| mean error (points)")
    totals: dict[str, list[float]] = {key: [] for key in shown}
    for classes, spread in NETWORKS:
        if str(classes) not in given.classes.split(","):
            continue
        for factor in (1.0, 1.2, 1.5):
            world, rng = World(classes, spread, factor, given.group), np.random.default_rng(given.seed)
            truth = world.truth(rng)
            for size, counts in [(int(size), counts) for size in given.sizes.split(",") for counts in given.counts.split(",")]:
                errors: dict[str, list[float]] = {"macro F1": [], "ECE": [], "ECE corrected": []}
                held: dict[str, list[bool]] = {key: [] for key in shown}
                for seed in range(given.sets):
                    logits, labels = world.draw(size, rng, counts)
                    groups = np.arange(len(labels)) // given.group
                    found = intervals(logits, labels, given.resamples, seed, groups)
                    right = truth | {"macro_f1": world.macro_f1(logits, labels, truth["top1"])}
                    for key in shown:
                        # A truth from many images is itself uncertain, and of a calibration error a little too high.
                        slack = 0.002 if metrics.METRICS[key].gaps is not None else 0.0
                        held[key].append(found[key].low <= right[key] + slack and right[key] <= found[key].high)
                    errors["macro F1"].append(found["macro_f1"].value - right["macro_f1"])
                    errors["ECE"].append(found["ece"].value - truth["ece"])
                    errors["ECE corrected"].append((found["ece"].corrected or 0.0) - truth["ece"])
                for key in shown:
                    totals[key].append(100 * float(np.mean(held[key])))
                cells = " ".join(f"{key} {totals[key][-1]:.0f}" for key in shown)
                said = ", ".join(f"{key} {100 * np.mean(each):+.1f}" for key, each in errors.items())
                network = f"{classes} {spread:g} {factor:g} | {truth['top1']:.3f}, {truth['ece']:.3f}"
                print(f"{network} | {size} {counts}: {cells} | {said}", flush=True)
    print(
        "lowest, median, highest:",
        "; ".join(f"{key} {min(each):.0f}, {np.median(each):.0f}, {max(each):.0f}" for key, each in totals.items()),
    )


if __name__ == "__main__":
    main()
