"""Time to corrupt one image: milliseconds per operator and severity, medians, in one thread.

python benchmarks/corruptions.py --side 224 --repeats 20
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from fieldmark.datasets.birds.scene import individual, photograph
from fieldmark.datasets.birds.species import SPECIES
from fieldmark.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt


def milliseconds(image: np.ndarray, name: str, severity: int, repeats: int) -> float:
    corrupt(image, name, severity, seed=0)
    times = []
    for seed in range(repeats):
        start = time.perf_counter()
        corrupt(image, name, severity, seed)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    image = np.asarray(photograph(individual(SPECIES[0].look, 1), arguments.side, 1).image)
    print(f"{arguments.side} x {arguments.side}, ms".ljust(20) + "".join(f"{severity:>8}" for severity in SEVERITIES))
    for name in CORRUPTIONS:
        times = [milliseconds(image, name, severity, arguments.repeats) for severity in SEVERITIES]
        print(f"{name:<20}" + "".join(f"{each:8.1f}" for each in times), flush=True)


if __name__ == "__main__":
    main()
