"""Seconds of an epoch of a linear probe: with the backbone run for each image, and from cached features.

    python benchmarks/cached_features.py DATA --weights mobilenetv2_100.safetensors --size 160

Both train the head on the same views of the same images, with the same batches, loss and optimiser, and predict val after the epoch with
the whole network or from its cached features. First both train one epoch from the same weights, and the resulting heads are compared. Then
they take turns; the cached epoch is run several times in each turn, and medians are taken. The one-off cost of the features is printed too.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fieldmark.batches.train_batches import TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.stages import Stage
from fieldmark.datasets.loading import find_data
from fieldmark.models.device import synchronise
from fieldmark.training.features import CachedBatches, CachedFeatures, cached_features
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.objective import Classification, Network
from fieldmark.training.optimizer import build_optimizer
from fieldmark.training.setup import prepare
from fieldmark.training.stages import apply_stage

CACHED_PER_TURN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--weights", default="none", help="a safetensors file; random weights by default")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("settings", nargs="*", help="recipe keys, such as train.batch=64")
    args = parser.parse_intermixed_args()

    given = [f"model.name={args.model}", f"model.weights={args.weights}", f"data.size={args.size}", *args.settings]
    recipe, console = load_recipe("default", given), Console(quiet=True)
    setup = prepare(find_data(args.data, recipe.data, console), recipe, console)
    model, execution = setup.model, setup.execution
    execution.prepare(model)
    for tile in setup.tiles.pixels:  # as in all epochs but the first
        tile.max()
    batches, val = setup.batches("fit").with_views(args.views), setup.split("val")
    stage = Stage(trainable=("head",), views=args.views)
    apply_stage(model, stage)
    optimizer = build_optimizer(model, recipe.optim)
    whole = Network(model.forward_with_features, execution)

    def epoch(of: TrainBatches | CachedBatches, network: Network) -> float:
        apply_stage(model, stage)
        started = time.perf_counter()
        for batch in of.epoch(0):
            loss = Classification(recipe.loss)(network, batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        synchronise(execution.device)
        return time.perf_counter() - started

    def validation(predict: Callable[[], object]) -> float:
        started = time.perf_counter()
        predict()
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        folder = Path(scratch) / "features"
        cached = cached_features(stage, args.views + 1, batches, model, execution, folder, Console(), Interrupt())
        assert isinstance(cached, CachedFeatures), cached
        once = time.perf_counter() - started
        cached.predict(val, recipe.evaluate.batch, console)

        heads = []
        weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        for contender in ((batches, whole), (cached.batches, cached.network)):
            epoch(*contender)
            heads.append(torch.cat([parameter.detach().flatten().clone() for parameter in model.head.parameters()]))
            model.load_state_dict(weights)
            optimizer.load_state_dict(copy.deepcopy(state))
        difference = float((heads[0] - heads[1]).abs().max())
        print(f"the heads after an epoch differ by at most {difference:.3g}, of weights up to {float(heads[0].abs().max()):.3g}")

        times: dict[str, list[float]] = {name: [] for name in ("epoch", "cached_epoch", "val", "cached_val")}
        for _ in range(args.repeats):
            times["epoch"].append(epoch(batches, whole))
            times["cached_epoch"].append(statistics.median(epoch(cached.batches, cached.network) for _ in range(CACHED_PER_TURN)))
            times["val"].append(validation(lambda: val.logits_and_features(model, execution, recipe.evaluate.batch, console)))
            times["cached_val"].append(
                statistics.median(validation(lambda: cached.predict(val, recipe.evaluate.batch, console)) for _ in range(CACHED_PER_TURN))
            )
            print({name: round(seconds[-1], 4) for name, seconds in times.items()}, flush=True)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    ratios = [whole / part for whole, part in zip(times["epoch"], times["cached_epoch"], strict=True)]
    both = (median["epoch"] + median["val"]) / (median["cached_epoch"] + median["cached_val"])
    answer = {"images": len(batches.rows), "val": len(val.sound), "size": args.size, "once": once, **median}
    answer |= {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ratio_with_val": both,
        "difference": difference,
    }
    print(json.dumps({name: round(value, 4) if name != "difference" else value for name, value in answer.items()}))


if __name__ == "__main__":
    main()
