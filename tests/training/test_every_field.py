"""No option without an effect: changing any field of the recipe changes the run, or is refused."""

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from fieldmark.batches import tiles
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.recipe.fields import choices, fields
from fieldmark.core.run_folder import read_json_lines
from fieldmark.datasets.birds.folder import write_birds
from fieldmark.evaluation import inference
from fieldmark.training import train as module
from fieldmark.training.checkpoint import Checkpoints
from runs import train

BASE = {
    "model.name": "test_efficientnet",
    "model.weights": "none",
    "data.size": "16",
    "data.max_unreadable": "0.2",
    "train.epochs": "3",
    "train.batch": "8",
    "train.log_every": "2",
    "train.keep_checkpoints": "2",
    "train.precision": "float32",
    "train.memory_format": "contiguous",
    "train.threads": "1",
    "schedule.warmup_epochs": "0.5",
    "evaluate.resamples": "100",
}
OTHER = {
    "data.layout": "birds",
    "data.columns": "label=genus",
    "data.images": "images",
    "data.suffix": ".jpg",
    "data.missing_labels": "blank",
    "data.several_objects": "largest",
    "data.class_depth": "2",
    "data.taxonomy": "none",
    "data.level": "genus",
    "data.classes": "2",
    "data.unknown_classes": "1",
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
    "model.max_latency_ms": "1e-6",
    "model.width": "3",
    "model.depth": "1",
    "model.pooling": "average",
    "model.dropout": "0.3",
    "model.drop_path": "0.3",
    "model.head.width": "5",
    "model.head.activation": "leaky-relu",
    "model.head.dropout": "0.5",
    "optim.lr": "0.03",
    "optim.momentum": "0.5",
    "optim.nesterov": "false",
    "optim.weight_decay": "0.3",
    "optim.decay_norm_and_bias": "true",
    "optim.lr_factors": "[{parameters: head, factor: 3}]",
    "optim.betas": "[0.8, 0.99]",
    "optim.eps": "0.1",
    "optim.alpha": "0.5",
    "optim.algorithm": "lion",
    "schedule.warmup_epochs": "1.5",
    "schedule.warmup_factor": "0.5",
    "schedule.floor_factor": "0.2",
    "schedule.every": "1",
    "schedule.gamma": "0.5",
    "schedule.after": "[1]",
    "schedule.monitor": "top1",
    "schedule.patience": "0",
    "schedule.rise": "0.7",
    "schedule.start_factor": "0.5",
    "schedule.power": "2",
    "stages": "[{trainable: [head]}]",
    "loss.label_smoothing": "0.3",
    "loss.smoothing_over": "others",
    "ema.decay": "0.5",
    "ema.every": "2",
    "ema.warmup": "false",
    "ema.buffers": "copied",
    "ema.use": "better",
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
    "augment.lighting": "0.3",
    "augment.policy.operations": "1",
    "augment.policy.magnitude": "25",
    "augment.erase.probability": "0.9",
    "augment.erase.area": "[0.5, 0.6]",
    "augment.erase.aspect": "[0.9, 1.1]",
    "augment.mix.alpha": "5",
    "augment.mix.mixup_alpha": "5",
    "augment.mix.cutmix_alpha": "5",
    "augment.mix.probability": "0.3",
    "train.epochs": "2",
    "train.batch": "16",
    "train.micro_batch": "4",
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

IN_LISTS = {
    "stages[].epochs": ("[{epochs: 1, trainable: [head]}, {}]", "[{epochs: 2, trainable: [head]}, {}]"),
    "stages[].trainable": ("[{trainable: [head]}]", "[{trainable: [head, norm]}]"),
    "stages[].frozen_norm": ("[{trainable: [head]}]", "[{trainable: [head], frozen_norm: adapting}]"),
    "stages[].lr_factor": ("[{}]", "[{lr_factor: 0.1}]"),
    "stages[].restart": ("[{epochs: 1}, {}]", "[{epochs: 1}, {restart: false}]"),
    "stages[].views": ("[{}]", "[{views: 1}]"),
    "optim.lr_factors[].parameters": ("[{parameters: head, factor: 3}]", "[{parameters: norm, factor: 3}]"),
    "optim.lr_factors[].factor": ("[{parameters: head, factor: 3}]", "[{parameters: head, factor: 9}]"),
}
"""What holds a field in a list of sections, before and after."""
NEEDED = {
    "schedule.warmup_factor": {"schedule.warmup_epochs": "1"},
    "schedule.gamma": {"schedule.every": "1", "schedule.after": "[1]", "schedule.patience": "0"},
    "schedule.monitor": {"schedule.patience": "0"},
    "schedule.patience": {"schedule.monitor": "top1"},
    "schedule.floor_factor": {"schedule.monitor": "top1", "schedule.patience": "0"},
    "model.drop_path": {"model.name": "test_convnext", "data.size": "32"},
    "model.width": {"model.name": "plain_cnn"},
    "model.depth": {"model.name": "plain_cnn"},
    "model.pooling": {"model.name": "test_vit", "data.size": "32"},
    "data.fold": {"data.folds": "4"},
}
"""Other settings without which a field has nothing to act on; those that a variant lacks are left out."""


@pytest.fixture(scope="module")
def wide_birds(birds, tmp_path_factory) -> Path:
    """Images that are not square, in one flat level, one of them broken: every field has something to act on."""
    root = tmp_path_factory.mktemp("data") / "wide"
    for path in sorted(birds.rglob("*.png")):
        target = root / path.parent.name / f"{path.parts[-3]}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).crop((0, 4, 32, 28)).save(target)
    min(root.rglob("*.png")).write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def table_birds(tmp_path_factory) -> Path:
    """Images with boxes, genera and individuals."""
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
            original_phase = module.phase
            original_loop, original_save, original_infer = module.run_loop, Checkpoints.save, inference.logits_and_features

            def loop(job, at):
                seen["threads"] = torch.get_num_threads()
                seen["mapped"] = job.stages.batches.tiles.data_ptr() in mapped
                original_loop(job, at)

            def phase(setup, *rest):
                seen["execution"] = setup.execution
                return original_phase(setup, *rest)

            def save(self, step, state):
                seen["saves"] += 1
                return original_save(self, step, state)

            def watched(model, pixels, normalisation, execution, batch, *rest):
                seen["evaluation batch"] = batch
                return original_infer(model, pixels, normalisation, execution, batch, *rest)

            mapped = set()
            original_open = tiles.open_pixels

            def opened(*arguments):
                cache = original_open(*arguments)
                mapped.add(cache.array.ctypes.data)
                return cache

            patch.setattr(module, "run_loop", loop)
            patch.setattr(module, "phase", phase)
            patch.setattr(inference, "logits_and_features", watched)
            patch.setattr(tiles, "open_pixels", opened)
            patch.setattr(Checkpoints, "save", save)
            out = tmp_path_factory.mktemp("runs") / "run"
            run = train(data, *(f"{name}={value}" for name, value in settings.items()), out=out)
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
            "test": run.summary.test,
            "levels": run.folder.manifest().levels,
        }
        memory[key] = seen
        return seen

    return observe


