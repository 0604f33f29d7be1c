"""The setup of a training, from its preparation to its end: data, network and execution.

Cheap checks come first: extras, data, model, images. Only caches are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldmark.batches.geometry import leaves_image
from fieldmark.batches.tiles import Tiles
from fieldmark.batches.train_batches import TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.manifest import StartingWeights
from fieldmark.core.randomness import key
from fieldmark.core.recipe.data import Data
from fieldmark.core.recipe.ema import ExponentialAverage
from fieldmark.core.recipe.load import with_settings
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.loading import FoundData, LoadedData, check_readable, load_data
from fieldmark.datasets.pixel_cache import default_cache_dir
from fieldmark.datasets.regions import margin_of
from fieldmark.datasets.split_file import restore_data
from fieldmark.evaluation.split import SplitPixels, open_split
from fieldmark.models.cost import check_budget, check_latency, macs, parameters
from fieldmark.models.device import choose_device, device_name, keep_freed_memory, set_threads
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Built, Classifier, build_model, check_name
from fieldmark.models.fastest import choose_execution
from fieldmark.models.weights import save_weights
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.training.optimizer import build_optimizer
from fieldmark.training.stages import check_stages

EMULATED = "this processor emulates bfloat16, which is far slower than float32"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Setup:
    """`recipe` is resolved: it contains the choices that were measured or taken from the machine, and the weights by their whole path."""

    recipe: Recipe
    tiles: Tiles
    model: Classifier
    execution: Execution
    preprocess: Preprocess
    console: Console
    notes: tuple[str, ...] = ()
    """Notes on how the model was built."""
    weights: StartingWeights | None = None
    """The file that a new training starts from."""
    licence: str | None = None
    _splits: dict[str, SplitPixels] = field(default_factory=dict, repr=False)

    @property
    def loaded(self) -> LoadedData:
        return self.tiles.loaded

    def batches(self, phase: str) -> TrainBatches:
        """Batches of train or, in the phase `refit`, of train and val together."""
        recipe, execution = self.recipe, self.execution
        return TrainBatches(
            self.tiles.placed(execution.device, recipe.data.storage),
            self.tiles.of("train") if phase == "fit" else np.arange(len(self.tiles.rows)),
            self.tiles.labels,
            self.tiles.frame(recipe.data),
            recipe.augment,
            size=recipe.data.size,
            batch=recipe.train.batch,
            seed=key(recipe.train.seed, phase),
            mean=self.preprocess.mean,
            std=self.preprocess.std,
            fill=leaves_image(recipe.augment, recipe.data.resize),
            device=execution.device,
            dtype=execution.dtype,
            memory_format=execution.memory_format,
        )

    def split(self, name: str) -> SplitPixels:
        """A split as evaluation sees it, opened once; images that cannot be decoded are reported and left out."""
        if name not in self._splits:
            rows, corrupt = self.loaded.rows(name), self.recipe.data.corrupt
            self._splits[name] = open_split(self.loaded, rows, self.preprocess, corrupt, self.console)
            self.console.say(*(self._splits[name].remarks if name == "test" else ()))  # the tiles have said those of train and val
        return self._splits[name]

    def save_weights(self, path: Path, **metadata: Any) -> None:
        """Write the model's current weights, with its class names and preprocessing."""
        carried = {"class_names": list(self.loaded.dataset.class_names), "preprocess": self.preprocess.to_dict()}
        save_weights(self.model, path, carried | {"architecture": self.recipe.model.name} | metadata)


def prepare(found: FoundData, recipe: Recipe, console: Console) -> Setup:
    """Read the data, build the model, decode the images and choose the execution.

    Raises InputError if they cannot be used, and CheckFailed if the model is over `model.max_parameters` or `model.max_latency_ms`.
    """
    loaded, built = read_and_build(found, recipe, console)
    tiles = Tiles.decode(loaded, recipe.data, console)
    total, work = parameters(built.model)[0], macs(built.model, recipe.data.size)
    console.say(f"{recipe.model.name}: {total / 1e6:.2f} M parameters, {work / 1e6:,.0f} M multiply-adds", *built.notes)
    return setup_of(tiles, built, recipe, console)


def read_and_build(found: FoundData, recipe: Recipe, console: Console) -> tuple[LoadedData, Built]:
    """The data and the model of a recipe. Raises as prepare does."""
    check_extras(recipe)
    check_name(recipe.model.name)
    prepare_machine(recipe)
    loaded = load_data(found, console)
    classes = len(loaded.dataset.class_names)
    with console.waiting(f"building {recipe.model.name}"):
        built = build_model(recipe.model, classes, recipe.data.size, weights_seed(recipe), loaded.dataset.class_names)
    name = f"{recipe.model.name} with {classes:,} classes"
    if recipe.model.max_parameters is not None:
        check_budget(built.model, recipe.model.max_parameters, name)
    if recipe.model.max_latency_ms is not None:
        check_latency(built.model, recipe.data.size, recipe.model.max_latency_ms, name)
    check_stages(built.model, recipe)
    _check_steps(recipe, len(loaded.rows("train")))
    build_optimizer(built.model, recipe.optim)  # refuses unusable settings
    check_readable(loaded, recipe.data.max_unreadable, console)
    return loaded, built


