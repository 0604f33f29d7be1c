"""Whether macro F1 of few images needs a correction: as it is computed, and without the bias that two jackknives see.

    python benchmarks/macro_f1.py [--sets 400] [--resamples 200] [--seed 0]

Test sets and their truth are those of benchmarks/intervals.py. Each line has the classes, the images of each on average, how their numbers
come about, and the truth; then, for macro F1 as it is computed with the interval that Fieldmark states, for that of a jackknife over
images, and of one within classes, each with its own standard deviation: mean error and root mean squared error in points, and how many of
the 95 % intervals hold the truth, in per cent.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from fieldmark.scoring import metrics
from fieldmark.scoring.intervals import Estimate, intervals, share_estimate
from intervals import Counts, World

SETS = [(8, 3, 1.4), (8, 6, 1.4), (8, 13, 1.4), (20, 5, 2.3), (20, 20, 2.3), (10, 10, 4.0), (50, 2, 3.0), (50, 5, 3.0), (50, 8, 3.0)]
"""Classes, images of each, and the spread."""
WAYS = ("as computed", "over images", "within classes")


def without_each(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Macro F1 without each of the images in turn: float64 (n,)."""
    predicted = metrics.predicted_classes(logits, labels)
    hits, actual, given = metrics.class_counts(logits, labels)
    own, answered = np.eye(logits.shape[1], dtype=int)[labels], np.eye(logits.shape[1], dtype=int)[predicted]
    return np.asarray(np.nanmean(metrics.f1_scores(hits - own * answered, actual - own, given - answered), axis=1))


def over_images(value: float, without: np.ndarray) -> Estimate:
    n = len(without)
    variance = (n - 1) / n * ((without - without.mean()) ** 2).sum()
    return share_estimate(float(np.clip(n * value - (n - 1) * without.mean(), 0, 1)), math.sqrt(variance), n)


def within_classes(value: float, without: np.ndarray, labels: np.ndarray) -> Estimate:
    """A class with one image says nothing of bias or spread."""
    bias = variance = 0.0
    for left_out in (without[labels == label] for label in np.unique(labels)):
        n = len(left_out)
        bias += (n - 1) * (left_out.mean() - value)
        variance += (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
    return share_estimate(float(np.clip(value - bias, 0, 1)), math.sqrt(variance), len(labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="simulated test sets of each kind")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("classes x images counts | truth |", "; ".join(f"{way}: mean error, RMSE, coverage" for way in WAYS))
    kinds: tuple[Counts, ...] = ("equal", "random", "uneven")
    for classes, each, spread in SETS:
        world = World(classes, spread)
        top1 = world.truth(np.random.default_rng(given.seed))["top1"]
        for counts in kinds:
            rng, truths = np.random.default_rng(given.seed + 1), []
            found: dict[str, list[Estimate]] = {way: [] for way in WAYS}
            for seed in range(given.sets):
                logits, labels = world.draw(classes * each, rng, counts)
                truths.append(world.macro_f1(logits, labels, top1))
                without, stated = without_each(logits, labels), intervals(logits, labels, given.resamples, seed)["macro_f1"]
                estimates = (stated, over_images(stated.value, without), within_classes(stated.value, without, labels))
                for way, estimate in zip(WAYS, estimates, strict=True):
                    found[way].append(estimate)
            cells = []
            for estimates_of in found.values():
                errors = np.array([each.value for each in estimates_of]) - truths
                held = np.mean([each.low <= truth <= each.high for each, truth in zip(estimates_of, truths, strict=True)])
                cells.append(f"{100 * errors.mean():+.1f}, {100 * np.sqrt((errors**2).mean()):.1f}, {100 * held:.0f}")
            print(f"{classes} x {each} {counts} | {100 * np.mean(truths):.1f} | {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
