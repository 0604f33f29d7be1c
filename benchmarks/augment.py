"""The cost of TrivialAugment and random erasing: as a share of a training step, and against torchvision image by image.

    python benchmarks/augment.py DATA --weights mobilenetv2_100.safetensors --size 160

First, training steps of one model with the recipe's augmentation and with a policy and erasing added, in turn, each with its own background
thread: neighbouring steps meet the same conditions on a shared machine. A step lasts from asking for the batch to the end of the
optimiser's step. Prints medians, and the cost as a share of a step with a 95 % interval by bootstrap over blocks of steps.

Then, in one thread, the time that both add to a batch, and torchvision's TrivialAugmentWide and RandomErasing on the same uint8 views and
their normalised floats, image by image; in turn, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torchvision.transforms import InterpolationMode, v2

from fieldmark.batches.geometry import OUTSIDE
from fieldmark.batches.train_batches import Batch, TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.recipe.augment import Augment, NoiseErasing, TrivialAugment
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.datasets.loading import find_data
from fieldmark.models.device import synchronise
from fieldmark.training.setup import prepare

WARM_UP = 5
"""Pairs of steps that do not count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a folder of images, or birds")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--weights", default="none", help="a safetensors file; random weights by default")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=100, help="pairs of steps")
    parser.add_argument("--repeats", type=int, default=15, help="turns of the comparison with torchvision")
    parser.add_argument("settings", nargs="*", help="recipe keys, such as train.batch=64")
    args = parser.parse_intermixed_args()

    given = [f"model.name={args.model}", f"model.weights={args.weights}", f"data.size={args.size}", *args.settings]
    recipe, console = load_recipe("default", given), Console(quiet=True)
    setup = prepare(find_data(args.data, recipe.data, console), recipe, console)
    execution, device = setup.execution, setup.execution.device
    model = execution.prepare(setup.model)
    for tile in setup.tiles.pixels:
        tile.max()

    def loader(augment: Augment) -> TrainBatches:
        return replace(setup, recipe=recipe.model_copy(update={"augment": augment})).batches("refit")  # of all tiles

    plain, augmented = loader(recipe.augment), loader(with_policy(recipe))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step(batches: Iterator[Batch]) -> float:
        started = time.perf_counter()
        batch = next(batches)
        with execution.autocast():
            logits = model(batch.images)
        cross_entropy(logits.float(), batch.labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronise(device)
        return time.perf_counter() - started

    without, with_ = timed_steps(step, endless(plain), endless(augmented), args.steps)
    cost = np.median(with_ / without) - 1
    low, high = np.percentile([np.median((with_ / without)[chosen]) - 1 for chosen in resampled_blocks(args.steps)], [2.5, 97.5])
    answer = {"size": args.size, "steps": args.steps, "plain_ms": 1000 * np.median(without), "augmented_ms": 1000 * np.median(with_)}
    answer |= {"cost_percent": 100 * cost, "low": 100 * low, "high": 100 * high}
    print(json.dumps({name: round(float(value), 2) for name, value in answer.items()}), flush=True)
    if device.type == "cpu":
        print(json.dumps(against_torchvision(plain, augmented, setup.preprocess.mean, setup.preprocess.std, args.repeats)))


def with_policy(recipe: Recipe) -> Augment:
    return recipe.augment.model_copy(update={"policy": TrivialAugment(), "erase": NoiseErasing(probability=0.1)})


def endless(batches: TrainBatches) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1


def timed_steps(
    step: Callable[[Iterator[Batch]], float], a: Iterator[Batch], b: Iterator[Batch], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each step with `a` and with `b`. Which comes first changes from pair to pair."""
    times = []
    for pair in range(steps + WARM_UP):
        if pair % 2:
            second = step(b)
            times.append((step(a), second))
        else:
            times.append((step(a), step(b)))
        if pair >= WARM_UP and (pair - WARM_UP + 1) % 25 == 0:
            counted = np.array(times[WARM_UP:])
            print(f"{len(counted)} pairs, cost so far {100 * (np.median(counted[:, 1] / counted[:, 0]) - 1):.2f} %", flush=True)
    counted = np.array(times[WARM_UP:])
    return counted[:, 0], counted[:, 1]


def resampled_blocks(steps: int, block: int = 10, repeats: int = 2000) -> Iterator[np.ndarray]:
    """Rows of whole blocks of neighbouring steps, drawn with replacement."""
    blocks = np.array_split(np.arange(steps), max(steps // block, 1))
    generator = np.random.default_rng(0)
    for _ in range(repeats):
        yield np.concatenate([blocks[chosen] for chosen in generator.integers(len(blocks), size=len(blocks))])


def against_torchvision(
    plain: TrainBatches, augmented: TrainBatches, means: Sequence[float], stds: Sequence[float], repeats: int
) -> dict[str, float]:
    """Microseconds per image that the policy and erasing take, all in one thread; torchvision's policy bilinear and by nearest pixels."""
    torch.set_num_threads(1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (means, stds))
    policy = v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR, fill=[OUTSIDE] * 3)
    nearest = v2.TrivialAugmentWide()
    erase = v2.RandomErasing(0.1, value="random")
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", "augmented", "torchvision", "nearest")}
    with ThreadPoolExecutor(1) as pool:
        for repeat in range(repeats):
            rows = plain.rows[np.arange(repeat * 32, (repeat + 1) * 32) % len(plain.rows)]
            for name, batches in (("plain", plain), ("augmented", augmented)):
                started = time.perf_counter()
                pool.submit(batches.make_view, rows, repeat).result()
                seconds[name].append(time.perf_counter() - started)
            normalised = plain.make_view(rows, repeat).images.float().contiguous()
            views = ((normalised * std + mean) * 255).round().clamp(0, 255).byte()
            for name, operation in (("torchvision", policy), ("nearest", nearest)):
                started = time.perf_counter()
                for view, image in zip(views, normalised, strict=True):
                    operation(view)
                    erase(image)
                seconds[name].append(time.perf_counter() - started)
    ours = statistics.median(b - a for a, b in zip(seconds["plain"], seconds["augmented"], strict=True)) / 32 * 1e6
    theirs = statistics.median(seconds["torchvision"]) / 32 * 1e6
    nearest_theirs = statistics.median(seconds["nearest"]) / 32 * 1e6
    answer = {"ours_us": ours, "torchvision_us": theirs, "ratio": theirs / ours}
    answer |= {"torchvision_nearest_us": nearest_theirs, "ratio_nearest": nearest_theirs / ours}
    return {"size": plain.size, **{name: round(value, 1) for name, value in answer.items()}}


if __name__ == "__main__":
    main()
