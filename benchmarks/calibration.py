"""How calibration does with few images of val: NLL of test less that of the uncalibrated network, in nats, on average over draws of val.

    python benchmarks/calibration.py [--scaling vector] [--draws 400] [--sizes 30,100,300,1000,3000] [--images 20000] [--seed 0]

Labels are drawn from softmax(z). The network says t * z: t > 1 is over-confident, t < 1 under-confident, t = 1 calibrated; with noise it
says t * (z + noise), which is over-confident and less accurate; with a bias it is off by class, which a temperature cannot mend. Each line
has the network, what the best temperature would gain on test, and for each size of val what the one that is fitted changes, and what the
likeliest one, which is drawn to nothing, would have changed. At the end: the worst line of each size.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from fieldmark.scoring.calibration import Calibration, fit_calibration, fit_temperature, likeliest_temperature, likeliest_vector
from fieldmark.scoring.predictions import Predictions

NETWORKS = [(2, 2.0), (2, 8.0), (10, 2.0), (10, 6.0), (100, 1.5), (100, 5.0)]
"""Numbers of classes, and the spread of z: the larger, the more accurate."""


@dataclass(frozen=True)
class World:
    """A network that says factor * (z + noise) + bias of its class."""

    classes: int
    spread: float
    factor: float = 1.0
    noise: float = 0.0
    bias: float = 0.0

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Logits, float32 (n, C), and labels, int32 (n,)."""
        z = self.spread * rng.normal(size=(n, self.classes))
        labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(np.int32)
        said = self.factor * (z + self.noise * rng.normal(size=z.shape))
        return (said + self.bias * np.linspace(-1, 1, self.classes)).astype(np.float32), labels


def worlds() -> list[World]:
    miscalibrated = [(1.0, 0, 0), (1.15, 0, 0), (0.87, 0, 0), (1.5, 0, 0), (3.0, 0, 0), (0.5, 0, 0), (1.0, 1.0, 0), (1.0, 0, 0.5)]
    return [World(*network, *each) for network in NETWORKS for each in miscalibrated]


class Curve:
    """NLL of test by temperature, interpolated on a fine grid of its logarithm."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray):
        self._at = np.linspace(np.log(0.05), np.log(20), 161)
        self._nll = np.array([nll(logits / np.exp(each), labels) for each in self._at])
        self.best = self._nll.min()

    def __call__(self, temperature: float) -> float:
        return float(np.interp(np.log(temperature), self._at, self._nll))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).mean())


def as_predictions(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    n, classes = logits.shape
    return Predictions(np.arange(n).astype(str), labels, logits, np.zeros((n, 0), np.float32), tuple(map(str, range(classes))))


def of_temperature(world: World, size: int, draws: int, curve: Curve, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the fitted and the likeliest temperature change in each draw: float64 (draws,) each."""
    found = []
    for _ in range(draws):
        logits, labels = world.draw(size, rng)
        found.append([curve(fit_temperature(logits, labels)), curve(likeliest_temperature(logits, labels))])
    fitted, likeliest = np.array(found).T
    return fitted - curve(1), likeliest - curve(1)


def of_vector(
    world: World, size: int, draws: int, test: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for _ in range(draws):
        logits, labels = world.draw(size, rng)
        fitted = fit_calibration(as_predictions(logits, labels), "vector").calibration
        likeliest = likeliest_vector(logits.astype(np.float64), labels, Calibration.of(1, world.classes))
        found.append([nll(each(test[0]), test[1]) for each in (fitted, likeliest)])
    fitted, likeliest = np.array(found).T
    return fitted - nll(*test), likeliest - nll(*test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scaling", choices=("temperature", "vector"), default="temperature")
    parser.add_argument("--draws", type=int, default=400, help="of val of 300 images; of smaller ones more, of larger ones fewer")
    parser.add_argument("--sizes", default="30,100,300,1000,3000")
    parser.add_argument("--images", type=int, default=20_000, help="of test")
    parser.add_argument("--classes", type=int, default=100, help="leave out networks with more")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sizes = [int(each) for each in given.sizes.split(",")]
    worst: dict[int, tuple[float, float]] = dict.fromkeys(sizes, (-np.inf, 0.0))
    print("classes spread t noise bias | accuracy, NLL, best gain | by size of val: change ± standard error (the likeliest's)")
    for world in worlds():
        if world.classes > given.classes:
            continue
        rng = np.random.default_rng(given.seed)
        test = world.draw(given.images, rng)
        curve = Curve(*test)
        cells = []
        for size in sizes:
            draws = max(int(given.draws * min(300 / size, 4)), 20)
            if given.scaling == "temperature":
                change, likeliest = of_temperature(world, size, draws, curve, rng)
            else:
                change, likeliest = of_vector(world, size, draws, test, rng)
            mean, error = float(change.mean()), float(change.std() / np.sqrt(draws))
            worst[size] = max(worst[size], (mean, error))
            cells.append(f"{size}: {mean:+.4f} ± {error:.4f} ({likeliest.mean():+.4f})")
        accuracy = (test[0].argmax(axis=1) == test[1]).mean()
        about = f"{world.classes} {world.spread:g} {world.factor:g} {world.noise:g} {world.bias:g}"
        print(f"{about} | {accuracy:.3f}, {curve(1):.3f}, {curve.best - curve(1):+.4f} | {'; '.join(cells)}", flush=True)
    print("worst change by size of val:", "; ".join(f"{size}: {mean:+.4f} ± {error:.4f}" for size, (mean, error) in worst.items()))


if __name__ == "__main__":
    main()
