"""How close the training loop comes to pure compute.

    python benchmarks/loop.py DATA --weights mobilenetv2_100.safetensors --size 160

Interleaves segments of the real loop (mapped uint8 pictures, default augmentation, logging; training steps only, as the loop itself counts
them) with segments of forward, backward and optimiser step on one resident batch, with the same model, optimiser and arithmetic. Prints
images/s of both and the median ratio of neighbouring segments. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.device import choose_device, keep_freed_memory, set_threads, synchronise
from fieldmark.core.recipe import load_recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.data.batches import TrainBatches
from fieldmark.data.geometry import Frame, leaves_picture
from fieldmark.data.loading import load_data
from fieldmark.data.pixels import View, default_cache_dir, open_pixels
from fieldmark.models.arithmetic import choose_arithmetic
from fieldmark.models.factory import build_model
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loop import Training, run_loop
from fieldmark.training.loss import loss_of
from fieldmark.training.optimizer import build_optimizer
from fieldmark.training.train import placed_tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--weights", default="none", help="a safetensors file; random weights by default")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=20, help="steps of a segment")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of segments")
    parser.add_argument("settings", nargs="*", help="recipe keys, such as train.batch=64")
    args = parser.parse_intermixed_args()

    keep_freed_memory()
    set_threads(None)
    given = [f"model.name={args.model}", f"model.weights={args.weights}", f"data.size={args.size}", "train.epochs=1000", *args.settings]
    recipe = load_recipe("default", given)
    console, device = Console(quiet=True), choose_device(recipe.train.device)
    loaded = load_data(args.data, recipe.data, console)
    built = build_model(recipe.model, len(loaded.dataset.class_names), args.size, 0)
    train = recipe.train
    arithmetic, _ = choose_arithmetic(
        built.model, args.size, train.batch, device, train.precision, train.memory_format, default_cache_dir(), args.model, print
    )
    model = arithmetic.prepare(built.model)
    pool = loaded.rows("train", "val")
    side = int(args.size * recipe.data.cache_scale)
    cache = open_pixels(loaded.files(pool), loaded.hashes(pool), View(side, "squash"), default_cache_dir())
    batches = TrainBatches(
        placed_tiles(cache, device, recipe.data.storage),
        np.arange(min(args.steps * train.batch, len(pool))),
        loaded.dataset.labels[pool],
        Frame.of(recipe.data.resize, loaded.content.widths[pool], loaded.content.heights[pool]),
        recipe.augment,
        size=args.size,
        batch=train.batch,
        seed=0,
        mean=built.mean,
        std=built.std,
        fill=leaves_picture(recipe.augment, recipe.data.resize),
        device=device,
        dtype=arithmetic.dtype,
        memory_format=arithmetic.memory_format,
    )
    optimizer = build_optimizer(model, recipe.optim)
    resident = batches.make(np.arange(train.batch), 0)

    def pure() -> float:
        model.train()
        synchronise(device)
        started = time.perf_counter()
        for _ in range(batches.steps_per_epoch):
            with arithmetic.autocast():
                logits = model(resident.images)
            loss_of(recipe.loss, logits, resident.labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        synchronise(device)
        return batches.steps_per_epoch * train.batch / (time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as scratch:
        with RunFolder.create(Path(scratch) / "run") as folder:
            pass
        folder = RunFolder(Path(scratch) / "run")
        training = Training(
            model=model,
            optimizer=optimizer,
            batches=batches,
            recipe=recipe,
            arithmetic=arithmetic,
            folder=folder,
            checkpoints=Checkpoints(folder.checkpoints, 1),
            console=console,
            interrupt=Interrupt(),
            validate=None,
            save_best=lambda _: None,
            epochs=0,
        )

        def real() -> float:
            training.epochs += 1
            run_loop(training)
            row = read_json_lines(folder.metrics_file)[-1]
            return float(row["images_per_second"])

        pure(), real()
        pairs = []
        for attempt in range(args.repeats):
            pair = (real(), pure()) if attempt % 2 else tuple(reversed((pure(), real())))
            pairs.append(pair)
            print(f"loop {pair[0]:6.1f}  pure compute {pair[1]:6.1f} images/s  ratio {pair[0] / pair[1]:.3f}", flush=True)
    loop, compute = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(json.dumps({"size": args.size, "loop": round(loop, 1), "pure": round(compute, 1), "median_ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
