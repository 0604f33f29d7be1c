"""No option without an effect: changing any field of the recipe changes the run, or is refused."""

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image

import fieldmark
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.fields import choices, fields
from fieldmark.core.run_folder import read_json_lines
from fieldmark.data.birds.folder import write_birds
from fieldmark.evaluation import split as split_module
from fieldmark.training import tiles
from fieldmark.training import train as module
from fieldmark.training.checkpoint import Checkpoints

BASE = {
    "model.name": "test_efficientnet",
    "model.weights": "none",
    "data.size": "16",
    "data.max_unreadable": "0.2",
    "train.epochs": "3",
    "train.batch": "8",
    "train.log_every": "2",
    "train.precision": "float32",
    "train.memory_format": "contiguous",
    "train.threads": "1",
    "schedule.warmup_epochs": "0.5",
    "evaluate.resamples": "100",
}
OTHER = {
    "data.layout": "birds",
    "data.columns": "label=genus",
    "data.taxonomy": "none",
    "data.level": "genus",
    "data.classes": "2",
    "data.crop.margin": "0.2",
    "data.crop.jitter": "0.2",
    "data.splits": "own",
    "data.folds": "4",
    "data.fold": "1",
    "data.subset.share": "0.5",
    "data.subset.count": "4",
    "data.subset.ratio": "4",
    "data.subset.seed": "1",
    "data.label_noise.share": "0.5",
    "data.label_noise.level": "family",
    "data.label_noise.seed": "1",
    "data.corrupt": "fog:3",
    "data.normalise": "unit",
    "data.size": "24",
    "data.resize": "letterbox",
    "data.cache_scale": "2.0",
    "data.storage": "resident",
    "data.val_fraction": "0.3",
    "data.test_fraction": "0.3",
    "data.split_seed": "1",
    "data.max_unreadable": "0",
    "model.name": "test_resnet",
    "model.max_parameters": "10k",
    "model.dropout": "0.3",
    "model.drop_path": "0.3",
    "optim.lr": "0.03",
    "optim.momentum": "0.5",
    "optim.nesterov": "false",
    "optim.weight_decay": "0.3",
    "optim.decay_norm_and_bias": "true",
    "optim.head_lr_factor": "3",
    "optim.betas": "[0.8, 0.99]",
    "optim.eps": "0.1",
    "schedule.warmup_epochs": "1.5",
    "schedule.warmup_factor": "0.5",
    "schedule.floor_factor": "0.2",
    "loss.label_smoothing": "0.3",
    "augment.crop.area": "[0.5, 0.6]",
    "augment.crop.aspect": "[0.5, 2.0]",
    "augment.crop.padding": "0.3",
    "augment.flip": "0.0",
    "augment.rotate": "20",
    "augment.zoom": "[0.8, 1.2]",
    "augment.translate": "0.2",
    "augment.shear": "20",
    "augment.perspective": "0.3",
    "augment.brightness": "0.4",
    "augment.contrast": "0.4",
    "augment.saturation": "0.4",
    "augment.hue": "0.3",
    "train.epochs": "2",
    "train.batch": "16",
    "train.seed": "1",
    "train.patience": "1",
    "train.refit": "true",
    "train.clip_norm": "0.01",
    "train.checkpoint_minutes": "0.00001",
    "train.keep_checkpoints": "1",
    "train.log_every": "3",
    "train.precision": "bfloat16",
    "train.memory_format": "channels-last",
    "train.device": "cuda",
    "train.threads": "2",
    "train.tensorboard": "true",
    "evaluate.batch": "4",
    "evaluate.monitor": "nll",
    "evaluate.resamples": "150",
}


@pytest.fixture(scope="module")
def wide_birds(birds, tmp_path_factory) -> Path:
    """Pictures that are not square, in one flat level, one of them broken: every field has something to act on."""
    root = tmp_path_factory.mktemp("data") / "wide"
    for path in sorted(birds.rglob("*.png")):
        target = root / path.parent.name / f"{path.parts[-3]}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).crop((0, 4, 32, 28)).save(target)
    min(root.rglob("*.png")).write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def table_birds(tmp_path_factory) -> Path:
    """Pictures with boxes, genera and individuals."""
    root = tmp_path_factory.mktemp("data") / "table"
    write_birds(root, species=6, per_class=12, size=32, seed=1)
    return root


NEED_BOXES_OR_GENERA = ("data.taxonomy", "data.level", "data.crop", "data.label_noise", "data.columns", "data.splits")


