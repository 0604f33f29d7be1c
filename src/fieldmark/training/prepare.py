"""What a training needs before its folder is made, checked in the order in which checks are cheap: extras, data, model, images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.randomness import key
from fieldmark.core.recipe.ema import ExponentialAverage
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.datasets.loading import LoadedData, check_readable, load_data
from fieldmark.datasets.pixel_cache import default_cache_dir
from fieldmark.models.arithmetic import Arithmetic, choose_arithmetic
from fieldmark.models.cost import check_budget
from fieldmark.models.device import choose_device, device_name, keep_freed_memory, set_threads
from fieldmark.models.factory import Built, build_model, check_name
from fieldmark.training.optimizer import build_optimizer
from fieldmark.training.stages import check_stages


@dataclass(frozen=True)
class Prepared:
    device: torch.device
    loaded: LoadedData
    built: Built


def prepare(data: str | Path, recipe: Recipe, console: Console) -> Prepared:
    """Read the data and build the model.

    Raises InputError where they cannot be used, and CheckFailed where the model is over `model.max_parameters`.
    """
    check_extras(recipe)
    check_name(recipe.model.name)
    device = prepare_machine(recipe)
    loaded = load_data(data, recipe.data, console)
    classes = len(loaded.dataset.class_names)
    built = build_model(recipe.model, classes, recipe.data.size, weights_seed(recipe))
    if recipe.model.max_parameters is not None:
        check_budget(built.model, recipe.model.max_parameters, f"{recipe.model.name} with {classes:,} classes")
    check_stages(built.model, recipe)
    _check_steps(recipe, len(loaded.rows("train")))
    build_optimizer(built.model, recipe.optim)  # refuses what it cannot use
    check_readable(loaded, recipe.data.max_unreadable, console)
    return Prepared(device, loaded, built)


def fastest_arithmetic(prepared: Prepared, recipe: Recipe, console: Console) -> Arithmetic:
    """The precision and memory format that the recipe asks for, or the fastest, measured or remembered."""
    arithmetic, speeds = choose_arithmetic(
        prepared.built.model,
        recipe.data.size,
        recipe.train.micro_batch or recipe.train.batch,
        prepared.device,
        recipe.train.precision,
        recipe.train.memory_format,
        default_cache_dir(),
        str(recipe.model.model_copy(update={"weights": "none", "max_parameters": None})),
        console.say,
    )
    measured = f" (images/s: {', '.join(f'{name} {speed:.0f}' for name, speed in speeds.items())})" if speeds else ""
    console.say(f"training in {arithmetic.precision}, {arithmetic.layout}, on {device_name(prepared.device)}{measured}")
    return arithmetic


def prepare_machine(recipe: Recipe) -> torch.device:
    """Threads, memory and kernels that give the same result each time; gives the device."""
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
    """Raise InputError where an average of the weights would never be made."""
    steps = recipe.train.epochs * (images // min(recipe.train.batch, max(images, 1)))
    if isinstance(recipe.ema, ExponentialAverage) and recipe.ema.every > steps:
        raise InputError(
            f"ema.every: the weights would never be averaged: {recipe.ema.every:,} steps apart in a run of {steps:,}",
            hint="Lower ema.every, or raise train.epochs.",
        )


def weights_seed(recipe: Recipe) -> int:
    return key(recipe.train.seed, "weights")
