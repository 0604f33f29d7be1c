"""How often the 95 % intervals of the metrics hold the truth, in simulated test sets whose truth is known.

    python benchmarks/intervals.py [--sets 400] [--sizes 100,300,1000] [--resamples 400] [--seed 0]

An image of class c has normal noise about the corner of its class, at a distance of `spread`; the network knows that, and says its logits
times t: t = 1 is calibrated, t > 1 over-confident. The truth is that of 400,000 images. Each line has the network, and for each metric how
many of the intervals hold the truth, in per cent; a calibrated network's ECE, of 0, lies at the end of its range, where 97.5 % is right.
With plain, the mean error of the value as it is computed, and of the corrected one, in points, follow for those that few images bias.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from fieldmark.scoring import metrics
from fieldmark.scoring.intervals import intervals


@dataclass(frozen=True)
class World:
    classes: int
    spread: float
    factor: float

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Logits, float32 (n, C), and labels, int32 (n,)."""
        seen = rng.normal(size=(n, self.classes))
        labels = rng.integers(0, self.classes, n)
        seen[np.arange(n), labels] += self.spread
        return (self.factor * self.spread * seen).astype(np.float32), labels.astype(np.int32)

    def truth(self, rng: np.random.Generator) -> dict[str, float]:
        parts = [metrics.figures(*self.draw(40_000, rng)) for _ in range(10)] if self.classes > 20 else []
        together = metrics.figures(*self.draw(400_000 if not parts else 80_000, rng))
        smooth = {key: float(np.mean([part[key] for part in parts])) for key in ("top1", "balanced_accuracy", "macro_f1", "nll", "brier")}
        return together | smooth if parts else together


NETWORKS = [(3, 1.5), (3, 3.5), (10, 2.5), (10, 4.0), (50, 3.0), (50, 4.5)]
"""Numbers of classes, and the spread."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="simulated test sets of each size")
    parser.add_argument("--sizes", default="100,300,1000")
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--classes", type=int, default=50, help="leave out networks with more")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shown = [key for key in metrics.METRICS if key != "top5"]
    print("classes spread t | accuracy, ECE | images: coverage in per cent of", ", ".join(shown), "| mean error plain, corrected (points)")
    totals: dict[str, list[float]] = {key: [] for key in shown}
    for classes, spread in NETWORKS:
        for factor in (1.0, 1.2, 1.5):
            if classes > given.classes:
                continue
            world, rng = World(classes, spread, factor), np.random.default_rng(given.seed)
            truth = world.truth(rng)
            for size in [int(each) for each in given.sizes.split(",")]:
                found = [intervals(*world.draw(size, rng), given.resamples, seed) for seed in range(given.sets)]
                # A truth from many images is itself uncertain, and of a calibration error a little too high.
                slack = {key: 0.002 if metrics.METRICS[key].gaps is not None else 0.0 for key in shown}
                held = {
                    key: 100 * np.mean([each[key].low <= truth[key] + slack[key] and truth[key] <= each[key].high for each in found])
                    for key in shown
                }
                for key in shown:
                    totals[key].append(float(held[key]))
                errors = []
                for key in ("macro_f1", "ece"):
                    plain = 100 * np.mean([each[key].value - truth[key] for each in found])
                    corrected = 100 * np.mean([(each[key].corrected or 0.0) - truth[key] for each in found])
                    errors.append(f"{key} {plain:+.1f}, {corrected:+.1f}")
                cells = " ".join(f"{key} {held[key]:.0f}" for key in shown)
                print(
                    f"{classes} {spread:g} {factor:g} | {truth['top1']:.3f}, {truth['ece']:.3f} | {size}: {cells} | {'; '.join(errors)}",
                    flush=True,
                )
    print(
        "lowest, median, highest:",
        "; ".join(f"{key} {min(each):.0f}, {np.median(each):.0f}, {max(each):.0f}" for key, each in totals.items()),
    )


if __name__ == "__main__":
    main()
