"""Training next to other work: OpenMP's threads spinning as they do by default, always asleep, and as Fieldmark has them.

    python benchmarks/spinning.py [--seconds 6] [--rounds 5]

Training steps of MobileNetV2 at half width on 16 images of 96 pixels, each measurement in a process of its own, on a machine that is idle,
next to a program that keeps one core busy, and next to another training whose threads spin as by default. The three ways take turns.
Prints images/s, medians over the rounds with the lowest and the highest, and the ratios that are held: Fieldmark's when idle to the
default's, and Fieldmark's next to other work to its own when idle. Needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

WAYS = ("default", "asleep", "fieldmark")
BATCH, SIZE = 16, 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(images_per_second(args.worker, args.seconds), flush=True)
        return

    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.rounds):
        for neighbour in NEIGHBOURS:
            for way in WAYS:
                with NEIGHBOURS[neighbour]():
                    found.setdefault((neighbour, way), []).append(measured(way, args.seconds))
    median = {case: statistics.median(speeds) for case, speeds in found.items()}
    for (neighbour, way), speeds in found.items():
        print(f"{neighbour:32} {way:10} {median[neighbour, way]:6.1f} images/s [{min(speeds):.1f}, {max(speeds):.1f}]")
    idle = median["idle", "fieldmark"]
    print(f"idle: {idle / median['idle', 'default']:.2f} of the default")
    for neighbour in list(NEIGHBOURS)[1:]:
        print(f"{neighbour}: {median[neighbour, 'fieldmark'] / idle:.2f} of idle")


def measured(way: str, seconds: float) -> float:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    }
    if way == "asleep":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    command = [sys.executable, __file__, "--worker", way, "--seconds", str(seconds)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def images_per_second(way: str, seconds: float) -> float:
    import timm
    import torch

    from fieldmark.models.spinning import spin_only_if_idle

    model, images = timm.create_model("mobilenetv2_050").train(), torch.randn(BATCH, 3, SIZE, SIZE)
    optimiser, labels = torch.optim.SGD(model.parameters(), lr=0.01), torch.zeros(BATCH, dtype=torch.long)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()

    with spin_only_if_idle() if way == "fieldmark" else nullcontext():
        for _ in range(5):
            step()
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            step()
            steps += 1
        return steps * BATCH / (time.perf_counter() - started)


@contextmanager
def neighbour(*command: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as process:
        time.sleep(8)  # until its imports are over
        try:
            yield
        finally:
            process.kill()


NEIGHBOURS = {
    "idle": nullcontext,
    "next to one busy program": lambda: neighbour("-c", "while True: pass"),
    "next to a training that spins": lambda: neighbour(__file__, "--worker", "default", "--seconds", "600"),
}

if __name__ == "__main__":
    main()
