"""How close the training loop comes to pure compute.

    python benchmarks/loop.py DATA --weights mobilenetv2_100.safetensors --size 160

Runs the real loop (mapped uint8 images, default augmentation, logging) and, after each of its steps, one forward, backward and optimiser
step on a resident batch, with the same model, optimiser and precision. A step of the loop lasts from the end of the resident step before
it to the start of the one after it, so that whatever the loop does besides computing counts against it; neighbouring steps meet the same
conditions on a shared machine. Every image is read once before, as it is in all epochs but the first. Prints medians, and the ratio of
images/s with a 95 % interval by bootstrap over blocks of steps.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from fieldmark.batches.train_batches import Batch, TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.loading import find_data
from fieldmark.models.device import synchronise
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.job import phase
from fieldmark.training.loop import run_loop
from fieldmark.training.loss import loss_of
from fieldmark.training.position import Position
from fieldmark.training.setup import prepare

WARM_UP = 5
"""Pairs of steps that do not count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--weights", default="none", help="a safetensors file; random weights by default")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=300, help="pairs of steps")
    parser.add_argument("settings", nargs="*", help="recipe keys, such as train.batch=64")
    args = parser.parse_intermixed_args()

    given = [f"model.name={args.model}", f"model.weights={args.weights}", f"data.size={args.size}", "train.epochs=1000", *args.settings]
    asked_for, console = load_recipe("default", given), Console(quiet=True)
    setup = prepare(find_data(args.data, asked_for.data, console), asked_for, console)
    model, execution, recipe = setup.model, setup.execution, setup.recipe
    for tile in setup.tiles.pixels:
        tile.max()
    with tempfile.TemporaryDirectory() as scratch:
        with RunFolder.create(Path(scratch) / "run"):
            pass
        job = phase(setup, RunFolder(Path(scratch) / "run"), Interrupt(), Position("refit"), None, recipe.train.epochs)  # of all tiles
        batches = job.stages.batches
        resident = batches.make(np.arange(batches.batch), 0)

        def resident_step() -> None:
            with execution.autocast():
                logits = model(resident.images)
            loss_of(recipe.loss, logits, resident.labels).backward()
            job.optimizer.step()
            job.optimizer.zero_grad()
            synchronise(execution.device)

        interleaved = Interleaved(batches, resident_step, args.steps, execution.device)
        job.stages.batches = cast(TrainBatches, interleaved)
        epochs = math.ceil((args.steps + WARM_UP) / batches.steps_per_epoch)
        run_loop(replace(job, epochs=epochs), Position("refit"))
    loop, pure = interleaved.seconds(0), interleaved.seconds(1)
    low, high = np.percentile([ratio(loop[rows], pure[rows]) for rows in resampled_blocks(len(loop))], [2.5, 97.5])
    answer = {"size": args.size, "steps": len(loop), "loop": batches.batch / np.median(loop), "pure": batches.batch / np.median(pure)}
    answer |= {"ratio": ratio(loop, pure), "low": low, "high": high}
    print(json.dumps({name: round(float(value), 3) for name, value in answer.items()}))


class Interleaved:
    """Training batches that run a resident step between any two of them, and keep the time of both."""

    def __init__(self, batches: TrainBatches, resident_step: Callable[[], None], steps: int, device: torch.device):
        self.batches, self.resident_step, self.device = batches, resident_step, device
        self.left = steps + WARM_UP
        self.times: list[tuple[float, float]] = []

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps_per_epoch

    def with_views(self, views: int | None) -> Interleaved:
        assert views is None
        return self

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        started = time.perf_counter()
        for batch in self.batches.epoch(epoch, first_step):
            yield batch
            synchronise(self.device)
            between = time.perf_counter()
            self.resident_step()
            ended = time.perf_counter()
            self.times.append((between - started, ended - between))
            self.left -= 1
            if not self.left:
                return
            if len(self.times) % 50 == 0:
                print(f"{len(self.times)} pairs, ratio so far {ratio(self.seconds(0), self.seconds(1)):.3f}", flush=True)
            started = time.perf_counter()

    def seconds(self, which: int) -> np.ndarray:
        return np.array(self.times[WARM_UP:])[:, which]


def ratio(loop: np.ndarray, pure: np.ndarray) -> float:
    """Images/s of the loop over those of pure compute, by medians: a step that something else interrupted does not decide."""
    return float(np.median(pure) / np.median(loop))


def resampled_blocks(steps: int, block: int = 10, repeats: int = 2000) -> Iterator[np.ndarray]:
    """Rows of whole blocks of neighbouring steps, drawn with replacement."""
    blocks = np.array_split(np.arange(steps), max(steps // block, 1))
    generator = np.random.default_rng(0)
    for _ in range(repeats):
        yield np.concatenate([blocks[chosen] for chosen in generator.integers(len(blocks), size=len(blocks))])


if __name__ == "__main__":
    main()