def setup_of(tiles: Tiles, built: Built, recipe: Recipe, console: Console) -> Setup:
    """The setup of these tiles and this model, executed in the fastest way that the recipe allows."""
    execution = _fastest_execution(built, recipe, len(tiles.of("train")), console)
    measured = {"train.precision": execution.precision, "train.memory_format": execution.layout}
    found = {} if built.weights is None else {"model.weights": str(Path(recipe.model.weights).expanduser().absolute())}
    machine = {"train.device": execution.device.type, "train.threads": torch.get_num_threads()}
    resolved = with_settings(recipe, {**found, **measured, **machine})
    preprocess = _preprocess(recipe.data, built, tiles)
    said = () if built.trained is None else tuple(_compared(preprocess, Preprocess.of(built.trained), recipe.data))
    console.say(*said)
    return Setup(resolved, tiles, built.model, execution, preprocess, console, (*built.notes, *said), built.weights, built.licence)


def restore(folder: RunFolder, console: Console) -> Setup:
    """The setup of an existing run; its model has fresh weights.

    Raises InputError if its data have moved or changed.
    """
    recipe, manifest = folder.recipe(), folder.manifest()
    check_extras(recipe)
    device = prepare_machine(recipe)
    names = manifest.class_names
    loaded = restore_data(folder, names, console)
    if loaded.fingerprint != manifest.fingerprint:
        raise InputError(f"{folder.split_file} was changed after the run began", hint="Train a new run.")
    tiles = Tiles.decode(loaded, recipe.data, console, colours=manifest.preprocess.colours)
    model = build_model(recipe.model.model_copy(update={"weights": "none"}), len(names), recipe.data.size, weights_seed(recipe)).model
    execution = Execution.of(device, recipe.train.precision, recipe.train.memory_format)
    if execution.is_emulated:
        console.say(f"{EMULATED}; a new run with train.precision=float32 avoids that")
    return Setup(recipe, tiles, model, execution, Preprocess.of(manifest.preprocess), console)


def _preprocess(data: Data, built: Built, tiles: Tiles) -> Preprocess:
    """The evaluation preprocessing."""
    if data.normalise == "weights":
        mean, std = built.mean, built.std
    elif data.normalise == "imagenet":
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    elif data.normalise == "unit":
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        mean, std = tiles.mean_and_std(tiles.of("train"))
    return Preprocess(data.size, data.resize, mean, std, margin_of(data.crop), "srgb")


def _compared(ours: Preprocess, theirs: Preprocess, data: Data) -> Iterator[str]:
    """Sentences on how images are prepared, compared with how they were for the weights that training starts from."""
    normalised = f"mean {_numbers(theirs.mean)}, std {_numbers(theirs.std)}"
    if data.normalise == "weights":
        yield f"images are normalised as for these weights: {normalised}"
    elif (ours.mean, ours.std) != (theirs.mean, theirs.std):
        yield f"data.normalise={data.normalise}, and these weights were trained with {normalised}; data.normalise=weights takes that over"
    if ours.resize != theirs.resize:
        yield f"data.resize={ours.resize}, and these weights were trained with {theirs.resize}"
    if (ours.margin is None) != (theirs.margin is None):
        crops = ("whole images", "images cropped to boxes")
        own, other = (crops[each.margin is not None] for each in (ours, theirs))
        yield f"this run sees {own}, and these weights were trained on {other} (data.crop)"
    if ours.colours != theirs.colours:
        yield "these weights were trained before colour profiles were converted to sRGB; that matters for images that have one"
    if ours.size != theirs.size:
        yield f"data.size={ours.size}, and these weights were trained on {theirs.size}; that is usually fine"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _fastest_execution(built: Built, recipe: Recipe, images: int, console: Console) -> Execution:
    """The precision and memory format that the recipe asks for, or the fastest for a training on `images`, measured or remembered."""
    device = choose_device(recipe.train.device)
    choice = choose_execution(
        built.model,
        recipe.data.size,
        recipe.train.micro_batch or recipe.train.batch,
        images * recipe.train.epochs,
        device,
        recipe.train.precision,
        recipe.train.memory_format,
        default_cache_dir(),
        str(recipe.model.structure()),
        console,
    )
    console.say(f"training on {device_name(device)} in {choice}")
    if choice.execution.is_emulated:
        console.say(f"{EMULATED}; train.precision=float32 avoids that")
    return choice.execution


def prepare_machine(recipe: Recipe) -> torch.device:
    """Set threads, memory and kernels so that results repeat; returns the device."""
    keep_freed_memory()
    set_threads(recipe.train.threads)
    torch.backends.cudnn.deterministic = True
    return choose_device(recipe.train.device)


def check_extras(recipe: Recipe) -> None:
    """Raise InputError now rather than after the first epoch if an optional library is missing."""
    if recipe.train.tensorboard:
        with needed_for("train.tensorboard=true"):
            import torch.utils.tensorboard  # noqa: F401


def _check_steps(recipe: Recipe, images: int) -> None:
    """Raise InputError if the weights would never be averaged."""
    steps = recipe.train.epochs * (images // min(recipe.train.batch, max(images, 1)))
    if isinstance(recipe.ema, ExponentialAverage) and recipe.ema.every > steps:
        raise InputError(
            f"ema.every: the weights would never be averaged: {recipe.ema.every:,} steps apart in a run of {steps:,}",
            hint="Lower ema.every, or raise train.epochs.",
        )


def weights_seed(recipe: Recipe) -> int:
    return key(recipe.train.seed, "weights")
