"""How often a study finds a gain that does not exist, and how often it finds one that does: simulated studies, per cent.

python benchmarks/study_statistics.py --studies 2000

Every study is a ladder of R rungs with S seeds each (8..2: the last rung has two, the others
eight), tested on n images; every rung is compared with the first and with the one before.
A run classifies an image correctly if the recipe's accuracy, the image's difficulty (mostly the same for all recipes), its difficulty for
the recipe, the luck of the seed (which moves the accuracy by `sd` points) and chance for this run and image add up to more than zero.

`false`: no rung differs from another, and at least one comparison is called significant; at most 5 is promised. `gains` is Fieldmark's
method; the others are alternatives, all corrected for the comparisons alike:
  images  seeds averaged, then only the images count (as a bootstrap over images, or McNemar's test, would have it)
  seeds   Welch's t-test on the accuracies of the runs: the images count as fixed
  pooled  as fieldmark's, but all rungs have one seed variance, to which each seed counts alike
  own     as fieldmark's, but each rung has its own seed variance
`smallest`: the gain in points that Fieldmark says 80 % of such studies would find; the mean over studies that can tell.
`found`: per cent of studies that find it significant when the last rung has it over the first.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.stats

from fieldmark.studies.statistics import gains, smallest_gain

SAME_IMAGE = 0.9  # correlation of two seeds of one recipe on an image, before it is right or wrong
SAME_DIFFICULTY = 0.93  # ... as far as it is the image's for all recipes
METHODS = ("gains", "images", "seeds", "pooled", "own")


@dataclass(frozen=True)
class Setting:
    rungs: int
    seeds: tuple[int, ...]  # per rung
    images: int
    sd: tuple[float, ...]  # points, per rung
    accuracy: float = 0.85
    alike: float = 0.0  # correlation of the luck of one seed number in two rungs
    name: str = ""


def ladder(rungs: int) -> np.ndarray:
    """Every rung against the first and against the one before: (2 rungs - 3, rungs)."""
    pairs = [(0, rung) for rung in range(1, rungs)] + [(rung - 1, rung) for rung in range(2, rungs)]
    weights = np.zeros((len(pairs), rungs))
    for row, (before, after) in zip(weights, pairs, strict=True):
        row[before], row[after] = -1, 1
    return weights


def studies(setting: Setting, number: int, rng: np.random.Generator, last_gain: float = 0.0) -> Iterator[list[np.ndarray]]:
    """Hits of simulated studies, per rung bool (its seeds, images); the last rung is better by `last_gain` points."""
    accuracy = np.full(setting.rungs, setting.accuracy)
    accuracy[-1] += last_gain / 100
    z = scipy.stats.norm.ppf(accuracy)
    luck = np.array(setting.sd) / 100 / scipy.stats.norm.pdf(z)
    shift = z * np.sqrt(1 + luck**2)  # the luck itself would move the mean
    shape = (setting.rungs, max(setting.seeds), setting.images)
    for _ in range(number):
        common = rng.standard_normal((1, setting.images), np.float32)
        special = rng.standard_normal((setting.rungs, setting.images), np.float32)
        image = math.sqrt(SAME_IMAGE) * (math.sqrt(SAME_DIFFICULTY) * common + math.sqrt(1 - SAME_DIFFICULTY) * special)
        drawn = rng.standard_normal(shape[:2])
        drawn = math.sqrt(1 - setting.alike) * drawn + math.sqrt(setting.alike) * rng.standard_normal((1, max(setting.seeds)))
        run = (shift[:, None] + luck[:, None] * drawn).astype(np.float32)
        hits = image[:, None] + run[:, :, None] + np.float32(math.sqrt(1 - SAME_IMAGE)) * rng.standard_normal(shape, np.float32) > 0
        yield [each[:number_of_seeds] for each, number_of_seeds in zip(hits, setting.seeds, strict=True)]


def significant_by_others(hits: list[np.ndarray], weights: np.ndarray) -> dict[str, bool]:
    n = hits[0].shape[1]
    seeds = np.array([len(each) for each in hits])
    free = seeds - 1
    tail = -np.expm1(np.log(0.95) / len(weights)) / 2
    means = np.array([each.mean() for each in hits])
    values = weights @ means
    per_image = np.stack([each.mean(axis=0) for each in hits])
    of_images = (((weights @ per_image - values[:, None]) ** 2).sum(axis=1) + 1) / n**2
    variance = np.array([each.mean(axis=1).var(ddof=1) for each in hits])
    residual = seeds * n * means * (1 - means) - n * free * variance - seeds * n * per_image.var(axis=1)
    chance = np.maximum(residual, 0) / (free * (n - 1)) / n
    share = weights**2 / seeds

    def any_significant(of_seeds: np.ndarray, of_images: np.ndarray | float, doubt: np.ndarray) -> bool:
        total = of_images + of_seeds
        freedom = total**2 / np.maximum(doubt + of_images**2 / (n - 1), 1e-30)
        return bool((np.abs(values) > scipy.stats.t.isf(tail, freedom) * np.sqrt(total)).any())

    nothing = np.zeros(len(weights))
    own = share**2 @ (variance**2 / free)
    together = max(float(free @ (variance - chance)) / free.sum(), 0.0)
    return {
        "images": any_significant(nothing, of_images, nothing),
        "seeds": any_significant(share @ variance, 0.0, own),
        "pooled": any_significant(share.sum(axis=1) * together, of_images, (share @ (together + chance)) ** 2 / free.sum()),
        "own": any_significant(np.maximum(share @ (variance - chance), 0), of_images, own),
    }


def measured(setting: Setting, number: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    weights = ladder(setting.rungs)
    false = dict.fromkeys(METHODS, 0)
    smallest = []
    for hits in studies(setting, number, rng):
        false["gains"] += any(gain.significant for gain in gains(list(hits), weights))
        for method, significant in significant_by_others(hits, weights).items():
            false[method] += significant
        if len(smallest) < 300:
            smallest.append(smallest_gain(list(hits), weights))
    size = float(np.mean([each for each in smallest if each is not None]))
    found = sum(bool(gains(list(hits), weights)[setting.rungs - 2].significant) for hits in studies(setting, number, rng, size))
    return {**{method: 100 * count / number for method, count in false.items()}, "smallest": size, "found": 100 * found / number}


def settings() -> Iterator[Setting]:
    for images in (373, 1221, 8041):
        for rungs in (2, 4, 8):
            for seeds in (2, 3, 5):
                for sd in (0.0, 0.5):
                    yield Setting(rungs, (seeds,) * rungs, images, (sd,) * rungs, name=f"{sd}")
    for rungs, number in ((2, 2), (2, 3), (4, 3), (8, 2), (8, 3), (8, 5)):
        equal = (number,) * rungs
        yield Setting(rungs, equal, 8041, (1.0,) * rungs, name="1")
        yield Setting(rungs, equal, 8041, (1.5,) * rungs, name="1.5")
        yield Setting(rungs, equal, 8041, tuple(np.linspace(1.0, 0.4, rungs)), name="1 falling to 0.4")
        yield Setting(rungs, equal, 8041, (1.0, *(0.5,) * (rungs - 1)), name="0.5, first rung 1")
        yield Setting(rungs, equal, 8041, (*(0.5,) * (rungs - 1), 1.5), name="0.5, last rung 1.5")
        yield Setting(rungs, equal, 8041, (1.5, *(0.5,) * (rungs - 1)), name="0.5, first rung 1.5")
    yield Setting(4, (3,) * 4, 8041, (0.5,) * 4, alike=0.5, name="0.5, half of it alike")
    for accuracy, images in ((0.5, 1221), (0.95, 373), (0.95, 8041), (0.98, 100)):
        yield Setting(4, (3,) * 4, images, (0.3,) * 4, accuracy, name=f"0.3, accuracy {accuracy}")
    yield Setting(2, (8, 8), 1221, (0.5, 0.5), name="0.5")
    yield from unequal()


def unequal() -> Iterator[Setting]:
    for rungs, many, few in ((2, 8, 2), (2, 8, 3), (4, 8, 2), (4, 8, 3), (8, 8, 2), (8, 8, 3), (4, 3, 2)):
        seeds = (*(many,) * (rungs - 1), few)
        yield Setting(rungs, seeds, 8041, (0.5,) * rungs, name="0.5")
        yield Setting(rungs, seeds, 8041, (*(0.5,) * (rungs - 1), 1.5), name="0.5, last rung 1.5")


def looked_at(setting: Setting, first: int, number: int, seed: int) -> tuple[float, float]:
    """Per cent of studies without a gain that show one with the `first` seeds, and at any look while seeds are added one by one."""
    weights = ladder(setting.rungs)
    once = ever = 0
    for hits in studies(setting, number, np.random.default_rng(seed)):
        looks = [
            any(gain.significant for gain in gains([each[:count] for each in hits], weights))
            for count in range(first, setting.seeds[0] + 1)
        ]
        once, ever = once + looks[0], ever + any(looks)
    return 100 * once / number, 100 * ever / number


def print_looks(number: int, seed: int) -> None:
    print(" R  seeds      n  sd   false at first  at any look")
    for rungs, first, last, images in (
        (2, 2, 8, 8041),
        (4, 2, 5, 8041),
        (4, 3, 5, 8041),
        (4, 3, 10, 8041),
        (8, 3, 5, 8041),
        (4, 3, 10, 1221),
    ):
        setting = Setting(rungs, (last,) * rungs, images, (1.0,) * rungs)
        once, ever = looked_at(setting, first, number, seed)
        print(f"{rungs:2}  {first:2}..{last:2}  {images:5}  {setting.sd[0]}  {once:14.1f} {ever:12.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per setting and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unequal", action="store_true", help="only the settings whose rungs have unequal numbers of seeds")
    parser.add_argument("--looks", action="store_true", help="false gains when seeds are added until something is significant")
    arguments = parser.parse_args()
    start = time.perf_counter()
    print(f"falsely significant: standard error {100 * math.sqrt(0.05 * 0.95 / arguments.studies):.1f} at 5 %")
    if arguments.looks:
        print_looks(arguments.studies, arguments.seed)
        return
    print(
        f"{'R':>2} {'S':>4} {'n':>5}  {'sd over seeds, points':<24}{'':8}"
        + "".join(f"{method:>8}" for method in METHODS)
        + "  smallest   found"
    )
    for setting in unequal() if arguments.unequal else settings():
        result = measured(setting, arguments.studies, arguments.seed)
        first, last = setting.seeds[0], setting.seeds[-1]
        seeds = f"{first}" if first == last else f"{first}..{last}"
        label = f"{setting.rungs:2} {seeds:>4} {setting.images:5}  {setting.name:<24}"
        print(
            label + "".join(f"{result[method]:10.1f}" for method in METHODS) + f"{result['smallest']:10.2f}{result['found']:10.1f}",
            flush=True,
        )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