@pytest.fixture(scope="module")
def trace(wide_birds, table_birds, tmp_path_factory):
    """What a run did, timings aside: its files, figures, weights, and how it went about it. `about` is the field that is looked at."""
    memory: dict[tuple, dict] = {}

    def observe(settings: dict[str, str], about: str = "") -> dict:
        data = table_birds if about.startswith(NEED_BOXES_OR_GENERA) else wide_birds
        data = data / "birds.csv" if about == "data.columns" else data
        key = (data, *sorted(settings.items()))
        if key in memory:
            return memory[key]
        seen: dict[str, object] = {"saves": 0}
        with pytest.MonkeyPatch.context() as patch:
            original_loop, original_save, original_infer = module.run_loop, Checkpoints.save, split_module.infer

            def loop(training):
                seen["threads"] = torch.get_num_threads()
                seen["arithmetic"] = training.arithmetic
                seen["mapped"] = training.batches.tiles.data_ptr() in mapped
                original_loop(training)

            def save(self, step, state):
                seen["saves"] += 1
                return original_save(self, step, state)

            def infer(model, pixels, normalisation, arithmetic, batch, *rest):
                seen["evaluation batch"] = batch
                return original_infer(model, pixels, normalisation, arithmetic, batch, *rest)

            mapped = set()
            original_open = tiles.open_pixels

            def opened(*arguments):
                cache = original_open(*arguments)
                mapped.add(cache.array.ctypes.data)
                return cache

            patch.setattr(module, "run_loop", loop)
            patch.setattr(split_module, "infer", infer)
            patch.setattr(tiles, "open_pixels", opened)
            patch.setattr(Checkpoints, "save", save)
            out = tmp_path_factory.mktemp("runs") / "run"
            run = fieldmark.train(data, *(f"{name}={value}" for name, value in settings.items()), out=out, quiet=True)
        rows = [*read_json_lines(run.folder.metrics_file), *read_json_lines(run.folder.steps_file)]
        state, _ = Checkpoints(run.folder.checkpoints, 9).newest()
        position = {name: value for name, value in state["position"].items() if "seconds" not in name}
        seen |= {
            "files": sorted(path.name for path in out.rglob("*") if path.is_file() and "tfevents" not in path.name),
            "tensorboard": (out / "tensorboard").exists(),
            "rows": [{name: value for name, value in row.items() if name not in ("seconds", "images_per_second")} for row in rows],
            "position": position,
            "weights": hashlib.sha256(run.folder.best_weights.read_bytes()).hexdigest(),
            "split": hashlib.sha256(run.folder.split_file.read_bytes()).hexdigest(),
            "test": run.summary["test"],
            "levels": run.folder.manifest()["levels"],
        }
        memory[key] = seen
        return seen

    return observe


def test_the_table_of_values_is_complete():
    handled = {field.key for field in fields() if field.key.removesuffix(".name") in choices()} | {"model.weights"}
    assert {field.key for field in fields()} == set(OTHER) | handled


CASES = [
    (field, {f"{field.key.rpartition('.')[0]}.name": field.variant} if field.variant else {}) for field in fields() if field.key in OTHER
]


@pytest.mark.parametrize(("field", "variant"), CASES, ids=[f"{field.key} {field.variant or ''}".strip() for field, _ in CASES])
def test_a_field_acts_or_is_refused(field, variant, trace):
    base = {**BASE, **variant}
    if field.key == "schedule.warmup_factor":
        base["schedule.warmup_epochs"] = "1"
    if field.key == "model.drop_path":
        base |= {"model.name": "test_convnext", "data.size": "32"}
    if field.key == "data.fold":
        base["data.folds"] = "4"
    before = trace(base, field.key)
    try:
        after = trace({**base, field.key: OTHER[field.key]}, field.key)
    except (InputError, CheckFailed) as refusal:
        assert field.key in str(refusal) or field.key == "data.layout"
    else:
        assert after != before


@pytest.mark.parametrize("section", sorted(choices()))
def test_a_variant_acts(section, trace):
    names = list(choices()[section].variants)
    traces = [trace({**BASE, f"{section}.name": name}, section) for name in names]
    assert all(a != b for index, a in enumerate(traces) for b in traces[:index])


def test_starting_weights_act(trace, finished_run):
    assert trace({**BASE, "model.weights": str(finished_run.folder.best_weights)}) != trace(BASE)
    with pytest.raises(InputError, match="hub cannot be reached"):
        trace({**BASE, "model.weights": "pretrained", "model.name": "resnet10t"})


def test_auto_is_resolved_in_the_runs_recipe(wide_birds, tmp_path):
    settings = {**BASE, "train.precision": "auto", "train.memory_format": "auto", "train.epochs": "1"}
    run = fieldmark.train(wide_birds, *(f"{name}={value}" for name, value in settings.items()), out=tmp_path / "run", quiet=True)
    assert run.recipe.train.precision in ("float32", "bfloat16") and run.recipe.train.memory_format in ("contiguous", "channels-last")