def test_the_table_of_values_is_complete():
    handled = {field.key for field in fields() if field.key.removesuffix(".name") in choices()} | {"model.weights"}
    assert {field.key for field in fields()} == set(OTHER) | set(IN_LISTS) | handled


def variant_of(field) -> dict[str, str]:
    """What chooses the variant that has a field."""
    return {f"{field.key.partition('[]')[0].rpartition('.')[0]}.name": field.variant} if field.variant else {}


def cases():
    """Every field; those that several variants share are fast tests for the first of these, and slow ones for the others."""
    seen = set()
    for field in fields():
        if field.key in OTHER or field.key in IN_LISTS:
            marks = [pytest.mark.slow] if field.key in seen else []
            seen.add(field.key)
            yield pytest.param(field, variant_of(field), marks=marks, id=f"{field.key} {field.variant or ''}".strip())


LATE = {"step": {"schedule.every": "2"}, "multi-step": {"schedule.after": "[2]"}}
"""Settings with which a schedule does something in the last of three epochs."""
OWN_KEYS = {(field.key, field.variant) for field in fields()}


@pytest.mark.parametrize(("field", "variant"), list(cases()))
def test_a_field_acts_or_is_refused(field, variant, trace):
    base = {**BASE, **variant}
    if field.key.startswith("schedule.") and (name := variant.get("schedule.name")):
        base = {
            key: value
            for key, value in base.items()
            if not key.startswith("schedule.") or key == "schedule.name" or (key, name) in OWN_KEYS
        } | LATE.get(name, {})
    for key, value in NEEDED.get(field.key, {}).items():
        if not key.startswith("schedule.") or (key, variant.get("schedule.name")) in OWN_KEYS:
            base[key] = value
    key, other = field.key, OTHER.get(field.key)
    if field.key in IN_LISTS:
        key = field.key.partition("[]")[0]
        base[key], other = IN_LISTS[field.key]
    before = trace(base, field.key)
    try:
        after = trace({**base, key: other}, field.key)
    except (InputError, CheckFailed) as refusal:
        assert key in str(refusal) or key == "data.layout"
    else:
        assert after != before


SOON = {
    "step": {"schedule.every": "1"},
    "multi-step": {"schedule.after": "[1]"},
    "plateau": {"schedule.patience": "0", "schedule.gamma": "0.5", "schedule.monitor": "top1"},
}
"""Settings with which a schedule does something within three epochs."""


@pytest.mark.parametrize("section", sorted(choices()))
def test_a_variant_acts(section, trace):
    names = list(choices()[section].variants)
    base = {key: value for key, value in BASE.items() if section != "schedule" or not key.startswith("schedule.")}
    traces = [trace({**base, f"{section}.name": name, **SOON.get(name, {})}, section) for name in names]
    assert all(a != b for index, a in enumerate(traces) for b in traces[:index])


def test_starting_weights_act(trace, finished_run):
    assert trace({**BASE, "model.weights": str(finished_run.folder.best_weights)}) != trace(BASE)
    with pytest.raises(InputError, match="hub cannot be reached"):
        trace({**BASE, "model.weights": "pretrained", "model.name": "resnet10t"})


def test_auto_is_resolved_in_the_runs_recipe(wide_birds, tmp_path):
    settings = {**BASE, "train.precision": "auto", "train.memory_format": "auto", "train.epochs": "1"}
    run = train(wide_birds, *(f"{name}={value}" for name, value in settings.items()), out=tmp_path / "run")
    assert run.recipe.train.precision in ("float32", "bfloat16") and run.recipe.train.memory_format in ("contiguous", "channels-last")
